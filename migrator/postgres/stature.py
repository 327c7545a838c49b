"""How large the tables are, as the planner or the statistics believe."""

from __future__ import annotations

from dataclasses import dataclass

from migrator.postgres.catalog import QUALIFIED, USER_SCHEMA
from migrator.postgres.session import Session


@dataclass(frozen=True, kw_only=True)
class Stature:
    rows: int  # an estimate
    size_bytes: int  # TOAST included


_STATURES = f"""
SELECT {QUALIFIED}, CASE WHEN c.reltuples < 0 THEN pg_stat_get_live_tuples(c.oid) ELSE c.reltuples::bigint END,
       CASE WHEN c.reltuples < 0 AND c.relkind IN ('r', 'm') THEN pg_table_size(c.oid)
            ELSE (c.relpages + coalesce(t.relpages, 0))::bigint * current_setting('block_size')::bigint END
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_class t ON t.oid = c.reltoastrelid
WHERE c.relkind IN ('r', 'm', 'p', 'f', 'v') AND c.relpersistence <> 't' AND {USER_SCHEMA}"""  # noqa: S608


def of_tables(session: Session) -> dict[str, Stature]:
    """Every table and view by qualified name. Safe to repeat. Raises: StepFailed."""
    return {
        str(name): Stature(rows=int(rows or 0), size_bytes=int(size or 0))
        for name, rows, size in session.rows(_STATURES)
    }
