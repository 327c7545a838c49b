"""The server copies the database behind the fence: what follows is done to the copy, and the original stands by."""

from __future__ import annotations

import time

from migrator.errors import StepFailed
from migrator.runs import bluegreen
from migrator.runs.record import StepName
from migrator.runs.run import Run


class CopyStep:
    name = StepName.COPY
    title = "copy the database"
    undo_title: str | None = "drop the copy"

    def run(self, run: Run) -> str | None:
        """A copy stands beside the original, and Liquibase, checks and proofs go to it from now on.

        Raises: StepFailed, and the original is as it was.
        """
        if not run.offline:
            raise StepFailed(
                "A database is only copied while nobody can write into it, and the fence of this run did not hold."
            )
        if bluegreen.is_there(run) and not _was_worked_on(run):
            return f"{run.facts.copy_name}, made by the attempt before"
        started = time.monotonic()
        bluegreen.make(run)
        return f"{run.facts.copy_name} in {time.monotonic() - started:.1f} s"

    def undo(self, run: Run) -> str | None:
        """No copy is left, and the database is the original."""
        bluegreen.drop(run)
        bluegreen.prove_untouched(run)
        return None


def _was_worked_on(run: Run) -> bool:
    steps = run.record.steps
    copied = max(
        (n for n, entry in enumerate(steps) if entry.name is StepName.COPY and entry.status == "done"), default=0
    )
    return any(entry.name is StepName.APPLY for entry in steps[copied:])
