"""How many rows batches have written, wherever: PostgreSQL's own count, without a scan."""

from __future__ import annotations

from dataclasses import dataclass, field

from psycopg import sql

from migrator.postgres import write_set
from migrator.postgres.session import Session
from migrator.postgres.transactions import statement


@dataclass(kw_only=True)
class Writes:
    """For the batches of one session. Counted are the tables that it has written until now, so few of many."""

    total: int = field(default=0, init=False)
    _tables: set[str] | None = field(default=None, init=False)

    def before(self, session: Session) -> int:
        """What was counted until now. Give it to `after`. Raises: StepFailed."""
        if self._tables is None:
            self._tables = set(write_set.counts(session))
        return _counted(session, self._tables) or 0

    def after(self, session: Session, before: int, written: frozenset[str]) -> int | None:
        """How many rows of these tables were inserted, updated or deleted since; None: the server counts none."""
        self._tables = (self._tables or set()) | written
        now = _counted(session, self._tables)
        if now is None:
            return None
        self.total += now - before
        return now - before


def _counted(session: Session, tables: set[str]) -> int | None:
    [(rows, tracked)] = session.rows(statement(_COUNTED, sql.Literal(sorted(tables))))
    return int(rows or 0) if tracked == "on" else None


_COUNTED = """
SELECT coalesce(sum(pg_stat_get_xact_tuples_inserted(t) + pg_stat_get_xact_tuples_updated(t)
                    + pg_stat_get_xact_tuples_deleted(t)), 0)::text, current_setting('track_counts')
FROM unnest({}::text[]) AS name, LATERAL CAST(to_regclass(name) AS oid) AS t"""
