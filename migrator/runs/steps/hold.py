"""Liquibase's one transaction is open, and its snapshot is exported before anything is written in it."""

from __future__ import annotations

from migrator.postgres import fence, sequences
from migrator.runs import ladder, liquibase_session
from migrator.runs.facts import sequence_facts
from migrator.runs.record import StepName, Way
from migrator.runs.run import Run


class HoldStep:
    name = StepName.HOLD
    title = "open the transaction"
    undo_title: str | None = None

    def run(self, run: Run) -> str | None:
        """The journal and the fence know the transaction's id, by which any machine can ask what became of it."""
        liquibase = liquibase_session.connect(run, mode="held")
        held = liquibase.begin()
        run.facts.xid, run.facts.snapshot, run.facts.verified = held.xid, held.snapshot, False
        if run.facts.sequences is None:
            run.facts.sequences = sequence_facts(sequences.read(liquibase))
        run.save()
        if run.facts.fence_up:
            fence.note(run.the_admin(), run.database, xid=held.xid, phase="holding", way=Way.ATOMIC.value)
        return f"transaction {held.xid}"

    def undo(self, run: Run) -> str | None:
        """The transaction's session is gone. Whether it left anything is asked by the ladder."""
        ladder.end_sessions(run)
        if run.facts.proven_back is None:
            ladder.prove_rolled_back(run)
        return None
