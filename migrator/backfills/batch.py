"""One batch: its rows and its range's cursor change in one transaction, or not at all.

The rows are locked first, in the order of their keys, and moved by a second statement, whose snapshot is younger: it
sees what every writer that held one of them has committed, and nobody writes them until the commit. So a copy is never
made of a version that is gone already, and of two writers none is lost.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import Enum
from functools import partial

from psycopg import sql

from migrator.backfills import keys, ledger_tables, lock, ranges
from migrator.backfills.keys import Bounds, Key, Table
from migrator.backfills.ledger import State
from migrator.backfills.ledger_tables import Tables
from migrator.backfills.proof import Claim, Proof
from migrator.backfills.ranges import Phase
from migrator.backfills.selection import Selection
from migrator.errors import ConnectionFailed, MigrationFailed, Place, StepFailed, TransactionLost
from migrator.failpoints import Effect, doing, effect
from migrator.postgres import write_set
from migrator.postgres.session import Session
from migrator.postgres.transactions import sqlstate, statement

SETTING = "migrator.backfill"  # a backfill's own triggers stay silent where it has the backfill's name
_LEDGER_LOCK_S = 10.0


@dataclass(frozen=True, kw_only=True)
class Deed:
    """What is done for every batch of a backfill, in one direction."""

    name: str
    phase: Phase
    table: Table
    tables: Tables  # of the ledger
    where: str | None
    statement: str | None  # None: `call` is there
    call: Callable[[Session, str], None] | None = None  # with the session and a query for the batch's keys
    keeps_rows: bool = False  # a batch that takes rows of the table away is refused
    must_write: bool = False  # a first batch that writes nothing is refused
    selection: Selection | None = None  # a batch whose rows `where` selects no longer is refused
    place: Place

    @property
    def state(self) -> State:
        return State.RUNNING if self.phase == "move" else State.UNDOING


@dataclass(frozen=True, kw_only=True)
class Done:
    """What a batch did."""

    rows: int  # moved
    walked: int  # those that `where` leaves out counted
    full: bool  # it was as large as it was meant to be: there may be more
    written: frozenset[str]  # tables, qualified
    writes: int | None  # rows inserted, updated and deleted there; None: the server counts none


def proof_of(deed: Deed) -> Proof:
    """For the batches of one session."""
    return Proof(
        name=deed.name,
        phase=deed.phase,
        table=deed.table,
        tables=deed.tables,
        place=deed.place,
        keeps_rows=deed.keeps_rows,
        must_write=deed.must_write,
    )


class Nothing(Enum):
    """There is no batch to do now."""

    NOTHING = "nothing"
    NOT_YET = "not yet"  # somebody waits for those under way to end


NOTHING, NOT_YET = Nothing.NOTHING, Nothing.NOT_YET


def one(
    session: Session, deed: Deed, size: int, proof: Proof, *, lock_timeout_s: float, limit_s: float
) -> Done | Nothing:
    """The next batch is committed. NOTHING: no range is left that nobody works on, or the state is another one;
    NOT_YET: somebody is about to change the state.

    `size`: keys; `limit_s`: for each statement. After an error nothing of it has happened, unless the session was
    lost in its commit; then the cursor tells. Raises: StepFailed.
    """
    session.execute("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE")
    try:
        _set(session, lock_timeout_s=_LEDGER_LOCK_S, limit_s=limit_s)
        if not lock.may_begin(session, deed.name):
            session.execute("ROLLBACK")
            return NOT_YET
        claim = _claim(session, deed) if _is_on(session, deed) else None
        if claim is None:
            session.execute("ROLLBACK")
            return NOTHING
        _set(session, lock_timeout_s=lock_timeout_s, limit_s=limit_s)
        done = _do(session, deed, claim, size, proof)
        if not done.written <= claim.written:
            _note_written(session, deed, claim, done.written)
        with doing(Effect.BACKFILL_COMMIT):
            session.execute("COMMIT")
    except BaseException:
        with suppress(StepFailed):  # a lost session has rolled back already
            session.execute("ROLLBACK")
        raise
    return done


def inside(session: Session, deed: Deed, size: int, proof: Proof) -> Done | None:
    """The next batch was done in the transaction that is open. None: no range is left. Raises: StepFailed."""
    claim = _claim(session, deed)
    if claim is None:
        return None
    session.execute("SAVEPOINT backfill_batch")  # the proof knows its rows by its transaction id
    done = _do(session, deed, claim, size, proof)
    session.execute("RELEASE SAVEPOINT backfill_batch")
    return done


@effect(Effect.BACKFILL_BATCH)
def _do(session: Session, deed: Deed, claim: Claim, size: int, proof: Proof) -> Done:
    end, walked = _end(session, deed.table, claim.bounds, size)
    batch = replace(claim, bounds=Bounds(low=claim.bounds.low, high=end))
    rows = 0 if end is None else _lock(session, deed, batch.bounds)
    through = partial(_advance, session, deed, batch, rows=rows, walked=walked, done=walked < size)
    # Before the rows: what it writes tells by which transaction the rows are written. Where a function is called, which
    # may end that transaction in spite of all, the cursor waits until it has not.
    if deed.call is None:
        through()
    else:
        _advance(session, deed, batch, rows=0, walked=0, done=False)
    written: frozenset[str] = frozenset()
    writes: int | None = 0
    if rows:
        before, noted = proof.before(session), proof.writes.before(session)
        _apply(session, deed, batch.bounds)
        proof.after(session, before, batch, is_whole=rows == walked)
        if deed.selection is not None:
            deed.selection.after(session)
        written = frozenset(name for name in write_set.read(session) if not ledger_tables.is_one(name))
        writes = proof.note_written(session, noted, rows, written)
    if deed.call is not None:
        through()
    return Done(rows=rows, walked=walked, full=walked >= size, written=written, writes=writes)


def _is_on(session: Session, deed: Deed) -> bool:
    """Whether batches are wanted now; whoever changes that waits for this transaction to end."""
    rows = session.rows(
        statement(
            "SELECT state FROM {backfills} WHERE name = {name} FOR SHARE",
            **deed.tables.named,
            name=sql.Literal(deed.name),
        )
    )
    return rows == [(deed.state.value,)]


def _claim(session: Session, deed: Deed) -> Claim | None:
    rows = session.rows(
        statement(
            "SELECT number::text, high::text, coalesce(cursor, low)::text, written::text FROM {ranges}"
            " WHERE name = {name} AND phase = {phase} AND NOT done"
            " ORDER BY {ranges}.number LIMIT 1 FOR UPDATE SKIP LOCKED",
            **deed.tables.named,
            name=sql.Literal(deed.name),
            phase=sql.Literal(deed.phase),
        )
    )
    if not rows:
        return None
    number, high, low, written = rows[0]
    return Claim(
        number=int(number or 0),
        bounds=Bounds(low=ranges.key_of(low), high=ranges.key_of(high)),
        written=frozenset(json.loads(written or "[]")),
    )


def _end(session: Session, table: Table, bounds: Bounds, size: int) -> tuple[Key | None, int]:
    """The last of the next `size` keys, and how many there are. By the index alone, whatever the planner believes."""
    session.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off")
    rows = session.rows(
        statement(
            "SELECT {names}, (count(*) OVER ())::text FROM (SELECT {names} FROM {table} WHERE {within}"
            " ORDER BY {names} LIMIT {size}) AS next ORDER BY {descending} LIMIT 1",
            names=table.names,
            table=table.identifier,
            within=table.within(bounds),
            size=sql.Literal(size),
            descending=table.descending,
        )
    )
    if not rows:
        return None, 0
    *key, count = rows[0]
    return keys.of_row(key), int(count or 0)


def _lock(session: Session, deed: Deed, bounds: Bounds) -> int:
    """The rows of the batch are locked and their keys collected; how many there are.

    FOR NO KEY UPDATE: rows that refer to them by a foreign key can still be written by others.
    """
    rows = session.rows(
        statement(
            "SELECT count(*)::text, {collected} FROM (SELECT {names} FROM {table} WHERE {within}{where}"
            " ORDER BY {names} FOR NO KEY UPDATE) AS locked",
            collected=deed.table.collected(),
            names=deed.table.names,
            table=deed.table.identifier,
            within=deed.table.within(bounds),
            where=keys.and_where(deed.where),
        )
    )
    return int(rows[0][0] or 0)


def _apply(session: Session, deed: Deed, bounds: Bounds) -> None:
    session.execute(
        statement(
            "SET LOCAL enable_seqscan = DEFAULT; SET LOCAL enable_bitmapscan = DEFAULT; SET LOCAL {} = {}",
            sql.SQL(SETTING),
            sql.Literal(deed.name),
        )
    )
    try:
        if deed.call is not None:
            deed.call(session, deed.table.batch().as_string(None))
        else:
            session.execute(keys.with_batch(deed.table.batch(), deed.statement or ""))
    except StepFailed as error:
        if isinstance(error, ConnectionFailed | TransactionLost) or sqlstate(error) in RETRIED:
            raise
        raise MigrationFailed(
            f"Backfill {deed.name} failed at rows with {spoken(deed.table, bounds)}: {error.message}",
            hint=error.hint or "Nothing of this batch is in the database; those before it are.",
            place=Place(file=deed.place.file, sqlstate=sqlstate(error)),
        ) from error
    session.execute(statement("SET LOCAL {} = ''", sql.SQL(SETTING)))


def _advance(session: Session, deed: Deed, batch: Claim, *, rows: int, walked: int, done: bool) -> None:
    session.execute(
        statement(
            "UPDATE {ranges} SET cursor = coalesce({cursor}, cursor), rows_done = rows_done + {rows},"
            " rows_walked = rows_walked + {walked}, batches = batches + {batches}, done = {done}"
            " WHERE name = {name} AND phase = {phase} AND number = {number}",
            **deed.tables.named,
            cursor=ranges.json_of(batch.bounds.high if walked else None),
            rows=sql.Literal(rows),
            walked=sql.Literal(walked),
            batches=sql.Literal(1 if walked else 0),
            done=sql.Literal(done),
            name=sql.Literal(deed.name),
            phase=sql.Literal(deed.phase),
            number=sql.Literal(batch.number),
        )
    )


@effect(Effect.BACKFILL_LEDGER)
def _note_written(session: Session, deed: Deed, claim: Claim, written: frozenset[str]) -> None:
    """The range knows these tables, so that they outlive the process: no lock tells after the commit."""
    session.execute(
        statement(
            "UPDATE {ranges} SET written = {written} WHERE name = {name} AND phase = {phase} AND number = {number}",
            **deed.tables.named,
            written=sql.Literal(json.dumps(sorted(claim.written | written))),
            name=sql.Literal(deed.name),
            phase=sql.Literal(deed.phase),
            number=sql.Literal(claim.number),
        )
    )


# Somebody else held what was wanted, or wanted what was held: nothing is wrong with the statement.
RETRIED = {"55P03", "40P01", "40001", "57014"}


def spoken(table: Table, bounds: Bounds) -> str:
    """Where in the table something was, in words."""
    names = ", ".join(column.name for column in table.key)
    low, high = (", ".join(key) if key is not None else None for key in (bounds.low, bounds.high))
    if low is None:
        return f"{names} up to {high}"
    return f"{names} above {low}" + (f" up to {high}" if high is not None else "")


def _set(session: Session, *, lock_timeout_s: float, limit_s: float) -> None:
    # an acknowledged commit that a crash of the server takes back was reported all the same
    session.execute(
        statement(
            "SET LOCAL synchronous_commit = on; SET LOCAL lock_timeout = {}; SET LOCAL statement_timeout = {}",
            sql.Literal(max(1, round(lock_timeout_s * 1000))),
            sql.Literal(max(1, round(limit_s * 1000))),
        )
    )
