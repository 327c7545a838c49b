"""Where backups lie, each under its id: in a folder, or in a bucket of S3. The manifest comes last."""

from __future__ import annotations

import re
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from migrator.backups.records import Manifest
from migrator.backups.signing import SigningKey
from migrator.errors import BackupFailed

PARTIAL = ".partial"
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*\Z")
_MAX_ID_CHARACTERS = 128


@dataclass(frozen=True, kw_only=True)
class Listed:
    """What lies in a store under one id. Exactly one of `manifest` and `problem` is there."""

    id: str
    manifest: Manifest | None = None
    problem: str | None = None


class Store(Protocol):
    """A place for backups. The files of one are made in a folder of this machine and published from there."""

    @property
    def place(self) -> str:
        """Where it is: a folder, or s3://bucket/prefix."""
        ...

    def location(self, backup_id: str) -> str:
        """Where this backup is, or would be. Raises: BackupFailed for an id that cannot be one."""
        ...

    def check(self) -> None:
        """The store can be used as it is configured. Changes nothing. Raises: BackupFailed with the remedy."""
        ...

    def new(self, backup_id: str) -> Path:
        """An empty folder of this machine for the files of this backup; an unfinished one of its id is out of the way.

        Raises: BackupFailed when a finished one is there.
        """
        ...

    def publish(self, manifest: Manifest, key: SigningKey | None = None) -> Manifest:
        """The backup is finished: its files are in the store, then its manifest. Returns it with its signature.

        Raises: BackupFailed.
        """
        ...

    def read(self, backup_id: str) -> Manifest:
        """The manifest of this backup; its files are there with their sizes, contents are not read.

        Raises: BackupFailed naming every file that is not as it should be, or the ids that there are.
        """
        ...

    def verify(self, backup_id: str, *, jobs: int = 2) -> Manifest:
        """Every byte of this backup has been read and is what its manifest says.

        Raises: BackupFailed naming every file that is not as it should be.
        """
        ...

    def opened(self, backup_id: str) -> AbstractContextManager[Path]:
        """A folder of this machine with the whole of this backup, as long as the block lasts. Raises: BackupFailed."""
        ...

    def listing(self) -> tuple[Listed, ...]:
        """Every backup, the oldest first, then what does not count as one, and why.

        Raises: BackupFailed when the store cannot be read.
        """
        ...

    def list(self) -> tuple[Manifest, ...]:
        """The manifests of all finished and undamaged backups, the oldest first. Raises: BackupFailed."""
        ...

    def free_bytes(self) -> int | None:
        """What may still be written on this machine to make a backup; None where nothing is. Raises: BackupFailed."""
        ...

    def quarantine(self, backup_id: str) -> str:
        """What an unfinished backup has left behind does not count as one, and is out of the way; says how.

        Safe to repeat. A finished one of this id is out of the way too.
        """
        ...

    def locked_until(self, backup_id: str) -> datetime | None:
        """Until when the store itself keeps this backup from being deleted. Raises: BackupFailed."""
        ...

    def delete(self, backup_id: str) -> None:
        """The backup is gone, its manifest first. Safe to repeat. Raises: BackupFailed."""
        ...


def require_id(backup_id: str) -> str:
    """The id, which can be one. Raises: BackupFailed."""
    if not _ID.match(backup_id) or len(backup_id) > _MAX_ID_CHARACTERS or backup_id.endswith(PARTIAL):
        raise BackupFailed(
            f"{backup_id!r} is not the id of a backup.", hint="It is the name of a folder in backup.store."
        )
    return backup_id


def unknown(backup_id: str, place: str, listed: tuple[Listed, ...]) -> BackupFailed:
    """The error for an id under which nothing lies."""
    known = ", ".join(item.id for item in listed) or "none"
    return BackupFailed(f"The store {place} has no backup {backup_id}; it has: {known}.", code="no_such_backup")
