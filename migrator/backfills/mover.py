"""Moves the rows of a backfill: workers with a session each, on ranges that do not overlap, batch by batch."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace

from migrator.backfills import batch, callables, inspection, ledger, ledger_tables, lock, ranges, verifying
from migrator.backfills.batch import Deed
from migrator.backfills.definition import Backfill
from migrator.backfills.keys import Table
from migrator.backfills.ledger import Entry, State
from migrator.backfills.ledger_tables import Tables
from migrator.backfills.pace import Pace, Tally
from migrator.backfills.ranges import Phase
from migrator.backfills.selection import Selection
from migrator.backfills.throttle import Throttle
from migrator.backfills.workers import Workers
from migrator.config.login import Login
from migrator.errors import StepFailed
from migrator.postgres.connect import PgSession
from migrator.postgres.session import Session
from migrator.postgres.statement import single
from migrator.postgres.transactions import transaction

ROLE = "backfill"
TELLS_NOTHING = (
    "verify found nothing before the first batch either: it cannot tell moved rows from unmoved ones, or they were all "
    "right already"
)
_TELL_S = 0.2


@dataclass(frozen=True, kw_only=True)
class Work:
    """Where a backfill is done, and by whom."""

    login: Login
    schema: str | None  # of the ledger; None: the first of the search path
    run_id: str
    connect: Callable[[str], PgSession]  # role -> a session of that name: backfill, backfill-1 ...


@dataclass(frozen=True, kw_only=True)
class Progress:
    name: str
    rows: int  # walked through until now, by earlier calls too, those that `where` leaves out counted
    total: int | None  # rows of the table, as far as the server knows
    rate: float  # rows a second, of late
    eta_s: float | None
    lag_bytes: int | None
    waiting_for: str | None


@dataclass(frozen=True, kw_only=True)
class Moved:
    name: str
    rows: int  # of this call
    batches: int
    duration_s: float
    waited_s: float
    max_lag_bytes: int | None
    written: frozenset[str]  # tables that batches wrote, qualified
    writes: int | None  # rows that they inserted, updated and deleted there; None: the server counts none
    tells_nothing: bool = False  # verify found nothing before the first batch either


def move(
    backfill: Backfill, work: Work, *, on_progress: Callable[[Progress], None], check: Callable[[], None]
) -> Moved:
    """Every range is done: the state is `moved`. Carries on where an earlier call was ended. Safe to repeat.

    `check` is called between batches and while waiting, in this thread; what it raises ends the work when the batches
    under way are done. Raises: Refused before anything is written; Locked; MigrationFailed for a statement that fails
    or moves other rows than its batch's; StepFailed.
    """
    with closing(work.connect(ROLE)) as session:
        ledger.refuse_changed(backfill, ledger.read(session, work.schema).get(backfill.name))
        lock.take(session, backfill.name)
        looked = inspection.look(session, backfill)
        inspection.refuse(looked.problems)
        table = required(looked.table, backfill)
        with transaction(session):
            entry = ledger.begin(
                session, work.schema, backfill, table=table.qualified, run_id=work.run_id, total=looked.rows
            )
            if not entry.ranges:
                tables = ledger_tables.required(session, work.schema)
                ranges.note(session, tables, backfill.name, ranges.split(session, table, backfill.jobs))
        tally = Tally(walked_before=entry.rows_walked, total=entry.total)
        deed = deed_of(backfill, table, ledger_tables.required(session, work.schema), phase="move")
        with verifying.reading(session):
            deed = replace(deed, must_write=_tells_nothing(session, backfill, entry))
        moved = carry_out(session, backfill, deed, work, tally, on_progress=on_progress, check=check)
        if not entry.is_complete:
            ledger.change(session, work.schema, backfill.name, State.MOVED, only_from=[State.RUNNING])
    return moved


def move_inside(backfill: Backfill, session: Session, schema: str | None, *, run_id: str) -> Moved:
    """Every row is moved in the transaction that is open on this session, which also holds the ledger's row.

    Raises: Refused; MigrationFailed; StepFailed.
    """
    start = time.monotonic()
    looked = inspection.look_inside(session, backfill)
    inspection.refuse(looked.problems)
    table = required(looked.table, backfill)
    entry = ledger.begin(session, schema, backfill, table=table.qualified, run_id=run_id, total=looked.rows)
    tables = ledger_tables.required(session, schema)
    if not entry.ranges:
        ranges.note(session, tables, backfill.name, ranges.split(session, table, 1))
    tally = Tally(walked_before=entry.rows_walked, total=entry.total)
    deed = deed_of(backfill, table, tables, phase="move")
    deed = replace(deed, must_write=_tells_nothing(session, backfill, entry))
    pace, proof = Pace(target_s=backfill.target_batch_s, size=backfill.batch_rows), batch.proof_of(deed)
    while True:
        begun = time.monotonic()
        done = batch.inside(session, deed, pace.size, proof)
        if done is None:
            break
        tally.add(rows=done.rows, walked=done.walked, written=done.written, writes=done.writes)
        pace.took(time.monotonic() - begun, full=done.full)
    if not entry.is_complete:
        ledger.change(session, schema, backfill.name, State.MOVED, only_from=[State.RUNNING])
    return _moved(deed, tally, duration_s=time.monotonic() - start)


def carry_out(
    session: Session,
    backfill: Backfill,
    deed: Deed,
    work: Work,
    tally: Tally,
    *,
    on_progress: Callable[[Progress], None],
    check: Callable[[], None],
) -> Moved:
    """No range is left. Raises: what `check` raises; MigrationFailed; StepFailed."""
    start = time.monotonic()
    throttle = Throttle(lambda: work.connect(f"{ROLE}-throttle"), backfill, run_id=work.run_id, schema=work.schema)

    def tell() -> None:
        on_progress(
            Progress(
                name=backfill.name,
                rows=tally.walked_before + tally.walked,
                total=tally.total,
                rate=tally.rate,
                eta_s=tally.eta_s,
                lag_bytes=throttle.lag_bytes,
                waiting_for=workers.waiting_for or throttle.waiting_for,
            )
        )

    workers = Workers(backfill=backfill, deed=deed, tally=tally, wait=throttle.wait)
    with throttle:
        while _is_left(session, deed, work.schema):
            with workers.started(lambda number: work.connect(f"{ROLE}-{number}")):
                while not workers.join(_TELL_S):
                    check()
                    tell()
            check()
    tell()
    return _moved(
        deed,
        tally,
        duration_s=time.monotonic() - start,
        waited_s=throttle.waited_s,
        max_lag_bytes=throttle.max_lag_bytes,
    )


def _is_left(session: Session, deed: Deed, schema: str | None) -> bool:
    """Whether there is a range to do. Raises: StepFailed when somebody has put the backfill into another state."""
    entry = ledger.read(session, schema).get(deed.name)
    if all(one.done for one in ranges.read(session, deed.tables, deed.name, deed.phase)):
        return False
    if entry is None or entry.state not in (deed.state, State.PAUSED):
        raise StepFailed(f"Backfill {deed.name} is {entry.state if entry else 'gone'}: somebody else has changed that.")
    return True


def deed_of(backfill: Backfill, table: Table, tables: Tables, *, phase: Phase) -> Deed:
    """What is done for each batch. Raises: Refused for a function that is not there."""
    function = callables.find(backfill) if phase == "move" else None
    text = backfill.statement if phase == "move" else backfill.undo_statement
    return Deed(
        name=backfill.name,
        phase=phase,
        table=table,
        tables=tables,
        where=backfill.where if phase == "move" else backfill.undone_where,
        statement=None if text is None else single(text, first_words=inspection.MOVING),
        call=None if function is None else callables.caller(backfill, function),
        keeps_rows=phase == "move" and backfill.undo_statement is not None,
        selection=Selection.of(backfill, table) if phase == "move" else None,
        place=backfill.place,
    )


def required(table: Table | None, backfill: Backfill) -> Table:
    """The table that was found where no problem was."""
    if table is None:
        raise StepFailed(f"{backfill.file}: there is no table {backfill.table} whose rows can be walked through")
    return table


def _tells_nothing(session: Session, backfill: Backfill, entry: Entry) -> bool:
    """Whether `verify` finds nothing before the first batch: then it cannot tell what is moved from what is not."""
    return not entry.rows_walked and not entry.is_complete and not verifying.finds_any(session, backfill)


def _moved(
    deed: Deed,
    tally: Tally,
    *,
    duration_s: float,
    waited_s: float = 0.0,
    max_lag_bytes: int | None = None,
) -> Moved:
    return Moved(
        name=deed.name,
        rows=tally.rows,
        batches=tally.batches,
        duration_s=duration_s,
        waited_s=waited_s,
        max_lag_bytes=max_lag_bytes,
        written=frozenset(tally.written),
        writes=tally.writes,
        tells_nothing=deed.must_write and tally.rows > 0,
    )
