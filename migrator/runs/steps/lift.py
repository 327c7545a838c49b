"""Users are let in again, only after proof; what was rewritten has fresh statistics first."""

from __future__ import annotations

from contextlib import closing

from migrator.errors import StepFailed, VerificationFailed
from migrator.failpoints import Effect, effect
from migrator.postgres import catalog
from migrator.postgres.transactions import statement
from migrator.runs import inspection
from migrator.runs.record import StepName
from migrator.runs.run import Run
from migrator.runs.signals import signals
from migrator.runs.steps.maintain import let_in


class LiftStep:
    name = StepName.LIFT
    title = "let users in"
    undo_title: str | None = None

    def run(self, run: Run) -> str | None:
        """The fence is down, the outside providers are off. There is no automatic way back from here.

        Raises: MaintenanceFailed naming what is still on.
        """
        run.end_workers()
        problems = inspection.after_commit(run)
        if problems:
            raise VerificationFailed(
                f"The migration is committed, and {problems[0]}",
                hint="Nothing is taken back by itself any more: correct the data, then resume.",
            )
        try:
            _analyze(run)
        except StepFailed as error:  # users are not kept waiting for it
            run.warn(f"ANALYZE: {error.message}")
        with signals.shielded():
            note = let_in(run)
        if run.watch is not None:  # a server that took over meanwhile may lack all of it
            run.watch.check_ownership()
        return note

    def undo(self, run: Run) -> str | None:
        """Nothing: users may be writing again."""
        return None


@effect(Effect.ANALYZE)
def _analyze(run: Run) -> None:
    """Tables whose rows were changed on purpose have fresh statistics; one that cannot be analysed is a warning.

    Users wait meanwhile, so what was only locked or altered is left to autovacuum.
    """
    rewritten = [name for name in run.record.write_set if name in set(run.facts.written)]
    if not rewritten:
        return
    with closing(run.session("analyze")) as session:
        relations = {relation.qualified: relation for relation in catalog.tables(session)}
        for name in rewritten:
            try:
                if name in relations:
                    session.execute(statement("ANALYZE {}", relations[name].identifier))
            except StepFailed as error:
                run.warn(f"ANALYZE {name}: {error.message}")
