"""A copy on the same server, made at disk speed behind the fence: a fine companion of a dump, no substitute."""

from __future__ import annotations

import time

from migrator.errors import BackupFailed
from migrator.postgres import databases, properties
from migrator.runs.record import BackupRecord, StepName
from migrator.runs.run import Run


class CloneStep:
    name = StepName.CLONE
    title = "clone"
    undo_title: str | None = "drop a half-made clone"

    def run(self, run: Run) -> str | None:
        """A closed copy of the database stands beside it, under a name that tells the run."""
        name = databases.name_of(run.id, "clone")
        if any(backup.location == name for backup in run.record.backups):
            return "made by the attempt before"
        if not run.offline:
            raise BackupFailed(
                "A clone needs maintenance offline: the server copies a database only while nobody is connected.",
                hint="Set maintenance.database = 'offline', or take 'clone' out of backup.kinds.",
            )
        admin = run.the_admin()
        if databases.oid_of(admin, name) is not None:
            databases.drop(admin, name)
        started = time.monotonic()
        databases.copy(
            admin,
            run.database,
            name,
            owner=properties.read(admin, run.database).owner,
            timeout_s=run.environment.limits.backup_timeout_s,
            wait_s=run.environment.limits.drain_s,
        )
        run.record.backups.append(
            BackupRecord(id=name, kind="clone", location=name, duration_s=round(time.monotonic() - started, 3))
        )
        run.record.kept.append(f'The clone is kept as {name}. When it is not needed any more: DROP DATABASE "{name}";')
        return name

    def undo(self, run: Run) -> str | None:
        """A half-made clone is gone; a finished one is kept as evidence."""
        name = databases.name_of(run.id, "clone")
        if any(backup.location == name for backup in run.record.backups):
            return None
        databases.drop(run.the_admin(), name)
        return None
