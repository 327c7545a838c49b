"""Which of several errors of one update is the one to report, and whether the one transaction is to blame."""

from __future__ import annotations

from migrator.liquibase.worker.events import ChangesetListener, key
from migrator.liquibase.worker.failures import Failure
from migrator.liquibase.worker.held import NOT_IN_ONE_TRANSACTION, HeldConnection
from migrator.liquibase.worker.watched import WatchedConnection


def of(reported: Failure, front: HeldConnection | WatchedConnection, listener: ChangesetListener) -> Failure:
    """The first thing that went wrong; `reported` is what Liquibase says. A held transaction is rolled back here."""
    failure = listener.refused or reported
    at = key(listener.current) if listener.current else None
    if isinstance(front, HeldConnection):
        failure = _of_held(front, failure, reported)
    failure.changeset = failure.changeset or at
    return failure


def _of_held(front: HeldConnection, failure: Failure, reported: Failure) -> Failure:
    lost = front.lost
    if lost is not None:
        if lost.kind != "lost" and reported.sqlstate != lost.sqlstate:
            # Liquibase would have carried on from this error after a ROLLBACK of its own
            lost.kind, lost.code = "lost", "error_swallowed"
        failure = lost
    if failure.kind == "migration" and failure.sqlstate in NOT_IN_ONE_TRANSACTION:
        failure.kind = "lost"
        failure.message += f" (not possible in one transaction: {NOT_IN_ONE_TRANSACTION[failure.sqlstate]})"
    if front.status_of_transaction_after_failure() == "committed":
        failure.kind, failure.committed = "lost", True
    return failure
