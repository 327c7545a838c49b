"""One exported snapshot serves the dump and the state before, so that both speak of the same moment."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

from migrator import __version__
from migrator.backups import Made
from migrator.backups import manifest as manifests
from migrator.backups.manifest import FileEntry
from migrator.errors import StepFailed
from migrator.postgres import fence, properties
from migrator.postgres.schema_fingerprint import SchemaFingerprint
from migrator.runs import state, stores
from migrator.runs.facts import sequences_of
from migrator.runs.record import BackupRecord, StepName, Way
from migrator.runs.run import Run


class BackUpStep:
    name = StepName.BACK_UP
    title = "back up"
    undo_title: str | None = "keep the backup"

    def run(self, run: Run) -> str | None:
        """The state before is known, and the dump with its manifest lies in the store."""
        again = run.facts.attempt > 1 and run.offline and run.facts.tables_before is not None
        if again:
            return "from the attempt before; nobody has written since"
        with _snapshot(run) as snapshot, ThreadPoolExecutor(1, thread_name_prefix="state") as pool:
            before = pool.submit(state.take, run, snapshot)
            wants_dump = "dump" in run.environment.backup.kinds and run.facts.backup_id is None
            try:
                note = _dump(run, snapshot, before.result) if wants_dump else "no dump"
            finally:
                before.result()
        run.save()
        if not run.environment.backup.kinds:
            run.not_proven("No backup was made: backup.kinds is empty, by decision of the configuration.")
        return f"{note}, {len(run.facts.tables_before or {})} tables fingerprinted"

    def undo(self, run: Run) -> str | None:
        """A finished backup is kept; what a killed process left half-made is set aside."""
        if run.facts.backup_id is None:
            stores.quarantine_partial(run)
        return None


@contextmanager
def _snapshot(run: Run) -> Iterator[str]:
    """An exported snapshot that lives as long as the block: the held transaction's own, or one of our own session."""
    if run.record.way is Way.ATOMIC and run.facts.snapshot is not None:
        yield run.facts.snapshot
        return
    with closing(run.session("snapshot", read_only=True)) as session:
        session.execute("begin isolation level repeatable read read only")
        exported = session.rows("select pg_export_snapshot()")[0][0]
        if exported is None:
            raise StepFailed("The server exported no snapshot.")
        yield exported


def _dump(run: Run, snapshot: str, wait_for_state: Callable[[], None]) -> str:
    """The dump is made while the state before is taken; the manifest, which holds both, is written last."""
    store, backup_id = stores.of(run), stores.backup_id(run)
    started = time.monotonic()
    run.progress(StepName.BACK_UP, "pg_dump")
    folder = store.new(backup_id)
    made = stores.dump(run).create(stores.source(run, snapshot=snapshot), folder)
    wait_for_state()
    extra = _liquibase_snapshot(run, folder)
    manifest = store.publish(_manifest(run, made, extra), stores.signing_key(run))
    run.facts.backup_id = backup_id
    run.record.backups.append(
        BackupRecord(
            id=backup_id,
            kind="dump",
            location=str(folder),
            size_bytes=manifest.size_bytes,
            duration_s=round(time.monotonic() - started, 3),
        )
    )
    for warning in made.warnings:
        run.warn(f"pg_dump: {warning}")
    if run.facts.fence_up:
        fence.note(run.the_admin(), run.database, backup=backup_id)
    run.prove(f"Backup {backup_id}: every file has its size and SHA-256 in the manifest, written last.")
    return f"dump of {manifest.size_bytes / 1e6:.1f} MB"


def _liquibase_snapshot(run: Run, folder: Path) -> tuple[FileEntry, ...]:
    """Liquibase's own picture of the schema lies beside the dump, when Liquibase is connected already."""
    if run.liquibase is None or run.record.way is not Way.ATOMIC:
        return ()
    try:
        run.liquibase.snapshot(folder)
    except StepFailed as error:
        run.warn(f"Liquibase's snapshot was not taken: {error.message}")
        return ()
    return manifests.extra_files(folder, [folder / "snapshot.json"])


def _manifest(run: Run, made: Made, extra: tuple[FileEntry, ...]) -> manifests.Manifest:
    facts = run.facts
    admin = run.the_admin()
    standing = fence.read(admin, run.database)
    before = standing.previous if standing is not None else properties.read(admin, run.database)
    schema = facts.schema_before or {}
    return manifests.Manifest(
        id=stores.backup_id(run),
        kind="dump",
        run_id=run.id,
        environment=run.environment.name,
        created_at=run.now(),
        system_identifier=facts.system_identifier or "unknown",
        database=run.database,
        database_oid=before.oid,
        server_version=run.record.versions.get("postgresql", ""),
        tools={**made.tools, "migrator": __version__},
        files=(*made.files, *extra),
        roles=made.roles,
        extensions=made.extensions,
        schema_digest=SchemaFingerprint(objects=schema).digest,
        schema_objects=schema,
        tables={
            name: manifests.TableState(rows=table.rows, digest=table.digest, columns=table.columns)
            for name, table in (facts.tables_before or {}).items()
        },
        sequences={
            name: manifests.SequenceState(last_value=state.last_value, is_called=state.is_called)
            for name, state in sequences_of(facts).items()
        },
        large_objects=(
            manifests.TableState(rows=facts.large_objects_before.rows, digest=facts.large_objects_before.digest)
            if facts.large_objects_before is not None
            else None
        ),
        properties=json.loads(json.dumps(dict(before.to_json()))),
        facts={"changelog": run.record.changelog, "way": str(run.record.way)},
    )
