"""Proves that a backfill is right: its own question, asked in the server, about every row."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from psycopg import sql

from migrator.backfills import ledger
from migrator.backfills.definition import Backfill
from migrator.backfills.ledger import State
from migrator.errors import StepFailed
from migrator.postgres.session import Session
from migrator.postgres.statement import READING, single
from migrator.postgres.transactions import statement

_SHOWN = 10


@dataclass(frozen=True, kw_only=True)
class Verdict:
    violations: int
    sample: tuple[str, ...]  # the first ten rows that the question returned
    seconds: float


def verify(session: Session, backfill: Backfill, schema: str | None) -> Verdict:
    """What `verify` finds now; the ledger says `verified` where it finds nothing and every range is done.

    One that was verified and is found wrong is `moved` again. For a session without an open transaction.
    Raises: StepFailed.
    """
    with reading(session):
        verdict = ask(session, backfill)
    note(session, backfill, schema, verdict)
    return verdict


def note(session: Session, backfill: Backfill, schema: str | None, verdict: Verdict) -> None:
    """The ledger says what a verdict means. Safe to repeat. Raises: StepFailed."""
    entry = ledger.read(session, schema).get(backfill.name)
    if entry is None or not entry.is_complete:
        return
    if verdict.violations == 0:
        ledger.change(session, schema, backfill.name, State.VERIFIED, only_from=[State.MOVED, State.VERIFIED])
    elif entry.state is State.VERIFIED:
        ledger.change(session, schema, backfill.name, State.MOVED, only_from=[State.VERIFIED])


def ask(session: Session, backfill: Backfill) -> Verdict:
    """What `verify` finds now; nothing is written. In whatever transaction is open. Raises: StepFailed."""
    start = time.monotonic()
    text = statement(
        "WITH violation AS MATERIALIZED (\n{}\n), first AS (SELECT * FROM violation LIMIT {})"
        " SELECT (SELECT count(*)::text FROM violation), first::text FROM first"
        " RIGHT JOIN (SELECT 1) AS one ON true",
        sql.SQL(single(backfill.verify, first_words=READING)),
        sql.Literal(_SHOWN),
    )
    rows = session.rows(text)
    return Verdict(
        violations=int(rows[0][0] or 0),
        sample=tuple(str(row) for _, row in rows if row is not None),
        seconds=time.monotonic() - start,
    )


def finds_any(session: Session, backfill: Backfill) -> bool:
    """Whether `verify` finds anything now, as soon as it finds one. In whatever transaction is open.

    Raises: StepFailed.
    """
    text = statement(
        "SELECT EXISTS (SELECT FROM (\n{}\n) AS violation)::text",
        sql.SQL(single(backfill.verify, first_words=READING)),
    )
    return session.rows(text) == [("true",)]


@contextmanager
def reading(session: Session) -> Iterator[None]:
    """The block is in a transaction that sees one moment, and writes nothing."""
    session.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    try:
        yield
    finally:
        with suppress(StepFailed):  # a lost session has rolled back already
            session.execute("ROLLBACK")
