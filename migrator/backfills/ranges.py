"""The ranges of a backfill: of about as many rows each, wherever the keys lie, each with a cursor in the ledger."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from psycopg import sql

from migrator.backfills import keys
from migrator.backfills.keys import Bounds, Key, Table
from migrator.backfills.ledger_tables import Tables
from migrator.failpoints import Effect, effect
from migrator.postgres.session import Session
from migrator.postgres.transactions import statement

Phase = Literal["move", "undo"]
_SMALL_BYTES = 8_000_000  # one worker is through with it before a second has begun
_A_WORKER = 4  # ranges: whoever is done early finds another one
_SAMPLE_BYTES = 4_000_000


@dataclass(frozen=True, kw_only=True)
class Range(Bounds):
    """A part of the keys that one worker at a time goes through."""

    number: int
    cursor: Key | None  # the last key that is done
    done: bool


def split(session: Session, table: Table, jobs: int) -> list[Bounds]:
    """Ranges that do not overlap and hold every key there is and every one that may come, in the order of the keys.

    Their limits are keys of a sample of the table's pages, so gaps and skew do not matter. Raises: StepFailed.
    """
    parts = jobs * _A_WORKER
    if jobs == 1 or table.size_bytes < _SMALL_BYTES:
        return [Bounds()]
    limits: list[Key | None] = [None, *_quantiles(session, table, parts), None]
    return [Bounds(low=low, high=high) for low, high in pairwise(limits)]


@effect(Effect.BACKFILL_LEDGER)
def note(session: Session, tables: Tables, name: str, ranges: Sequence[Bounds], phase: Phase = "move") -> None:
    """The backfill is to go through these ranges, none of which is begun. Inside a transaction only."""
    if not ranges:
        return
    values = [
        statement(
            "({}, {}, {}, {}, {})",
            sql.Literal(name),
            sql.Literal(phase),
            sql.Literal(number),
            json_of(bounds.low),
            json_of(bounds.high),
        )
        for number, bounds in enumerate(ranges, 1)
    ]
    session.execute(
        statement(
            "INSERT INTO {ranges} (name, phase, number, low, high) VALUES {values}",
            **tables.named,
            values=sql.SQL(", ").join(sql.SQL(value) for value in values),
        )
    )


def read(session: Session, tables: Tables, name: str, phase: Phase = "move") -> list[Range]:
    """The ranges of a backfill, in the order of their keys. Raises: StepFailed."""
    rows = session.rows(
        statement(
            "SELECT number::text, low::text, high::text, cursor::text, done::text FROM {ranges}"
            " WHERE name = {name} AND phase = {phase} ORDER BY {ranges}.number",
            **tables.named,
            name=sql.Literal(name),
            phase=sql.Literal(phase),
        )
    )
    return [
        Range(number=int(number or 0), low=key_of(low), high=key_of(high), cursor=key_of(cursor), done=done == "true")
        for number, low, high, cursor, done in rows
    ]


def key_of(text: str | None) -> Key | None:
    """A key from its JSON."""
    return None if text is None else tuple(str(part) for part in json.loads(text))


def json_of(key: Key | None) -> sql.Composable:
    """The same for a statement."""
    return sql.NULL if key is None else sql.Literal(json.dumps(key))


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
    return [keys.of_row(row) for row in rows]
