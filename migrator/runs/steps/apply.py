"""Liquibase applies the pending changesets: in the held transaction, or in its own transactions."""

from __future__ import annotations

from migrator.liquibase.models import ChangesetEvent, Updated
from migrator.liquibase.session import Liquibase
from migrator.postgres import fence
from migrator.runs import ladder, liquibase_session, pinned
from migrator.runs.inspection import is_ledger
from migrator.runs.record import ChangesetRecord, StepName, TableRecord, Way
from migrator.runs.run import Run
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
        updated = _change(run, liquibase)
        _record(run, updated)
        if run.record.way is not Way.ATOMIC:
            liquibase.disconnect()
        wanted, undone = ("rolled_back", " undone") if run.undoes else ("executed", "")
        done = sum(1 for changeset in run.record.changesets if changeset.status == wanted)
        return f"{count(done, 'changeset')}{undone}, {count(len(run.record.write_set), 'table')} written"

    def undo(self, run: Run) -> str | None:
        """The database is proven to be what it was.

        Raises: NotProven.
        """
        outcome = ladder.go_back(run)
        return f"proven to be what it was ({outcome.value.replace('_', ' ')})"


def _change(run: Run, liquibase: Liquibase) -> Updated:
    timeout_s = run.environment.limits.migration_timeout_s
    if run.undoes:
        return liquibase.rollback_count(
            run.undo.changelogs,
            len(run.facts.planned),
            on_event=lambda event: _heard(run, event),
            timeout_s=timeout_s,
        )
    return liquibase.update(run.record.changelog, on_event=lambda event: _heard(run, event), timeout_s=timeout_s)


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
    run.facts.unobserved = list(updated.outside_transaction)
    run.record.write_set = sorted(name for name in updated.write_set if not is_ledger(name))
    tables = {table.name: table for table in run.record.tables}
    for name, counts in updated.counts.items():
        if is_ledger(name):
            continue
        table = tables.setdefault(name, TableRecord(name=name))
        table.inserted, table.updated, table.deleted = counts.inserted, counts.updated, counts.deleted
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
