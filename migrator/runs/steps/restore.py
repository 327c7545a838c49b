"""A backup restored by hand: beside the database, compared with its manifest. The swap is a step of its own."""

from __future__ import annotations

from migrator.backups.manifest import Manifest
from migrator.errors import MigratorError, NotProven, Refused, StepFailed, VerificationFailed
from migrator.plans import obstacles
from migrator.plans.obstacles import Obstacle
from migrator.postgres import databases, disk, fence, properties
from migrator.postgres import obstacles as swap_obstacles
from migrator.runs import bluegreen, ladder, reconstruction, state, stores
from migrator.runs.record import BackupRecord, ProofLevel, StepName, Way
from migrator.runs.run import Run

_UNKNOWN = "unknown"  # a system identifier that could not be asked


class RestorePreflightStep:
    name = StepName.PREFLIGHT
    title = "preflight"
    undo_title: str | None = None

    def run(self, run: Run) -> str | None:
        """The backup is of this database, and nothing is in the way of a restore beside it and a swap.

        Raises: Refused naming everything that is in the way; BackupFailed for a damaged backup.
        """
        found = stores.of(run).read(run.facts.backup_id or "")
        refuse_another(run, found)
        obstacles.refuse(_in_the_way(run, found))
        run.record.backups = [
            BackupRecord(
                id=found.id,
                kind=found.kind,
                location=stores.of(run).location(found.id) if found.copy_name is None else found.copy_name,
                size_bytes=found.size_bytes if found.files else None,
            )
        ]
        reconstruction.add_state(run.facts, found)
        run.record.proof.level = ProofLevel.FULL if run.facts.fingerprinted is None else ProofLevel.TOUCHED
        run.save()
        return f"{found.kind} of {found.created_at:%Y-%m-%d %H:%M:%S} UTC"

    def undo(self, run: Run) -> str | None:
        """Nothing: preflight only looks."""
        return None


class RestoreStep:
    name = StepName.RESTORE
    title = "restore beside"
    undo_title: str | None = "drop the restored copy"

    def run(self, run: Run) -> str | None:
        """A database beside the original holds what was backed up, compared with the manifest.

        Raises: BackupFailed, VerificationFailed where it is not equal; the original was not touched.
        """
        found = stores.of(run).read(run.facts.backup_id or "")
        _forget_copy(run)
        run.facts.database_oid = properties.read(run.the_admin(), run.database).oid
        if found.kind == "clone":
            _take_clone(run, found)
        else:
            _restore(run, found)
        if not (found.schema_objects or found.tables):
            run.not_proven(f"The manifest of {found.id} has no fingerprint: the copy on the server was not compared.")
            return f"{run.facts.copy_name} is the clone itself"
        run.progress(self.name, "comparing with the manifest")
        differences = state.differences(run, run.facts.copy_name)
        if differences:
            raise VerificationFailed(
                f"The restored copy is not what was backed up: {'; '.join(differences[:3])}"
                + (f" (and {len(differences) - 3} more)" if differences[3:] else "")
                + ".",
                hint=f"The database was not touched. Look at the backup: migrator backup verify {found.id} --restore",
            )
        run.prove(f"Backup {found.id} was restored beside and is equal to its manifest ({state.scope(run)}).")
        return state.scope(run)

    def undo(self, run: Run) -> str | None:
        """Nothing of the restore is left, and the original bears its name, as open as before; a clone stays a backup.

        Raises: NotProven where the copy was swapped in.
        """
        ladder.end_sessions(run)
        if bluegreen.is_swapped(run):
            raise NotProven(
                f"Backup {run.facts.backup_id} was restored and bears the name {run.database}: it is not taken back.",
                hint=f"Users are let in by: migrator resume {run.id}",
            )
        _forget_copy(run)
        bluegreen.prove_untouched(run)
        return None


