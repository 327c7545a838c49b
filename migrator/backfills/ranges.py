"""Divides a table's keys into ranges of about as many rows each, wherever the keys lie."""

from __future__ import annotations

from itertools import pairwise

from psycopg import sql

from migrator.backfills.keys import Bounds, Key, Table
from migrator.postgres.session import Session
from migrator.postgres.transactions import statement

_SMALL_BYTES = 8_000_000  # one worker is through with it before a second has begun
_A_WORKER = 4  # ranges: whoever is done early finds another one
_SAMPLE_BYTES = 4_000_000


def split(session: Session, table: Table, jobs: int) -> list[Bounds]:
    """Ranges that do not overlap and hold every key there is and every one that may come, in the order of the keys.

    Their limits are keys of a sample of the table's pages, so gaps and skew do not matter. Raises: StepFailed.
    """
    parts = jobs * _A_WORKER
    if jobs == 1 or table.size_bytes < _SMALL_BYTES:
        return [Bounds()]
    limits: list[Key | None] = [None, *_quantiles(session, table, parts), None]
    return [Bounds(low=low, high=high) for low, high in pairwise(limits)]


def _quantiles(session: Session, table: Table, parts: int) -> list[Key]:
    """At most `parts - 1` keys that are different and ascend."""
    percent = min(100.0, 100.0 * _SAMPLE_BYTES / table.size_bytes)
    rows = session.rows(
        statement(
            "SELECT {names} FROM (SELECT {names}, row_number() OVER (ORDER BY {names}) AS number,"
            " count(*) OVER () AS total FROM {table} TABLESAMPLE SYSTEM ({percent})) AS sample"
            " WHERE number * {parts} / total > (number - 1) * {parts} / total AND number < total ORDER BY {names}",
            names=table.names,
            table=table.identifier,
            percent=sql.Literal(percent),
            parts=sql.Literal(parts),
        )
    )
    return [tuple(str(value) for value in row) for row in rows]
