"""The migrated database is what the changelog says, and nothing else changed; seen before the commit if it can be."""

from __future__ import annotations

from contextlib import closing

from migrator.runs import liquibase_session, since, verification
from migrator.runs.record import StepName, Way
from migrator.runs.run import Run
from migrator.runs.signals import signals
from migrator.runs.steps import back_up


class VerifyStep:
    name = StepName.VERIFY
    title = "verify"
    undo_title: str | None = None

    def run(self, run: Run) -> str | None:
        """Ledger, schema, write set, fingerprints, checks and invariants are as they should be.

        Raises: VerificationFailed naming the first of what is not, and how many there are.
        """
        run.facts.verified = False
        back_up.require_alive(run)
        if run.record.way is Way.ATOMIC:
            note = verification.verify(run, liquibase_session.start(run))
        else:
            with closing(run.session("verify", read_only=True)) as session:
                session.execute("begin isolation level repeatable read read only")
                note = verification.verify(run, session)
                if run.record.way is Way.BLUEGREEN:
                    since.remember(run, session)
            if run.record.way is Way.STEPWISE:
                signals.deaf = True
                run.facts.committed = True  # Liquibase did that itself; there is no step between proof and lift
        run.facts.verified = True
        return note

    def undo(self, run: Run) -> str | None:
        """Nothing: to verify writes nothing. That it was verified stays known: its commit may turn out to have come."""
        return None
