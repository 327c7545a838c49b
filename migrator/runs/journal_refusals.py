"""What a journal answers to whoever may not begin a run, or go on with one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from migrator.errors import Locked, MigratorError, Refused, StepFailed, Unfinished
from migrator.runs.journal_entries import OpenRun, open_run

if TYPE_CHECKING:
    from migrator.runs.journal_tables import RunRow, Transaction

SEE_FENCE = "The fence in the database knows the run too: `migrator recover --env ENV` ends it."


def failed(where: str, run_id: str, doing: str, reason: str, remedy: str) -> StepFailed:
    """The error for a journal that could not do it, in the middle of a run."""
    return StepFailed(f"Run {run_id}: the journal ({where}) could not {doing}: {reason}.", hint=remedy, code="journal")


def in_the_way(transaction: Transaction, row: RunRow) -> MigratorError:
    """Why `row` could not be added."""
    now = transaction.now()
    for other in transaction.open_runs(row.target):
        found = open_run(other, transaction.steps(other.run_id), now)
        return locked(found) if found.alive else unfinished(found)
    return Refused(
        f"The journal knows run {row.run_id} already, and it has ended.", hint="Start the run again.", code="journal"
    )


def locked(run: OpenRun) -> Locked:
    """The error for a run that another process is at work on."""
    return Locked(
        f"Run {run.run_id} of environment {run.environment} ({run.changelog} on {run.database}) is being worked on by "
        f"{run.held_by} since {run.begun_at:%Y-%m-%d %H:%M:%S} UTC{_at_step(run)}.",
        hint=f"Wait for it; `migrator status --env {run.environment}` says how far it is.",
    )


def unfinished(run: OpenRun) -> Unfinished:
    """The error for a run that its process left behind."""
    return Unfinished(
        f"Run {run.run_id} of environment {run.environment} ({run.changelog} on {run.database}) has not ended: "
        f"{run.held_by} left it behind{_at_step(run)}.",
        hint=f"`migrator resume {run.run_id}` carries on or goes back; `migrator show {run.run_id}` tells its story.",
    )


def _at_step(run: OpenRun) -> str:
    return f", in step {run.step}" if run.step else ""
