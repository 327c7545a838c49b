"""Liquibase applies the pending changesets: in the held transaction, or in its own transactions."""

from __future__ import annotations

from collections.abc import Sequence, Set
from contextlib import nullcontext

from migrator.errors import MigrationFailed, Place
from migrator.liquibase import ledger
from migrator.liquibase.models import ChangesetEvent, Updated
from migrator.liquibase.session import Liquibase
from migrator.plans import own_tables
from migrator.postgres import fence, write_set
from migrator.postgres.write_set import Counts
from migrator.runs import ladder, liquibase_session, moving, pinned, segments, written
from migrator.runs.record import ChangesetRecord, Outcome, StepName, TableRecord, Way
from migrator.runs.run import Run
from migrator.runs.segments import Segment
from migrator.runs.words import count


class ApplyStep:
    name = StepName.APPLY
    title = "apply"
    undo_title: str | None = "take the changes back"

    def run(self, run: Run) -> str | None:
        """Every planned changeset was executed (or skipped by its precondition), or undone; the write set is recorded.

        Raises: StepFailed where the changelog is no longer what was planned; MigrationFailed, TransactionLost.
        """
        if not run.undoes:
            pinned.require_unchanged(run)
        if not _carries_on(run):
            run.facts.applied, run.facts.moving = 0, None
            run.record.write_set, run.facts.unobserved = [], []
            written.begin(run)
        if run.record.way is Way.ATOMIC:
            liquibase = liquibase_session.start(run)  # connected by the step before, its transaction open
        else:
            if run.facts.fence_up:
                # What an earlier, atomic attempt noted holds no more: a recovery by the fence alone must not trust it.
                fence.note(
                    run.the_admin(),
                    run.database,
                    phase="applying",
                    way=str(run.record.way),
                    xid="",
                    backup=run.facts.backup_id or "",
                )
            liquibase = liquibase_session.connect(run, mode="stepwise")
        _segments(run, liquibase)
        if run.record.way is not Way.ATOMIC:
            liquibase.disconnect()
        wanted, undone = ("rolled_back", " undone") if run.undoes else ("executed", "")
        done = sum(1 for changeset in run.record.changesets if changeset.status == wanted)
        moved = sum(one.rows or 0 for one in run.record.backfills)
        rows = f"{count(moved, 'row')} {'moved back' if run.undoes else 'moved'} by backfills, " if moved else ""
        return f"{count(done, 'changeset')}{undone}, {rows}{count(len(run.record.write_set), 'table')} written"

    def undo(self, run: Run) -> str | None:
        """The database is proven to be what it was.

        Raises: NotProven.
        """
        outcome = ladder.go_back(run)
        others = run.record.proof.others_wrote
        but = f", but for the rows of {', '.join(others)}" if others and outcome is Outcome.ROLLED_BACK else ""
        return f"proven to be what it was{but} ({outcome.value.replace('_', ' ')})"


def _segments(run: Run, liquibase: Liquibase) -> None:
    """Changesets and backfills, each in its turn. Between two changesets the journal knows how far it is."""
    facts = run.facts
    after = {one.name: one.after for one in facts.backfills}
    found = segments.back(facts.planned, after) if run.undoes else segments.of(facts.planned, after, facts.requires)
    held = liquibase if run.record.way is Way.ATOMIC else None
    if held is not None:
        moving.keep_writers_off(run, held)
    for number, segment in enumerate(found):
        if number + 1 < facts.applied:
            continue  # of an earlier process
        if number + 1 > facts.applied:
            if facts.moving is not None:
                facts.moving = None
                run.save()
            if segment.changesets:
                _carry_out(run, held, found, number)
        facts.applied = number + 1
        if not segment.moves:
            continue
        if held is None:
            liquibase.disconnect()  # it may take hours, in which nothing is asked of it
        if run.record.way is Way.STEPWISE:  # elsewhere an attempt that is cut short begins anew
            facts.moving = segment.moves[0]
        run.save()
        for name in segment.moves:
            _move(run, name, held)
    if held is not None and facts.backfills:
        _observe(run, liquibase)


def _carry_out(run: Run, held: Liquibase | None, found: Sequence[Segment], number: int) -> None:
    """What a segment's changesets require is proven, and they are executed right behind that."""
    liquibase = held or liquibase_session.connect(run, mode="stepwise")
    for name in found[number].requires:
        moving.require(run, moving.planned(run, name), held)
    _execute(run, liquibase, found, number)
    if not run.undoes:
        moving.close_ledger(run, held)


def _move(run: Run, name: str, held: Liquibase | None) -> None:
    planned = moving.planned(run, name)
    if not run.undoes:
        moving.move(run, planned, held)
        return
    moving.undo(run, planned)


def _carries_on(run: Run) -> bool:
    """Whether an earlier process was killed in a backfill of this very attempt, and nothing was taken back since."""
    return run.facts.moving is not None and run.record.way is Way.STEPWISE and not run.undoes


