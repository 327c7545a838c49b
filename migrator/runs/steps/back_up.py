"""One exported snapshot serves the dump and the state before, so that both speak of the same moment."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path

from migrator.backups import Made
from migrator.backups import manifest as manifests
from migrator.backups.manifest import FileEntry
from migrator.errors import StepFailed
from migrator.failpoints import Effect, effect
from migrator.postgres import fence
from migrator.postgres.schema_fingerprint import SchemaFingerprint
from migrator.runs import server_backups, state, stores, written
from migrator.runs.dumping import Dumping
from migrator.runs.manifest import manifest_of
from migrator.runs.record import BackupRecord, StepName, Way
from migrator.runs.run import Run
from migrator.runs.words import count, size


class BackUpStep:
    name = StepName.BACK_UP
    title = "back up"
    undo_title: str | None = None

    def run(self, run: Run) -> str | None:
        """The state before is known, and the dump with its manifest lies in the store.

        Where a copy is migrated, the dump of the original is only begun; `finish` waits for it.
        Raises: BackupFailed, StepFailed; FenceBreached where somebody has written behind an offline fence.
        """
        dumped = run.facts.backup_id is not None or "dump" not in run.environment.backup.kinds
        again = run.facts.attempt > 1 and run.offline and run.facts.tables_before is not None and dumped
        again = again or run.facts.moving is not None  # rows have been moved since: what was before is known
        server_backups.begin(run)
        if again:
            since = "nobody has" if run.offline else "others may have"
            note = f"from the attempt before; {since} written since"
        else:
            note = _begin(run) if run.record.way is Way.BLUEGREEN and not dumped else take(run)
            run.save()
        of_server = server_backups.finish(run)
        if of_server is not None:
            note = f"{of_server}; {note}"
        if not run.environment.backup.kinds:
            run.not_proven("No backup was made: backup.kinds is empty, by decision of the configuration.")
        written.require_unwritten(run)
        return note

    def undo(self, run: Run) -> str | None:
        """A finished backup is kept; what a killed process left half-made is set aside."""
        is_over = run.dumping is None or run.dumping.end()
        run.dumping = None
        if run.facts.backup_id is None and is_over:
            stores.quarantine_partial(run, stores.backup_id(run))
        server_backups.name_unrecorded(run)
        return None


def take(run: Run) -> str:
    """The dump, where the environment wants one, and the state before are of the same moment. Returns what was made.

    Raises: BackupFailed, StepFailed.
    """
    with _snapshot(run) as snapshot, ThreadPoolExecutor(1, thread_name_prefix="state") as pool:
        before = pool.submit(state.take, run, snapshot)
        wants_dump = "dump" in run.environment.backup.kinds and run.facts.backup_id is None
        try:
            note = _dump(run, snapshot, before.result) if wants_dump else "no dump"
        except BaseException:
            before.exception()  # it has ended; what failed first is told
            raise
        before.result()
    return f"{note}, {count(len(run.facts.tables_before or {}), 'table')} fingerprinted"


def _begin(run: Run) -> str:
    """The state before is known, and pg_dump works on from the same snapshot."""
    store, backup_id = stores.of(run), stores.backup_id(run)
    run.progress(StepName.BACK_UP, "pg_dump")
    stores.quarantine_partial(run, backup_id)
    run.dumping = dumping = Dumping(run, store.new(backup_id))
    state.take(run, dumping.snapshot)
    require_alive(run)
    tables = count(len(run.facts.tables_before or {}), "table")
    return f"{tables} fingerprinted; pg_dump works on while the copy is migrated"


def require_alive(run: Run) -> None:
    """The dump that was begun may still become one. Raises: BackupFailed."""
    if run.dumping is not None and run.dumping.failure is not None:
        run.dumping.wait()


def finish(run: Run) -> str | None:
    """The dump that was begun lies in the store, with its manifest. Returns what was made; None where none was begun.

    Raises: BackupFailed.
    """
    dumping = run.dumping
    if dumping is None:
        return None
    made = dumping.wait()
    run.dumping = None
    note = _publish(run, dumping.folder, made, began_at=dumping.began_at)
    run.save()
    return note


@contextmanager
def _snapshot(run: Run) -> Iterator[str]:
    """An exported snapshot that lives as long as the block: the held transaction's own, or one of our own session."""
    if run.record.way is Way.ATOMIC and run.facts.snapshot is not None:
        yield run.facts.snapshot
        return
    with closing(run.session("snapshot", read_only=True, database=run.database)) as session:
        session.execute("begin isolation level repeatable read read only")
        exported = session.rows("select pg_export_snapshot()")[0][0]
        if exported is None:
            raise StepFailed("The server exported no snapshot.")
        yield exported


def _dump(run: Run, snapshot: str, wait_for_state: Callable[[], None]) -> str:
    """The dump is made while the state before is taken; the manifest, which holds both, is written last."""
    store, backup_id = stores.of(run), stores.backup_id(run)
    began_at = time.monotonic()
    run.progress(StepName.BACK_UP, "pg_dump")
    stores.quarantine_partial(run, backup_id)  # even a whole one: a killed process did not note what it speaks of
    folder = store.new(backup_id)
    made = stores.dump(run).create(stores.source(run, snapshot=snapshot), folder)
    wait_for_state()
    return _publish(run, folder, made, began_at=began_at)


def _publish(run: Run, folder: Path, made: Made, *, began_at: float) -> str:
    store, backup_id = stores.of(run), stores.backup_id(run)
    extra = _beside(folder, _picture(run))
    manifest = store.publish(
        manifest_of(run, made, backup_id=backup_id, kind="dump", extra=extra), stores.signing_key(run)
    )
    run.facts.backup_id = backup_id
    took_s = time.monotonic() - began_at
    run.record.backups.append(
        BackupRecord(
            id=backup_id,
            kind="dump",
            location=store.location(backup_id),
            size_bytes=manifest.size_bytes,
            started_at=run.now() - timedelta(seconds=took_s),
            duration_s=round(took_s, 3),
        )
    )
    for warning in made.warnings:
        run.warn(f"pg_dump: {warning}")
    if run.facts.fence_up:
        fence.note(run.the_admin(), run.database, backup=backup_id)
    run.prove(f"Backup {backup_id}: every file has its size and SHA-256 in the manifest, written last.")
    return f"dump of {size(manifest.size_bytes)}"


def _picture(run: Run) -> str | None:
    """Liquibase's own picture of the schema before, as JSON; None where it has none and is not connected either."""
    if run.picture is not None and run.picture.schema_digest == _schema_digest(run):
        return run.picture.text
    if run.liquibase is None or run.record.way is not Way.ATOMIC:
        return None
    try:
        return run.liquibase.snapshot()
    except StepFailed as error:
        run.warn(f"Liquibase's snapshot was not taken: {error.message}")
        return None


def _schema_digest(run: Run) -> str:
    return SchemaFingerprint(objects=run.facts.schema_before or {}).digest


@effect(Effect.BACKUP_FILE)
def _beside(folder: Path, picture: str | None) -> tuple[FileEntry, ...]:
    if picture is None:
        return ()
    path = folder / "snapshot.json"
    path.write_text(picture, encoding="utf-8")
    path.chmod(0o600)
    return manifests.extra_files(folder, [path])
