"""Backups: what is kept of a database before it is changed, and how it comes back beside the original.

A backup is a folder of its own with a manifest that is written last (`manifest.py`). Its kind decides what else is in
it: the files of pg_dump, or nothing but the name of a copy on the same server.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from migrator.config.login import Login
from migrator.postgres.session import Session

if TYPE_CHECKING:
    from migrator.backups.manifest import ExtensionState, FileEntry, Manifest


@dataclass(frozen=True, kw_only=True)
class Source:
    """The database that is backed up, and how it is reached."""

    login: Login  # to the database itself
    admin: Session  # on the maintenance database of the same server
    run_id: str
    snapshot: str | None = None  # exported by a transaction that stays open; None: the backup takes its own


@dataclass(frozen=True, kw_only=True)
class Made:
    """What a backup consists of: the part of its manifest that only the backup knows."""

    files: tuple[FileEntry, ...] = ()
    tools: dict[str, str]  # name -> version of what made it
    roles: tuple[str, ...] = ()
    extensions: tuple[ExtensionState, ...] = ()
    copy_name: str | None = None
    copy_oid: int | None = None
    warnings: tuple[str, ...] = ()
    facts: dict[str, str] = field(default_factory=dict)  # what the manifest is to hold beside the run's own


class Backup(Protocol):
    """One way of keeping a database."""

    @property
    def kind(self) -> str:
        """The word by which configuration and manifest name it."""
        ...

    def create(self, source: Source, folder: Path) -> Made:
        """The backup's artefacts are complete and on disk; its manifest is not written yet.

        `folder` exists and is the backup's own. What a failure leaves behind is quarantined or dropped; the hint
        says where. Raises: BackupFailed.
        """
        ...

    def verify(self, source: Source, folder: Path) -> Manifest:
        """The finished backup in `folder` is what its manifest says, as far as can be told without restoring it.

        Raises: BackupFailed naming every part that is not as it should be.
        """
        ...

    def restore(self, source: Source, folder: Path, into: str) -> tuple[str, ...]:
        """Another database, `into`, of the server that `source` names holds what was backed up. Returns warnings.

        The caller has made `into`, and it is empty. The backup is verified against its manifest first; `source`'s own
        database is not touched. Whether `into` is what the original was is for the caller to prove, by fingerprints.
        Raises: BackupFailed.
        """
        ...

    def delete(self, source: Source, folder: Path) -> None:
        """Nothing is left of the backup. Safe to repeat. Raises: BackupFailed."""
        ...
