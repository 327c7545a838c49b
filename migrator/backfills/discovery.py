"""The backfills that belong to a changelog: files beside it, each matched to the changeset that it follows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from migrator.backfills.definition import SUFFIX, Backfill, read
from migrator.config.names import did_you_mean
from migrator.errors import Place, Refused
from migrator.liquibase.models import Changeset


@dataclass(frozen=True, kw_only=True)
class Placed:
    """A backfill and the key of its changeset: path::id::author."""

    backfill: Backfill
    changeset: str


def beside(changelog: str, changesets: Sequence[Changeset], root: Path) -> list[Placed]:
    """Every `*.backfill.toml` in the folder of the changelog and of each file of its changesets.

    In the changelog's order; several after one changeset by their names. `changesets` are all of the changelog, those
    that have run too. Raises: Refused, with the place, for a file that cannot be used, two of one name, and a
    changeset that is not there or could be several.
    """
    found = [(file, read(root / file, shown=file)) for file in files(root, [changelog, *_files(changesets)])]
    _refuse_twins(found)
    order = {changeset.key: number for number, changeset in enumerate(changesets)}
    placed = [Placed(backfill=backfill, changeset=_after(file, backfill, changesets)) for file, backfill in found]
    return sorted(placed, key=lambda one: (order[one.changeset], one.backfill.name))


def files(root: Path, changelogs: Iterable[str]) -> list[str]:
    """The files of backfills in these changelogs' folders, relative to the root; none that lies outside of it."""
    folders = dict.fromkeys(PurePosixPath(changelog).parent for changelog in changelogs)
    return sorted(
        {
            (folder / file.name).as_posix()
            for folder in folders
            for file in (root / folder).glob(f"*{SUFFIX}")
            if file.is_file() and file.resolve().is_relative_to(root.resolve())
        }
    )


def _files(changesets: Sequence[Changeset]) -> list[str]:
    return [changeset.file for changeset in changesets if changeset.file is not None]


def _refuse_twins(found: Sequence[tuple[str, Backfill]]) -> None:
    by_name: dict[str, str] = {}
    for file, backfill in found:
        other = by_name.setdefault(backfill.name, file)
        if other != file:
            raise Refused(
                f"{file}: the backfill {backfill.name} is in {other} too.",
                hint="The name is its identity in the database: give one of them another.",
                code="backfill_twice",
                place=Place(file=file),
            )


def _after(file: str, backfill: Backfill, changesets: Sequence[Changeset]) -> str:
    wanted = backfill.after.strip()
    matches = [one.key for one in changesets if wanted in _names(one)]
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise Refused(
            f"{file}: after: {wanted!r} could be {' or '.join(matches)}.",
            hint="Write it with its path: path::id::author.",
            code="backfill_ambiguous",
            place=Place(file=file),
        )
    short = [f"{one.id}::{one.author}" for one in changesets]
    raise Refused(
        f"{file}: after: the changelog holds no changeset {wanted!r}.",
        hint=did_you_mean(wanted, short if wanted.count("::") < 2 else [one.key for one in changesets])
        + " (a backfill of another changelog wants a folder with that one alone)",
        code="backfill_after",
        place=Place(file=file),
    )


def _names(changeset: Changeset) -> set[str]:
    short = f"{changeset.id}::{changeset.author}"
    paths = {changeset.path} | ({changeset.file} if changeset.file else set())
    return {short} | {f"{path}::{short}" for path in paths} | {f"{short}::{path}" for path in paths}
