"""Who is at work on a backfill: one session at a time, by an advisory lock that ends with it.

And whose turn it is: batches of several workers overlap without an end, so whoever wants none to be under way stands in
a queue of its own, which no batch passes.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

from psycopg import sql

from migrator.errors import Locked
from migrator.failpoints import Effect, effect
from migrator.postgres.session import Session
from migrator.postgres.transactions import statement

_LOCK_CLASS = 0x6D696766  # "migf"
_TURN_CLASS = 0x6D696774  # "migt"


@dataclass(frozen=True, kw_only=True)
class AtWork:
    pid: int  # of the server's backend
    application_name: str


@effect(Effect.BACKFILL_LOCK)
def take(session: Session, name: str) -> None:
    """This session is the one that is at work on the backfill, until it ends. Raises: Locked, naming who is."""
    classid, objid = _lock_key(name)
    got = session.rows(statement("SELECT pg_try_advisory_lock({}, {})", sql.Literal(classid), sql.Literal(objid)))
    if got != [("t",)]:
        other = at_work(session, name)
        raise Locked(
            f"Backfill {name} is at work in this database by another session"
            + (f" ({other.application_name}, pid {other.pid})." if other else "."),
            hint=f"Wait for it, or stop it with `migrator backfill pause {name}`.",
            code="backfill_at_work",
        )


def at_work(session: Session, name: str) -> AtWork | None:
    """Who is moving or undoing this backfill now; None: nobody. Raises: StepFailed."""
    classid, objid = _lock_key(name)
    rows = session.rows(
        statement(
            "SELECT l.pid::text, a.application_name FROM pg_locks l LEFT JOIN pg_stat_activity a USING (pid)"
            " WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2 AND l.pid <> pg_backend_pid()"
            " AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())"
            " AND l.classid::bigint = {}::bigint & 4294967295 AND l.objid::bigint = {}::bigint & 4294967295",
            sql.Literal(classid),
            sql.Literal(objid),
        )
    )
    return AtWork(pid=int(rows[0][0] or 0), application_name=rows[0][1] or "unknown") if rows else None


def may_begin(session: Session, name: str) -> bool:
    """Whether a batch may begin in the transaction that is open; nobody's `wait_for_batches` ends before it does.

    False: somebody waits for those that are under way. Raises: StepFailed.
    """
    classid, objid = _TURN_CLASS, _lock_key(name)[1]
    # a lock that is tried for is not to be had where somebody waits for a stronger one
    tried = statement("SELECT pg_try_advisory_xact_lock_shared({}, {})", sql.Literal(classid), sql.Literal(objid))
    return session.rows(tried) == [("t",)]


@effect(Effect.BACKFILL_LOCK)
def wait_for_batches(session: Session, name: str) -> None:
    """No batch is under way, and none begins before the transaction that is open has ended. Raises: StepFailed."""
    classid, objid = _TURN_CLASS, _lock_key(name)[1]
    session.rows(statement("SELECT pg_advisory_xact_lock({}, {})", sql.Literal(classid), sql.Literal(objid)))


def _lock_key(name: str) -> tuple[int, int]:
    """Of this database: so are advisory locks."""
    return _LOCK_CLASS, zlib.crc32(name.encode()) - 2**31
