"""Who waits for whom: the sessions that a run holds up, those that hold it up, and the locks that it has."""

from __future__ import annotations

from dataclasses import dataclass

from psycopg import sql

from migrator.postgres.session import Session
from migrator.postgres.transactions import statement


@dataclass(frozen=True, kw_only=True)
class Waiter:
    """A session that waits for a lock."""

    pid: int
    user: str
    application: str
    waiting_s: float
    mode: str  # of the lock that it wants
    relation_oid: int | None  # in the waiter's database; None for a lock on something else
    blocked_by: tuple[int, ...]  # pids, those ahead of it in the queue included
    query: str  # its first 200 characters

    def __str__(self) -> str:
        return f"pid {self.pid}, user {self.user}, application {self.application!r}, for {self.waiting_s:.1f} s"


@dataclass(frozen=True, kw_only=True)
class HeldLock:
    pid: int
    mode: str
    database: str  # empty for an object that all databases share
    relation_oid: int


def waiters(admin: Session, application_prefix: str) -> list[Waiter]:
    """Sessions of others that wait for the sessions whose application name begins so, longest first.

    Also those that wait for one that waits: a queue behind one blocked statement is blocked by the same cause.
    """
    ours = _pids(admin, application_prefix)
    waiting = _all_waiters(admin)
    held_up = set(ours)
    while more := {w.pid for w in waiting if w.pid not in held_up and held_up & set(w.blocked_by)}:
        held_up |= more
    return [w for w in waiting if w.pid in held_up - ours]


def held_locks(admin: Session, application_prefix: str) -> list[HeldLock]:
    """The locks on relations that those sessions have, weak ones included."""
    return [
        HeldLock(pid=int(pid or 0), mode=mode or "", database=database or "", relation_oid=int(relation or 0))
        for pid, mode, database, relation in admin.rows(statement(_HELD, sql.Literal(application_prefix)))
    ]


def _pids(admin: Session, application_prefix: str) -> set[int]:
    found = admin.rows(
        statement(
            "SELECT pid FROM pg_stat_activity WHERE starts_with(application_name, {})", sql.Literal(application_prefix)
        )
    )
    return {int(pid or 0) for (pid,) in found}


def _all_waiters(admin: Session) -> list[Waiter]:
    return [
        Waiter(
            pid=int(pid or 0),
            user=user or "",
            application=application or "",
            waiting_s=float(waiting_s or 0),
            mode=mode or "",
            relation_oid=None if relation is None else int(relation),
            blocked_by=tuple(int(blocker) for blocker in (blocked_by or "").split(",") if blocker),
            query=query or "",
        )
        for pid, user, application, waiting_s, mode, relation, blocked_by, query in admin.rows(_WAITERS)
    ]


# waitstart is empty for an instant after the wait began
_WAITERS = """
SELECT l.pid, a.usename, a.application_name, coalesce(extract(epoch FROM clock_timestamp() - l.waitstart), 0) AS s,
       l.mode, l.relation, array_to_string(pg_blocking_pids(l.pid), ','), left(a.query, 200)
FROM pg_locks AS l JOIN pg_stat_activity AS a ON a.pid = l.pid
WHERE NOT l.granted
ORDER BY s DESC, l.pid
"""
_HELD = """
SELECT l.pid, l.mode, d.datname, l.relation
FROM pg_locks AS l
JOIN pg_stat_activity AS a ON a.pid = l.pid
LEFT JOIN pg_database AS d ON d.oid = l.database
WHERE l.granted AND l.locktype = 'relation' AND starts_with(a.application_name, {})
ORDER BY l.pid, d.datname, l.relation, l.mode
"""
