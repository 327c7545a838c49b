"""A session lent to checks: they can read, for so long and no longer, and leave nothing behind."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from migrator.errors import MigrationFailed, StepFailed, TransactionLost
from migrator.postgres.session import Session

_SAVEPOINT = "migrator_checks"
# The scanner in `statement` relies on standard strings.
_FENCE = """
SET LOCAL standard_conforming_strings = on;
SET LOCAL statement_timeout = {timeout_ms};
SET LOCAL lock_timeout = 0;
SET LOCAL transaction_read_only = on
"""
# Every transaction has another one, also one that has not written yet.
_TRANSACTION = "SELECT virtualtransaction FROM pg_catalog.pg_locks WHERE pid = pg_catalog.pg_backend_pid() LIMIT 1"
_SQLSTATE = re.compile(r"\(SQLSTATE ([0-9A-Z]{5})\)")
_NO_SUCH_SAVEPOINT = "3B001"
_NO_TRANSACTION = "25P01"


@contextmanager
def read_only(session: Session, *, timeout_s: float) -> Iterator[None]:
    """Inside, statements only read and end after `timeout_s`; afterwards the session is as it was.

    In the middle of a transaction everything happens behind a savepoint, with deferred constraints checked first, and
    the transaction goes on afterwards. Otherwise it has a transaction of its own, in which all see one snapshot.
    Safe to repeat, not to nest.

    Raises: TransactionLost when the transaction was ended inside; StepFailed when the session refuses the fence
    (a deferred constraint is violated, the connection is gone).
    """
    transaction = _transaction(session)
    held = transaction == _transaction(session)
    if held:
        session.execute(f"SAVEPOINT {_SAVEPOINT}")
    else:
        session.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
    try:
        if held:
            # Before the fence: a deferred trigger may write.
            session.execute("SET CONSTRAINTS ALL IMMEDIATE")
        session.execute(_FENCE.format(timeout_ms=max(1, round(timeout_s * 1000))))
        if not held and _transaction(session) != _transaction(session):
            raise StepFailed("the session commits by itself and cannot be kept from writing", code="no_transaction")
        yield
    except BaseException:
        with suppress(StepFailed):  # what went wrong first is what a person must read
            _leave(session, transaction if held else None)
        raise
    _leave(session, transaction if held else None)


def sqlstate(error: StepFailed) -> str | None:
    """PostgreSQL's code for the error, wherever it carries it."""
    own = getattr(error, "sqlstate", None)
    if isinstance(own, str):
        return own
    if isinstance(error, MigrationFailed) and error.place.sqlstate:
        return error.place.sqlstate
    found = _SQLSTATE.search(error.message)
    return found.group(1) if found else None


def _leave(session: Session, transaction: str | None) -> None:
    if transaction is None:
        session.execute("ROLLBACK")
        return
    try:
        session.execute(f"ROLLBACK TO SAVEPOINT {_SAVEPOINT}; RELEASE SAVEPOINT {_SAVEPOINT}")
    except StepFailed as error:
        if sqlstate(error) in (_NO_SUCH_SAVEPOINT, _NO_TRANSACTION):
            raise _lost() from error
        raise
    if _transaction(session) != transaction:
        raise _lost()


def _lost() -> TransactionLost:
    return TransactionLost("a check ended the transaction that held the migration", committed=True)


def _transaction(session: Session) -> str | None:
    rows = session.rows(_TRANSACTION)
    return rows[0][0] if rows else None
