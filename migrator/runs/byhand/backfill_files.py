"""The backfills of a project: every `*.backfill.toml` below liquibase.root, by name."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path

from migrator.backfills.definition import SUFFIX, Backfill, read
from migrator.config.names import did_you_mean
from migrator.errors import Place, Refused

_NOT_OURS = {"node_modules", "__pycache__", "build", "dist"}


def files(root: Path) -> Iterator[Path]:
    """Sorted by path; hidden folders, those of build tools and Python's environments are left out."""
    for folder, below, names in os.walk(root):
        if "pyvenv.cfg" in names:  # where migrator itself may be installed, with its sample
            below.clear()
            continue
        below[:] = sorted(one for one in below if not one.startswith(".") and one not in _NOT_OURS)
        yield from (Path(folder, name) for name in sorted(names) if name.endswith(SUFFIX))


def names(root: Path) -> list[str]:
    """What the files call themselves, without a look at the rest: for the shell's completion."""
    found: list[str] = []
    for file in files(root):
        try:
            name = tomllib.loads(file.read_text(encoding="utf-8")).get("name")
        except (OSError, ValueError):
            continue
        if isinstance(name, str):
            found.append(name)
    return sorted(set(found))


def chosen(root: Path, wanted: Sequence[str]) -> list[Backfill]:
    """The backfills of these names, in their order; of no name: all, in the order of their files.

    Raises: Refused, with the place, for a file that cannot be used, a name that none has, and one that two have.
    """
    everything = [(file, read(file, shown=_shown(file, root))) for file in files(root) if _is_wanted(file, wanted)]
    by_name: dict[str, tuple[Path, Backfill]] = {}
    for file, backfill in everything:
        other = by_name.setdefault(backfill.name, (file, backfill))
        if other[0] != file:
            raise Refused(
                f"{_shown(file, root)}: the backfill {backfill.name} is in {_shown(other[0], root)} too.",
                hint="The name is its identity in the database: give one of them another.",
                code="backfill_twice",
                place=Place(file=_shown(file, root)),
            )
    if not wanted:
        return [backfill for _, backfill in everything]
    for name in wanted:
        if name not in by_name:
            raise Refused(
                f"No file below {root} defines a backfill {name}.",
                hint=did_you_mean(name, names(root)) or f"A backfill is a file NAME{SUFFIX} beside its changelog.",
                code="no_backfill",
            )
    return [by_name[name][1] for name in dict.fromkeys(wanted)]


def _is_wanted(file: Path, wanted: Sequence[str]) -> bool:
    """A broken file of another backfill is not in the way; one that cannot even be parsed is told when it is meant."""
    if not wanted:
        return True
    try:
        return tomllib.loads(file.read_text(encoding="utf-8")).get("name") in wanted
    except (OSError, ValueError):
        return file.name.removesuffix(SUFFIX) in wanted


def _shown(file: Path, root: Path) -> str:
    return file.relative_to(root).as_posix()
