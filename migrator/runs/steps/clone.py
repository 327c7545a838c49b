"""A copy on the same server, made at disk speed behind the fence: a fine companion of a dump, no substitute."""

from __future__ import annotations

import time

from migrator.backups import clone
from migrator.errors import BackupFailed
from migrator.postgres import databases
from migrator.runs import stores
from migrator.runs.manifest import manifest_of
from migrator.runs.record import BackupRecord, StepName
from migrator.runs.run import Run


class CloneStep:
    name = StepName.CLONE
    title = "clone"
    undo_title: str | None = None

    def run(self, run: Run) -> str | None:
        """A closed copy of the database stands beside it, and the store has a manifest that names it."""
        backup_id = stores.clone_id(run)
        if any(backup.id == backup_id for backup in run.record.backups):
            return "made by the attempt before"
        if not run.offline:
            raise BackupFailed(
                "A clone needs maintenance offline: the server copies a database only while nobody is connected.",
                hint="Set maintenance.database = 'offline', or take 'clone' out of backup.kinds.",
            )
        started, started_at = time.monotonic(), run.now()
        store = stores.of(run)
        made = stores.clone(run).create(stores.source(run), store.new(backup_id))
        store.publish(manifest_of(run, made, backup_id=backup_id, kind="clone"), stores.signing_key(run))
        run.record.backups.append(
            BackupRecord(
                id=backup_id,
                kind="clone",
                location=made.copy_name or "",
                started_at=started_at,
                duration_s=round(time.monotonic() - started, 3),
            )
        )
        run.record.kept.append(
            f'The clone is kept as {made.copy_name}. When it is not needed any more: DROP DATABASE "{made.copy_name}";'
        )
        return made.copy_name

    def undo(self, run: Run) -> str | None:
        """A half-made clone is gone; a finished one is kept as evidence."""
        backup_id = stores.clone_id(run)
        if not any(backup.id == backup_id for backup in run.record.backups):
            databases.drop(run.the_admin(), clone.name_of(run.id))
            stores.quarantine_partial(run, backup_id)
        return None
