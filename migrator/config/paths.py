"""Paths and patterns of the configuration, made absolute below migrator.toml's folder."""

from __future__ import annotations

import glob
from collections.abc import Iterable
from pathlib import Path

from migrator.config import references
from migrator.errors import ConfigError


def absolute(path: Path | str, base: Path) -> Path:
    """The path below `base` where it is relative, `~` included. It need not exist."""
    return (base / Path(path).expanduser()).absolute()


def matching(patterns: Iterable[Path], base: Path, *, where: str, shown: str | None = None) -> tuple[Path, ...]:
    """The files that the patterns name, sorted within each pattern, none twice.

    `shown` is how they stand in the file, where they hold references.

    Raises: ConfigError when one names no file: a check that is not found must not pass for one that held.
    """
    files: dict[Path, None] = {}
    for pattern in patterns:
        text = str(pattern.expanduser())
        if glob.has_magic(text):
            found = sorted(glob.glob(text, root_dir=base, recursive=True))
        else:
            found = [text] if (base / text).exists() else []
        matches = [path for path in (absolute(name, base) for name in found) if path.is_file()]
        if not matches:
            said = references.without_password(shown or str(pattern))
            raise ConfigError(f"{where}: no file matches {said!r}", hint=f"looked in {base}")
        files |= dict.fromkeys(matches)
    return tuple(files)
