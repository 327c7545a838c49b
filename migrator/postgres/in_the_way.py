"""Who has locks on certain tables just now: those for whom a change of them would have to wait, or who would wait."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from psycopg import sql

from migrator.postgres.session import Session
from migrator.postgres.transactions import statement

_SHOWN = 50


@dataclass(frozen=True, kw_only=True)
class LockHolder:
    """A session, or a prepared transaction, with locks on a table concerned."""

    pid: int | None  # None: a prepared transaction
    user: str
    application: str
    state: str  # empty where this login may not see it
    age_s: float | None  # of its transaction; None where this login may not see it
    query: str  # the first 200 characters
    locks: tuple[str, ...]  # `schema.table: mode`, waited for or held


def of_tables(session: Session, names: Collection[str], *, own: str) -> list[LockHolder]:
    """Who has locks on the tables and views of these names in whatever schema, or on their partitions and children.

    The longest transaction first, at most 50. `own`: how the application names of our own sessions begin; in `session`
    the database is the one that is asked about. Raises: StepFailed.
    """
    if not names:
        return []
    found = session.rows(statement(_HOLDERS, sql.Literal(sorted(names)), sql.Literal(own)))
    return [
        LockHolder(
            pid=None if pid is None else int(pid),
            user=user or "",
            application=application or "",
            state=state or "",
            age_s=None if age_s is None else max(0.0, float(age_s)),
            query=query or "",
            locks=tuple((locks or "").split("\n")),
        )
        for pid, user, application, state, age_s, query, locks in found[:_SHOWN]
    ]


_HOLDERS = """
WITH RECURSIVE concerned(oid) AS (
  SELECT c.oid FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
  WHERE c.relkind IN ('r', 'p', 'm', 'f', 'v') AND c.relname = ANY ({}::text[])
    AND n.nspname !~ '^(pg_|information_schema$)'
  UNION
  SELECT i.inhrelid FROM concerned AS p JOIN pg_inherits AS i ON i.inhparent = p.oid
)
SELECT l.pid, coalesce(a.usename, x.owner), coalesce(a.application_name, 'prepared transaction ' || x.gid),
       CASE WHEN l.pid IS NULL THEN 'prepared' ELSE a.state END,
       extract(epoch FROM clock_timestamp() - coalesce(a.xact_start, x.prepared)), left(a.query, 200),
       string_agg(DISTINCT quote_ident(n.nspname) || '.' || quote_ident(c.relname) || ': ' || l.mode
                  || CASE WHEN l.granted THEN '' ELSE ' (waits)' END, E'\\n')
FROM pg_locks AS l
JOIN concerned AS k ON k.oid = l.relation
JOIN pg_class AS c ON c.oid = l.relation
JOIN pg_namespace AS n ON n.oid = c.relnamespace
LEFT JOIN pg_stat_activity AS a ON a.pid = l.pid
LEFT JOIN pg_prepared_xacts AS x ON l.pid IS NULL AND l.virtualtransaction = '-1/' || x.transaction::text
WHERE l.locktype = 'relation' AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND l.pid IS DISTINCT FROM pg_backend_pid()
  AND NOT coalesce(starts_with(a.application_name, {}) AND a.usename = session_user, false)
GROUP BY 1, 2, 3, 4, 5, 6
ORDER BY 5 DESC NULLS LAST, 1
"""
