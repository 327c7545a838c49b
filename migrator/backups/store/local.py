"""Backups in a folder of this machine, or of a file system that is mounted here."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from migrator.backups import failures
from migrator.backups import manifest as manifests
from migrator.backups.manifest import Manifest
from migrator.backups.signing import PublicKeys, SigningKey
from migrator.backups.store import PARTIAL, Listed, require_id, room, unknown
from migrator.errors import BackupFailed
from migrator.failpoints import Effect, effect


@dataclass(frozen=True)
class LocalStore:
    """Backups under `root`; folders are 0700, files 0600."""

    root: Path
    public_keys: PublicKeys | None = None

    @property
    def place(self) -> str:
        return str(self.root)

    def location(self, backup_id: str) -> str:
        """Raises: BackupFailed for an id that cannot be one."""
        return str(self.path(backup_id))

    def check(self) -> None:
        """Nothing is asked: the folder is made, or refused, when the first backup is."""

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
        return self.root / require_id(backup_id)

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
            raise unknown(backup_id, str(self.root), self.listing())
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
                partial = PARTIAL in folder.name
                problem = "it was never finished" if partial else error.message
                bad.append(Listed(id=folder.name, problem=problem))
        return (*(Listed(id=item.id, manifest=item) for item in manifests.created(good)), *bad)

    def list(self) -> tuple[Manifest, ...]:
        """The manifests of all finished and undamaged backups, the oldest first. See `listing` for the others."""
        return tuple(item.manifest for item in self.listing() if item.manifest is not None)

    @contextmanager
    def opened(self, backup_id: str) -> Iterator[Path]:
        """The folder itself, whether it is there or not."""
        yield self.path(backup_id)

    def quarantine(self, backup_id: str) -> str:
        """What is there of this backup is kept under a name that no backup has; says where. Safe to repeat."""
        return quarantine(self.path(backup_id))

    def locked_until(self, backup_id: str) -> datetime | None:  # noqa: ARG002
        """A folder locks nothing."""
        return None

    def delete(self, backup_id: str) -> None:
        """The backup is gone, its manifest first. Safe to repeat. Raises: BackupFailed."""
        with failures.translated(f"Deleting {backup_id} failed"):
            remove(self.path(backup_id))

    def free_bytes(self) -> int:
        """What an ordinary user may still write to the store's file system; the store need not exist yet.

        Raises: BackupFailed.
        """
        return room.free_bytes(self.root)


@effect(Effect.BACKUP_QUARANTINE)
def quarantine(folder: Path) -> str:
    """The unfinished backup in `folder` is kept as evidence under a name that no backup has; says where."""
    if not folder.exists():
        return f"There is no folder {folder}."
    target = folder.with_name(folder.name + PARTIAL)
    number = 1
    while target.exists():
        number += 1
        target = folder.with_name(f"{folder.name}{PARTIAL}.{number}")
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
