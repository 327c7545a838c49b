"""The verified transaction becomes the database. What became of it is asked of the server, not assumed."""

from __future__ import annotations

from migrator.errors import MaintenanceFailed, MigratorError, NotProven
from migrator.postgres import fence
from migrator.runs import ladder, liquibase_session
from migrator.runs.record import StepName
from migrator.runs.run import Run
from migrator.runs.signals import signals


class CommitStep:
    name = StepName.COMMIT
    title = "commit"
    undo_title: str | None = None

    def run(self, run: Run) -> str | None:
        """pg_xact_status says committed.

        Raises: TransactionLost, NotProven when the server does not say what became of the transaction.
        """
        _note_verified(run)
        with signals.shielded():
            failure: MigratorError | None = None
            try:
                liquibase_session.start(run).commit()
            except MigratorError as error:  # the answer may be lost and the commit not: the server knows
                failure = error
                ladder.end_sessions(run)
            if not ladder.is_committed(run):
                raise failure or NotProven(f"Transaction {run.facts.xid} was not committed.")
            signals.deaf = True  # users wait to be let in, and nothing can be taken back
            run.save()
        return None

    def undo(self, run: Run) -> str | None:
        """Nothing: whether the transaction was committed is asked by the ladder."""
        return None


def _note_verified(run: Run) -> None:
    """The fence says that the transaction may be committed: what a recovery without a journal goes by."""
    run.save()
    if not run.facts.fence_up:
        return
    try:
        fence.note(run.the_admin(), run.database, phase="verified")
    except MaintenanceFailed as error:  # a changeset's own COMMENT ON DATABASE locks it until the commit
        run.warn(f"The fence could not be told that everything is verified; the journal knows: {error.message}")
