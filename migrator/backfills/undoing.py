"""Takes a backfill back, batch by batch, as it was done."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing

from migrator.backfills import inspection, ledger, ledger_tables, lock, mover, ranges
from migrator.backfills.definition import Backfill
from migrator.backfills.keys import Bounds
from migrator.backfills.ledger import State
from migrator.backfills.mover import ROLE, Moved, Progress, Work
from migrator.backfills.pace import Tally
from migrator.backfills.ranges import Range
from migrator.errors import Refused
from migrator.postgres.session import Session
from migrator.postgres.transactions import transaction

_FROM = [State.RUNNING, State.PAUSED, State.MOVED, State.VERIFIED]
_OTHERS = {"verify", "statement", "python"}  # problems of what is not done here


def undo(
    backfill: Backfill, work: Work, *, on_progress: Callable[[Progress], None], check: Callable[[], None]
) -> Moved:
    """Every row that was moved was undone, and the state is `undone`. Carries on where it was ended. Safe to repeat.

    Where rows were caught meanwhile, it walks through the whole table; otherwise as far as the backfill has come.
    The capture is to be gone before, or to catch deletions only: it would do again what is undone here.
    Raises: Refused where nothing but the backup leads back; otherwise as `move`.
    """
    if backfill.undo_statement is None:
        raise Refused(
            f"{backfill.file}: backfill {backfill.name} has no statement that takes it back.",
            hint="Only the run's backup leads back: see `migrator backup list`.",
            code="backfill_restore",
            place=backfill.place,
        )
    with closing(work.connect(ROLE)) as session:
        lock.take(session, backfill.name)
        looked = inspection.look(session, backfill)
        inspection.refuse([problem for problem in looked.problems if problem.code not in _OTHERS])
        table = mover.required(looked.table, backfill)
        tables = ledger_tables.required(session, work.schema)
        with transaction(session):
            entry = ledger.read(session, work.schema).get(backfill.name)
            if entry is None or entry.state is not State.UNDONE:
                entry = ledger.change(session, work.schema, backfill.name, State.UNDOING, only_from=_FROM)
            if entry.state is State.UNDOING and not ranges.read(session, tables, backfill.name, "undo"):
                walked = ranges.read(session, tables, backfill.name)
                ranges.note(session, tables, backfill.name, _bounds(backfill, walked), "undo")
        tally = Tally(walked_before=0, total=entry.rows_walked or entry.total)
        deed = mover.deed_of(backfill, table, tables, phase="undo")
        undone = mover.carry_out(session, backfill, deed, work, tally, on_progress=on_progress, check=check)
        ledger.change(session, work.schema, backfill.name, State.UNDONE, only_from=[State.UNDOING])
    return undone


def forget(session: Session, schema: str | None, name: str) -> None:
    """The ledger does not know the backfill any more. Safe to repeat. Raises: StepFailed."""
    ledger.forget(session, schema, name)


def _bounds(backfill: Backfill, walked: Sequence[Range]) -> list[Bounds]:
    if backfill.capture != "none":
        return [Bounds(low=one.low, high=one.high) for one in walked]
    return [
        Bounds(low=one.low, high=one.high if one.done else one.cursor)
        for one in walked
        if one.done or one.cursor is not None
    ]
