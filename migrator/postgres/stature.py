"""How large the tables are, as the planner believes: no table is opened for it."""

from __future__ import annotations

from dataclasses import dataclass

from migrator.postgres.catalog import QUALIFIED, USER_SCHEMA
from migrator.postgres.session import Session


@dataclass(frozen=True, kw_only=True)
class Stature:
    rows: int | None  # None: it was never analyzed
    size_bytes: int  # TOAST included


_STATURES = f"""
SELECT {QUALIFIED}, c.reltuples::bigint,
       (c.relpages + coalesce(t.relpages, 0))::bigint * current_setting('block_size')::bigint
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_class t ON t.oid = c.reltoastrelid
WHERE c.relkind IN ('r', 'm', 'p', 'f', 'v') AND c.relpersistence <> 't' AND {USER_SCHEMA}"""  # noqa: S608


def of_tables(session: Session) -> dict[str, Stature]:
    """Every table and view by qualified name. Safe to repeat. Raises: StepFailed."""
    return {
        str(name): Stature(rows=None if int(rows or 0) < 0 else int(rows or 0), size_bytes=int(size or 0))
        for name, rows, size in session.rows(_STATURES)
    }
