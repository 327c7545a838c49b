"""The verified copy takes the database's name. What became of the names is asked of the server, not assumed."""

from __future__ import annotations

from migrator.errors import MigratorError, NotProven
from migrator.postgres import databases, fence
from migrator.runs import bluegreen, ladder
from migrator.runs.record import StepName
from migrator.runs.run import Run
from migrator.runs.signals import signals
from migrator.runs.steps import back_up


class SwapStep:
    name = StepName.SWAP
    title = "swap the names"
    undo_title: str | None = None

    def run(self, run: Run) -> str | None:
        """The copy's OID bears the database's name, with everything that belongs to a database and is not in it.

        Raises: StepFailed, and the original bears its name; NotProven when the server does not say which one does.
        """
        dumped = back_up.finish(run)
        if run.watch is not None:
            run.watch.check()
        run.save()
        if run.facts.fence_up:
            fence.note(run.the_admin(), run.database, phase="verified")
        with signals.shielded():
            failure: MigratorError | None = None
            try:
                bluegreen.swap(run)
            except MigratorError as error:  # the answer may be lost and the swap not: the OIDs tell
                failure = error
                ladder.end_sessions(run, but={"lock", "watch"})  # a lost orchestrator's session may be at it still
            if not bluegreen.is_swapped(run):
                raise failure or NotProven(f"After the swap {run.database} is not the verified copy.")
            signals.deaf = True  # users wait to be let in, and nothing is taken back by itself any more
            run.save()
        return f"{f'{dumped}; ' if dumped else ''}the original is kept as {databases.name_of(run.id, 'old')}"

    def undo(self, run: Run) -> str | None:
        """Nothing: which database bears the name is asked by the ladder."""
        return None
