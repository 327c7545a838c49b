"""Takes a backfill back, batch by batch, as it was done."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing

from migrator.backfills import inspection, ledger, ledger_tables, lock, mover, ranges, verifying
from migrator.backfills.definition import Backfill
from migrator.backfills.inspection import Problem
from migrator.backfills.keys import Bounds
from migrator.backfills.ledger import State
from migrator.backfills.mover import ROLE, Moved, Progress, Work
from migrator.backfills.pace import Tally
from migrator.backfills.ranges import Range
from migrator.errors import Refused
from migrator.postgres.session import Session
from migrator.postgres.transactions import transaction

ONE_WAY = "backfill_one_way"  # the error code of what could not be made again
_FROM = [State.RUNNING, State.PAUSED, State.MOVED, State.VERIFIED]
_OTHERS = {"verify", "statement", "python"}  # problems of what is not done here
_MOVING_AGAIN = {"verify", "statement", "where"}


def undo(
    backfill: Backfill, work: Work, *, on_progress: Callable[[Progress], None], check: Callable[[], None]
) -> Moved:
    """Every row that was moved was undone, and the state is `undone`. Carries on where it was ended. Safe to repeat.

    Where rows were caught meanwhile, it walks through the whole table; otherwise as far as the backfill has come.
    The capture is to be gone before, or to catch deletions only: it would do again what is undone here. Before that,
    `refuse_loss`.
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
        _refuse_impossible(backfill, looked.problems)
        inspection.refuse(_in_the_way(backfill, looked.problems))
        table = mover.required(looked.table, backfill)
        tables = ledger_tables.required(session, work.schema)
        with transaction(session):
            entry = ledger.read(session, work.schema).get(backfill.name)
            ledger.refuse_another_table(backfill, entry, table.qualified)
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


def refuse_loss(session: Session, backfill: Backfill, schema: str | None) -> None:
    """What the backfill has made could be made again: all that it was made from is there, as it was.

    Asked of one that is complete, before the first row is taken back: its statement and its question can still be
    planned, and where it was found right once, it is right now. For a session without an open transaction.
    Raises: Refused, code ONE_WAY, or for another table than that it began with; StepFailed.
    """
    entry = ledger.read(session, schema).get(backfill.name)
    if entry is None or backfill.undo_statement is None:
        return
    looked = inspection.look(session, backfill)
    if looked.table is not None:
        ledger.refuse_another_table(backfill, entry, looked.table.qualified)
    if not entry.is_complete:
        return
    problems = looked.problems
    _refuse_impossible(backfill, problems)
    gone = [problem for problem in problems if problem.code in _MOVING_AGAIN]
    if gone:
        raise _loss(backfill, f"could not be done again ({gone[0].message.removeprefix(f'{backfill.file}: ')})")
    inspection.refuse(_in_the_way(backfill, problems))
    if entry.verified_at is None:  # rows that were moved wrongly are no copy of anything
        return
    verdict = verifying.ask(session, backfill)
    if verdict.violations:
        rows = "row differs" if verdict.violations == 1 else "rows differ"
        raise _loss(
            backfill,
            f"was right once, and now {verdict.violations:,} {rows} from what was moved"
            f" ({', '.join(verdict.sample[:3])})",
        )


def _in_the_way(backfill: Backfill, problems: Sequence[Problem]) -> list[Problem]:
    """The problems of what an undo does."""
    others = _OTHERS if backfill.undo_where is None else {*_OTHERS, "where"}
    return [problem for problem in problems if problem.code not in others]


def _refuse_impossible(backfill: Backfill, problems: Sequence[Problem]) -> None:
    """Raises: Refused where there is nothing to take back any more, or no way to walk through it."""
    try:
        inspection.refuse([one for one in _in_the_way(backfill, problems) if one.code not in _MOVING_AGAIN])
    except Refused as error:
        error.hint = (
            f"{error.hint or ''} If what it moved is gone for good, let the database forget it: "
            f"migrator backfill forget {backfill.name}"
        ).lstrip()
        raise


def _loss(backfill: Backfill, why: str) -> Refused:
    return Refused(
        f"{backfill.file}: backfill {backfill.name} {why}: what an undo takes away may be the only copy.",
        hint="Bring back first what its `statement` reads: `migrator rollback` of the changeset that took it away,"
        " whose rollback has to restore the values. To lose them on purpose:"
        f" migrator backfill undo {backfill.name} --accept-loss",
        code=ONE_WAY,
        place=backfill.place,
    )


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
