"""The room that a folder of this machine has, or would have."""

from __future__ import annotations

import shutil
from pathlib import Path

from migrator.errors import BackupFailed


def existing(path: Path) -> Path:
    """The path, or the nearest folder above it that exists."""
    return next(one for one in (path.absolute(), *path.absolute().parents) if one.exists())


def free_bytes(path: Path) -> int:
    """What this user may still write to the file system where the path lies or would lie. Raises: BackupFailed."""
    folder = existing(path)
    try:
        return shutil.disk_usage(folder).free
    except OSError as error:
        raise BackupFailed(f"The free space of {folder} cannot be asked: {error.strerror}.") from error
