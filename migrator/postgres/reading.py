"""A stretch of a session in which the server prints every value the same way, and after which no lock is left."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from migrator.errors import StepFailed
from migrator.postgres.session import Session

_SETTINGS = """\
SET LOCAL search_path = pg_catalog, pg_temp;
SET LOCAL row_security = off;
SET LOCAL quote_all_identifiers = off;
SET LOCAL DateStyle = 'ISO, YMD';
SET LOCAL TimeZone = 'UTC';
SET LOCAL IntervalStyle = 'postgres';
SET LOCAL extra_float_digits = 1;
SET LOCAL bytea_output = 'hex';
SET LOCAL lc_monetary = 'C';
SET LOCAL jit = off"""

# Transaction-local, so that it is gone at the next statement where there is no transaction: the one way to
# ask that neither fails nor writes an error into the server's log.
_PROBE = "SELECT pg_catalog.set_config('migrator.probe', 'on', true)"
_PROBED = "SELECT pg_catalog.current_setting('migrator.probe', true)"


def in_transaction(session: Session) -> bool:
    """Whether the session is inside a transaction block."""
    session.rows(_PROBE)
    return session.rows(_PROBED)[0][0] == "on"


@contextmanager
def reading(session: Session) -> Iterator[None]:
    """Names are printed with their schema, values in one notation; hidden rows are an error instead of a gap.

    Inside a transaction it is a savepoint that is rolled back to at the end, so that settings and locks are as
    before; elsewhere a REPEATABLE READ READ ONLY transaction of its own. For reading only: what is written inside
    is lost.
    """
    inside = in_transaction(session)
    if inside:
        begin = "SAVEPOINT migrator_reading"
        end = "ROLLBACK TO SAVEPOINT migrator_reading; RELEASE SAVEPOINT migrator_reading"
    else:
        begin, end = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", "ROLLBACK"
    session.execute(begin)
    try:
        session.execute(_SETTINGS)
        yield
    except BaseException:
        with suppress(StepFailed):  # the first error says more than the end of its connection
            session.execute(end)
        raise
    session.execute(end)


@contextmanager
def unlocking(session: Session) -> Iterator[None]:
    """What was locked inside is given up at the end; inside `reading` only. Keeps thousands of tables under the limit
    of the lock table (max_locks_per_transaction)."""
    session.execute("SAVEPOINT migrator_unlocking")
    try:
        yield
    except BaseException:
        with suppress(StepFailed):
            session.execute("ROLLBACK TO SAVEPOINT migrator_unlocking")
        raise
    session.execute("ROLLBACK TO SAVEPOINT migrator_unlocking; RELEASE SAVEPOINT migrator_unlocking")