def refuse_another(run: Run, found: Manifest) -> None:
    """Raises: Refused where the backup is of another database than the run's, by server and by name."""
    if run.server is None:
        raise StepFailed("The server has not been asked who it is.")
    here, there = run.server.system_identifier, found.system_identifier
    if found.database != run.database:
        raise Refused(
            f"The backup {found.id} is of the database {found.database}, and environment {run.environment.name} names "
            f"{run.database}.",
            hint="List those of this environment: migrator backup list",
            code="another_database",
        )
    if _UNKNOWN not in {here, there} and here != there:
        raise Refused(
            f"The backup {found.id} is of the database {found.database} of another server (system identifier {there}, "
            f"this one's is {here}).",
            hint="To move it to this server, restore it into a new database with pg_restore --exit-on-error.",
            code="another_database",
        )
    if _UNKNOWN in {here, there}:
        run.not_proven("That the backup is of this server: its system identifier could not be asked.")


def _in_the_way(run: Run, found: Manifest) -> list[Obstacle]:
    admin = run.the_admin()
    missing = obstacles.of_server(run.server) if run.server is not None else []
    missing += obstacles.of_database(admin, run.database, offline=True, own_run=run.id)
    missing += obstacles.of_privileges(admin, run.database, fenced=True, creates_databases=True, terminates=True)
    if not missing:  # else it would say the same in other words
        missing = [
            Obstacle(what=one, remedy="mend it, then restore") for one in swap_obstacles.to_swap(admin, run.database)
        ]
    passing = obstacles.passes_the_fence(admin, run.database, mode="offline", user=run.login.user)
    if passing is not None:
        run.not_proven(passing)
    if found.kind == "dump":
        stores.tools(run)
        missing += _room(run, found)
    return missing


def _room(run: Run, found: Manifest) -> list[Obstacle]:
    """A restored dump takes at least its own size; how much more is not known."""
    if run.server is None:
        return []
    free = disk.free_bytes(run.the_admin(), run.database, login=run.login, server=run.server)
    if free is None:
        run.warn("How much room the server has is not known: a restore that fills its disk fails, and goes back.")
        return []
    if free >= found.size_bytes:
        return []
    return [
        Obstacle(
            what=f"the server has {free / 1e6:.0f} MB free, the backup alone is {found.size_bytes / 1e6:.0f} MB",
            remedy="make room on the server",
        )
    ]


def _restore(run: Run, found: Manifest) -> None:
    """Journal and fence know the side database's name before it is made."""
    admin, side = run.the_admin(), databases.name_of(run.id, "side")
    run.progress(StepName.RESTORE, f"restoring {found.id} into {side}")
    run.facts.copy_name = side
    _note(run)
    run.facts.copy_oid = databases.create_empty(admin, side, like=properties.read(admin, run.database))
    _note(run)
    for warning in stores.restore(run, found.id, side):
        run.warn(f"pg_restore: {warning}")


def _take_clone(run: Run, found: Manifest) -> None:
    with stores.of(run, StepName.RESTORE).opened(found.id) as folder:
        stores.clone(run).verify(stores.source(run), folder)
    if databases.oid_of(run.the_admin(), found.copy_name or "") != found.copy_oid:
        raise Refused(f"The copy of the backup {found.id} is not called {found.copy_name} any more: it is in use.")
    run.facts.copy_name, run.facts.copy_oid = found.copy_name, found.copy_oid
    _note(run)
    run.warn(f"The backup {found.id} is used up by this: its copy {found.copy_name} becomes the database.")


def _note(run: Run) -> None:
    run.save()
    oid = run.facts.copy_oid
    facts = {"copy": run.facts.copy_name or "", "copy_oid": "" if oid is None else str(oid)}
    fence.note(run.the_admin(), run.database, phase="restoring", way=Way.RESTORE.value, **facts)


def _forget_copy(run: Run) -> None:
    """No side database of this run is there. Safe to repeat. Raises: NotProven when it does not go."""
    facts = run.facts
    side = databases.name_of(run.id, "side")
    try:
        databases.drop(run.the_admin(), side, oid=facts.copy_oid if facts.copy_name == side else None)
        if facts.copy_name not in (None, side) and databases.oid_of(run.the_admin(), facts.copy_name or ""):
            databases.reopen(run.the_admin(), facts.copy_name or "")  # a swap that was cut short had closed it
    except MigratorError as error:
        raise NotProven(
            f"The restored copy {side} could not be dropped: {error.message}",
            hint=f"The database was not touched. End what holds the copy, then: migrator resume {run.id}",
        ) from error
    facts.copy_name, facts.copy_oid = None, None
    run.save()
