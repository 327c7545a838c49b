"""Backups in a folder of this machine, or of a file system that is mounted here."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from migrator.backups import manifest as manifests
from migrator.backups.manifest import Manifest
from migrator.backups.signing import PublicKeys, SigningKey
from migrator.errors import BackupFailed
from migrator.failpoints import Effect, effect

_PARTIAL = ".partial"
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*\Z")
_MAX_ID_CHARACTERS = 128


@dataclass(frozen=True, kw_only=True)
class Listed:
    """A folder of the store. Exactly one of `manifest` and `problem` is there."""

    id: str
    manifest: Manifest | None = None
    problem: str | None = None


@dataclass(frozen=True)
class LocalStore:
    """Backups under `root`; folders are 0700, files 0600."""

    root: Path
    public_keys: PublicKeys | None = None

    @effect(Effect.BACKUP_FOLDER)
    def new(self, backup_id: str) -> Path:
        """An empty folder for this backup. An unfinished one of the same id is quarantined first.

        Raises: BackupFailed when a finished one is there, or the folder cannot be made.
        """
        folder = self.path(backup_id)
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            if (folder / manifests.FILE_NAME).exists():
                raise BackupFailed(f"The store {self.root} already has a backup {backup_id}.")
            if folder.exists():
                quarantine(folder)
            folder.mkdir(mode=0o700)
        except OSError as error:
            raise BackupFailed(
                f"The backup folder {folder} cannot be made: {error.strerror or error}.",
                hint="Check that backup.store names a folder that this user may write.",
            ) from error
        return folder

    def path(self, backup_id: str) -> Path:
        """The folder of this backup, whether it is there or not.

        Raises: BackupFailed for an id that cannot be one.
        """
        if not _ID.match(backup_id) or len(backup_id) > _MAX_ID_CHARACTERS or backup_id.endswith(_PARTIAL):
            raise BackupFailed(
                f"{backup_id!r} is not the id of a backup.", hint="It is the name of a folder in backup.store."
            )
        return self.root / backup_id

    def publish(self, manifest: Manifest, key: SigningKey | None = None) -> Manifest:
        """The backup is finished: its manifest is written and synced. Returns it as written, signature included.

        Raises: BackupFailed.
        """
        return manifests.write(self.path(manifest.id), manifest, key)

    def read(self, backup_id: str) -> Manifest:
        """The manifest of this backup; files are there with their sizes, contents are not read.

        Raises: BackupFailed naming every file that is not as it should be, or the ids that there are.
        """
        folder = self.path(backup_id)
        if not folder.is_dir():
            known = ", ".join(item.id for item in self.listing()) or "none"
            raise BackupFailed(
                f"The store {self.root} has no backup {backup_id}; it has: {known}.", code="no_such_backup"
            )
        found = manifests.read(folder, self.public_keys)
        if found.id != backup_id:
            raise BackupFailed(f"The folder {folder} holds the backup {found.id}, not {backup_id}.")
        return found

    def verify(self, backup_id: str, *, jobs: int = 2) -> Manifest:
        """Every byte of this backup has been read and is what its manifest says.

        Raises: BackupFailed naming every file that is not as it should be.
        """
        self.read(backup_id)
        return manifests.verify(self.path(backup_id), self.public_keys, jobs=jobs)

    def listing(self) -> tuple[Listed, ...]:
        """Every backup, the oldest first, then what does not count as one, and why.

        Raises: BackupFailed when the store cannot be read.
        """
        good, bad = [], []
        try:
            folders = sorted(path for path in self.root.iterdir() if path.is_dir()) if self.root.exists() else []
        except OSError as error:
            raise BackupFailed(f"The backup store {self.root} cannot be read: {error.strerror}.") from error
        for folder in folders:
            if folder.name.startswith("."):
                continue
            try:
                good.append(self.read(folder.name))
            except BackupFailed as error:
                partial = _PARTIAL in folder.name
                problem = "it was never finished" if partial else error.message
                bad.append(Listed(id=folder.name, problem=problem))
        return (*(Listed(id=item.id, manifest=item) for item in manifests.created(good)), *bad)

    def list(self) -> tuple[Manifest, ...]:
        """The manifests of all finished and undamaged backups, the oldest first. See `listing` for the others."""
        return tuple(item.manifest for item in self.listing() if item.manifest is not None)

    def free_bytes(self) -> int:
        """What an ordinary user may still write to the store's file system; the store need not exist yet.

        Raises: BackupFailed.
        """
        folder = self.root.absolute()
        while not folder.exists() and folder != folder.parent:
            folder = folder.parent
        try:
            return shutil.disk_usage(folder).free
        except OSError as error:
            raise BackupFailed(f"The free space of {folder} cannot be asked: {error.strerror}.") from error


@effect(Effect.BACKUP_QUARANTINE)
def quarantine(folder: Path) -> str:
    """The unfinished backup in `folder` is kept as evidence under a name that no backup has; says where."""
    if not folder.exists():
        return f"There is no folder {folder}."
    target = folder.with_name(folder.name + _PARTIAL)
    number = 1
    while target.exists():
        number += 1
        target = folder.with_name(f"{folder.name}{_PARTIAL}.{number}")
    try:
        folder.rename(target)
    except OSError as error:
        return f"The unfinished backup {folder} could not be put aside: {error.strerror}."
    return f"The unfinished backup is kept as {target}."


@effect(Effect.BACKUP_REMOVE)
def remove(folder: Path) -> None:
    """The backup in `folder` is gone; its manifest went first, so that half of it never counts. Safe to repeat.

    Raises: OSError.
    """
    (folder / manifests.FILE_NAME).unlink(missing_ok=True)
    if folder.exists():
        shutil.rmtree(folder)
