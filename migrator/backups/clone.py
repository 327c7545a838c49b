"""A backup by a copy of the database on the same server: quick to make, and going back is a rename.

It shares the server's fate, so it is a companion of a backup elsewhere and no substitute for one.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from psycopg import sql

from migrator.backups import Made, Source, manifest
from migrator.backups.failures import tell, translated
from migrator.backups.manifest import Manifest
from migrator.backups.side import require_empty
from migrator.backups.signing import PublicKeys
from migrator.backups.store.local import quarantine, remove
from migrator.errors import BackupFailed, StepFailed
from migrator.failpoints import Effect, effect
from migrator.postgres import databases, properties, sessions
from migrator.postgres.session import Session
from migrator.postgres.transactions import LOCK_NOT_AVAILABLE, OBJECT_IN_USE, Deadline, sqlstate, statement, transaction

_MAX_NAME_BYTES = 63


@dataclass(frozen=True, kw_only=True)
class Clone:
    timeout_s: float = 3600.0  # for the copying
    wait_s: float = 30.0  # for sessions that do not go
    public_keys: PublicKeys | None = None

    @property
    def kind(self) -> str:
        return "clone"

    def create(self, source: Source, folder: Path) -> Made:
        """A database `mig_<run>_clone` holds what the source holds; it lets in only the login of `source.admin`.

        Every session on the source is ended, the run's own too. Safe to repeat: an earlier copy of this run that has
        no manifest is dropped first. Raises: BackupFailed, and there is no copy.
        """
        name = name_of(source.run_id)
        try:
            with translated(f"Copying {source.login.database} failed"):
                databases.drop(source.admin, name)
                owner = properties.read(source.admin, source.login.database).owner
                oid = databases.copy(
                    source.admin,
                    source.login.database,
                    name,
                    owner=owner,
                    timeout_s=self.timeout_s,
                    wait_s=self.wait_s,
                    oid=databases.unused_oid(source.admin),
                )
        except BaseException as error:
            tell(error, f"{_cleaned_up(source.admin, name)} {quarantine(folder)}")
            raise
        return Made(copy_name=name, copy_oid=oid, tools={})

    def verify(self, source: Source, folder: Path) -> Manifest:
        """The manifest in `folder` is whole and signed as it should be, and the copy that it names is on this server.

        Raises: BackupFailed.
        """
        found = manifest.read(folder, self.public_keys)
        with translated(f"Looking for the copy of the backup {found.id} failed"):
            _current_name(source.admin, found)
        return found

    def restore(self, source: Source, folder: Path, into: str) -> tuple[str, ...]:
        """The copy is called `into`: the backup is used up. An empty database of that name gives way.

        Safe to repeat. Raises: BackupFailed, and the copy has the name that it had.
        """
        found = self.verify(source, folder)
        with translated(f"Bringing the copy of {found.database} back as {into} failed"):
            name = _current_name(source.admin, found)
            if name == into:
                return ()
            if name == found.database:
                raise BackupFailed(f"The backup {found.id} is in use: its copy is the database {name} by now.")
            there = databases.oid_of(source.admin, into)
            if there is not None:
                require_empty(source, into)
                databases.drop(source.admin, into, oid=there)
            self._rename(source.admin, name, into)
        return ()

    def delete(self, source: Source, folder: Path) -> None:
        """Neither the copy nor its folder is there any more. Safe to repeat.

        Raises: BackupFailed, also where the copy has become the database itself.
        """
        if not folder.exists():
            return
        found = manifest.read(folder, self.public_keys)
        with translated(f"Dropping the copy of the backup {found.id} failed"):
            name = _name_by_oid(source.admin, found)
            if name is not None and name != found.copy_name:
                raise BackupFailed(f"The copy of the backup {found.id} is the database {name} by now; it is kept.")
            if name is not None:
                databases.drop(source.admin, name, oid=found.copy_oid)
            remove(folder)

    @effect(Effect.DATABASE_RENAME)
    def _rename(self, admin: Session, name: str, new_name: str) -> None:
        deadline = Deadline(self.wait_s)
        while True:
            for session in sessions.foreign(admin, name, own_run=None):
                sessions.end_foreign(admin, name, session.pid, own_run=None)
            try:
                with transaction(admin):
                    admin.execute(
                        statement("ALTER DATABASE {} RENAME TO {}", sql.Identifier(name), sql.Identifier(new_name))
                    )
                return
            except StepFailed as error:
                if sqlstate(error) not in (OBJECT_IN_USE, LOCK_NOT_AVAILABLE) or deadline.passed:
                    raise
            deadline.pause()


def name_of(run_id: str) -> str:
    """The name of a run's copy. Raises: BackupFailed when PostgreSQL would cut it off."""
    name = f"mig_{run_id}_clone"
    if len(name.encode()) > _MAX_NAME_BYTES:
        raise BackupFailed(f"The database name {name} is longer than {_MAX_NAME_BYTES} bytes.")
    return name


def _name_by_oid(admin: Session, found: Manifest) -> str | None:
    if found.copy_oid is None:
        raise BackupFailed(f"The backup {found.id} is a {found.kind} and has no copy on the server.")
    names = admin.rows(statement("SELECT datname FROM pg_database WHERE oid = {}", sql.Literal(found.copy_oid)))
    return names[0][0] if names else None


def _current_name(admin: Session, found: Manifest) -> str:
    name = _name_by_oid(admin, found)
    if name is None:
        raise BackupFailed(
            f"The copy {found.copy_name} of the backup {found.id} is not on this server any more.",
            hint="Take another backup of backup.store.",
            code="backup_damaged",
        )
    return name


def _cleaned_up(admin: Session, name: str) -> str:
    try:
        databases.drop(admin, name)
    except StepFailed as error:
        return f"The copy {name} could not be dropped: {error.message}"
    return f"There is no copy {name}."
