"""The folder of this machine that dumps are made in before they go to a bucket, and fetched to from there."""

from __future__ import annotations

import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from migrator.backups import failures
from migrator.backups.store import PARTIAL, room
from migrator.errors import BackupFailed
from migrator.failpoints import Effect, doing


@dataclass(frozen=True)
class Spool:
    folder: Path

    def new(self, backup_id: str) -> Path:
        """An empty folder for the files of this backup. Raises: BackupFailed."""
        folder = self.folder / backup_id
        with failures.translated(f"Making the folder {folder} failed"), doing(Effect.BACKUP_FOLDER):
            folder.mkdir(mode=0o700, parents=True)
        return folder

    def require_room(self, needed: int) -> None:
        """Raises: BackupFailed where there is less room than that."""
        free = room.free_bytes(self.folder)
        if free < needed:
            raise BackupFailed(
                f"The backup has {needed / 1e6:.0f} MB, and {self.folder} has {free / 1e6:.0f} MB free to fetch it to.",
                hint="make room, or restore from a machine that has it",
                code="disk_full",
            )

    def forget(self, backup_id: str) -> None:
        """Nothing of this backup is left here. Safe to repeat."""
        with suppress(OSError), doing(Effect.BACKUP_REMOVE):
            shutil.rmtree(self.folder / backup_id, ignore_errors=True)
            for left in self.folder.glob(f"{backup_id}{PARTIAL}*"):
                shutil.rmtree(left, ignore_errors=True)