def _execute(run: Run, liquibase: Liquibase, found: Sequence[Segment], number: int) -> None:
    """The changesets of one segment were executed, or undone, and no other."""
    segment = found[number]
    if number == len(found) - 1 or run.undoes:
        _record(run, _change(run, liquibase, segment, None))
        return
    again = _tried_again(run, liquibase, found[:number])
    updated = _change(run, liquibase, segment, len(again) + len(segment.changesets))
    _record(run, updated)
    _require_only(updated, {*again, *(one.key for one in segment.changesets)})


def _tried_again(run: Run, liquibase: Liquibase, before: Sequence[Segment]) -> frozenset[tuple[str, str, str]]:
    """The changesets of earlier segments that come first once more: what stayed pending, and what runs always."""
    had = {row.key for row in ledger.read(liquibase, run.ledger_schema) or []}
    return frozenset(one.key for segment in before for one in segment.changesets if one.always or one.key not in had)


def _require_only(updated: Updated, wanted: Set[tuple[str, str, str]]) -> None:
    """Liquibase executed what comes before the backfill, and nothing that comes behind. Raises: MigrationFailed."""
    for result in updated.changesets:
        if (result.path, result.id, result.author) not in wanted:
            key = f"{result.path}::{result.id}::{result.author}"
            raise MigrationFailed(
                f"Liquibase executed {key} before the backfill that it comes after.",
                hint="Part the changelog in two releases: what comes before the backfill, and what comes after it.",
                code="order",
                place=Place(changeset=key),
            )


def _change(run: Run, liquibase: Liquibase, segment: Segment, counted: int | None) -> Updated:
    timeout_s = run.environment.limits.migration_timeout_s
    with nullcontext(_ignore) if run.record.way is Way.ATOMIC else written.observed(run) as note:

        def heard(event: ChangesetEvent) -> None:
            note(event)
            _heard(run, event)

        if run.undoes:
            return liquibase.rollback_count(
                run.undo.changelogs, len(segment.changesets), on_event=heard, timeout_s=timeout_s
            )
        return liquibase.update(run.record.changelog, on_event=heard, timeout_s=timeout_s, count=counted)


def _ignore(_event: ChangesetEvent) -> None:
    pass


def _observe(run: Run, liquibase: Liquibase) -> None:
    """What backfills wrote in the held transaction is in the write set, and counted."""
    found = write_set.read(liquibase)
    run.record.write_set = sorted({*run.record.write_set, *(name for name in found if not own_tables.is_own(name))})
    tables = {table.name: table for table in run.record.tables}
    for name, counts in write_set.counts(liquibase).items():
        if not own_tables.is_own(name):
            table = tables.setdefault(name, TableRecord(name=name))
            table.inserted, table.updated, table.deleted = counts.inserted, counts.updated, counts.deleted
    run.record.tables = [tables[name] for name in sorted(tables)]


def _heard(run: Run, event: ChangesetEvent) -> None:
    for number, changeset in enumerate(run.record.changesets, start=1):
        if (changeset.path, changeset.id, changeset.author) == (event.path, event.id, event.author):
            changeset.status = _status(event)
            changeset.duration_s = event.duration_s
            run.reporter.changeset(changeset, number, len(run.record.changesets))
            return


def _record(run: Run, updated: Updated) -> None:
    known = {(c.path, c.id, c.author): c for c in run.record.changesets}
    for result in updated.changesets:
        changeset = known.get((result.path, result.id, result.author))
        if changeset is None:
            changeset = ChangesetRecord(id=result.id, author=result.author, path=result.path, status=result.status)
            run.record.changesets.append(changeset)
        changeset.status = _STATUSES.get(result.status, result.status)
        changeset.duration_s = result.duration_s
    run.facts.unobserved = sorted({*run.facts.unobserved, *updated.outside_transaction})
    run.record.write_set = sorted(
        {*run.record.write_set, *(name for name in updated.write_set if not own_tables.is_own(name))}
    )
    tables = {table.name: table for table in run.record.tables}
    for name, counts in updated.counts.items():
        if own_tables.is_own(name):
            continue
        table = tables.setdefault(name, TableRecord(name=name))
        if run.record.way is not Way.ATOMIC and run.facts.applied:  # of this segment alone; held, they add up
            before = Counts(inserted=table.inserted or 0, updated=table.updated or 0, deleted=table.deleted or 0)
        else:
            before = Counts()
        table.inserted = before.inserted + counts.inserted
        table.updated = before.updated + counts.updated
        table.deleted = before.deleted + counts.deleted
    run.record.tables = [tables[name] for name in sorted(tables)]


_STATUSES = {
    "will_run": "running",
    "failed": "failed",
    "skipped": "skipped",
    "mark_ran": "skipped",
    "reran": "executed",
}


def _status(event: ChangesetEvent) -> str:
    return _STATUSES.get(event.status or event.kind, event.status or event.kind)
