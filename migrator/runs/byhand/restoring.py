"""A restore that a person asks for: what it would lose is shown first; then it is carried out as a guarded run.

The run has a way of its own (`migrator.runs.ways`): fence, restore beside, compare, swap, lift. A process that is
killed before the swap leaves the original as it was behind the fence, one that is killed after it the restored
database: `resume` and `recover` tell the two apart by their OIDs.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass

from migrator.backups.manifest import Manifest, TableState
from migrator.config.models import Environment
from migrator.errors import ConnectionFailed, Refused, StepFailed
from migrator.plans import own_tables
from migrator.postgres import catalog, connect, databases, row_fingerprint, schema_fingerprint
from migrator.postgres.row_fingerprint import TableFingerprint
from migrator.postgres.schema_fingerprint import SchemaFingerprint
from migrator.runs import state, stores
from migrator.runs.byhand import refuse_if_at_work
from migrator.runs.byhand.verify import read
from migrator.runs.record import TableRecord, Way
from migrator.runs.run import Run
from migrator.runs.steps import lock
from migrator.runs.steps.restore import refuse_another
from migrator.runs.words import count


@dataclass(frozen=True, kw_only=True)
class Loss:
    """A table whose rows are not those of the backup."""

    table: str
    rows_now: int | None  # None: it is not there
    rows_then: int | None  # None: it was not there

    def __str__(self) -> str:
        if self.rows_then is None:
            return f"{self.table} is not in the backup: {count(self.rows_now or 0, 'row')} would be gone with it"
        if self.rows_now is None:
            return f"{self.table} comes back with {count(self.rows_then, 'row')}"
        if self.rows_now == self.rows_then:
            return f"{self.table} has other values in its {count(self.rows_now, 'row')}"
        return f"{self.table} has {count(self.rows_now, 'row')} and would have {self.rows_then:,}"


@dataclass(frozen=True, kw_only=True)
class Preview:
    manifest: Manifest
    losses: tuple[Loss, ...]
    schema_changes: tuple[str, ...]  # identities of objects that are not as in the backup
    not_seen: tuple[str, ...]  # why something could not be compared


def held_offline(environment: Environment) -> Environment:
    """The environment as a restore needs it, whatever a migration of it does."""
    maintenance = environment.maintenance.model_copy(update={"database": "offline"})
    return environment.model_copy(update={"maintenance": maintenance})


def preview(run: Run, backup_id: str) -> Preview:
    """What the restore would change; the run is ready to be executed. Every byte of the backup has been read.

    A database that cannot be read any more is no reason not to restore it: what was not seen is said.
    Raises: BackupFailed for a damaged backup; Refused for another database's; Locked while a run is at work.
    """
    lock.refuse_system_databases(run)
    found = stores.of(run).read(backup_id)
    admin = run.the_admin()
    run.server = connect.server_info(admin)
    refuse_another(run, found)
    if databases.oid_of(admin, run.database) is None:
        raise Refused(
            f"There is no database {run.database} that the backup could take the place of.",
            hint=f"Make an empty one of that name first, with its owner and settings, and restore again: "
            f"createdb {run.database}",
            code="no_such_database",
        )
    refuse_if_at_work(run)
    read(run, backup_id)
    run.record.way = Way.RESTORE
    run.record.way_reason = "asked for by hand"
    run.facts.backup_id = backup_id
    seen = _compared(run, found)
    run.record.tables = [
        TableRecord(name=loss.table, rows_before=loss.rows_now, rows_after=loss.rows_then) for loss in seen.losses
    ]
    return seen


def _compared(run: Run, found: Manifest) -> Preview:
    if not (found.schema_objects or found.tables):
        return Preview(
            manifest=found,
            losses=(),
            schema_changes=(),
            not_seen=("the manifest has no fingerprint to compare with",),
        )
    try:
        with closing(run.session("snapshot", read_only=True)) as session:
            session.execute("begin isolation level repeatable read read only")
            [(snapshot,)] = session.rows("select pg_export_snapshot()")
            with row_fingerprint.snapshot_sessions(
                run.login, snapshot=snapshot or "", jobs=run.environment.backup.jobs, run_id=run.id
            ) as opened:
                schema = schema_fingerprint.of_schema(opened[0])
                relations = [r for r in catalog.tables(opened[0]) if not own_tables.say_nothing(r.qualified)]
                now = row_fingerprint.of_tables(opened, relations)
                objects = row_fingerprint.of_large_objects(opened[0]) if found.large_objects else None
    except (StepFailed, ConnectionFailed) as error:
        why = f"the database cannot be read as it is: {error.message}"
        return Preview(manifest=found, losses=(), schema_changes=(), not_seen=(why,))
    diff = SchemaFingerprint(objects=found.schema_objects).diff(schema)
    changes = state.telling([*diff.added, *diff.removed, *diff.changed])
    losses = _losses(now, found.tables)
    then = found.large_objects
    if objects is not None and then is not None and (objects.rows, objects.digest) != (then.rows, then.digest):
        losses.append(Loss(table="the large objects", rows_now=objects.rows, rows_then=then.rows))
    return Preview(manifest=found, losses=tuple(losses), schema_changes=tuple(changes), not_seen=())


def _losses(now: Mapping[str, TableFingerprint], then: Mapping[str, TableState]) -> list[Loss]:
    """Equal tables are left out, and so are empty ones that are on one side only."""
    found = []
    for name in sorted({*now, *then}):
        if own_tables.say_nothing(name):
            continue
        here, there = now.get(name), then.get(name)
        if here is not None and there is not None and (here.rows, here.digest) == (there.rows, there.digest):
            continue
        if (here or there) is not None:
            rows_now, rows_then = here.rows if here else None, there.rows if there else None
            if rows_now or rows_then:
                found.append(Loss(table=name, rows_now=rows_now, rows_then=rows_then))
    return found
