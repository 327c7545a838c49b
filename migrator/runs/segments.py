"""A run with backfills is applied in segments, so that what takes the old rows away never comes first.

Each segment is changesets that Liquibase executes in one go, the backfills that must be proven right before them, and
those that are done right after them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from migrator.runs.facts import Planned


@dataclass(frozen=True, kw_only=True)
class Segment:
    changesets: tuple[Planned, ...] = ()
    requires: tuple[str, ...] = ()  # backfills that are looked at right before
    moves: tuple[str, ...] = ()  # backfills that are done right after; in a rollback undone


def of(
    planned: Sequence[Planned], moves: Mapping[str, str], requires: Mapping[str, Sequence[str]] | None = None
) -> list[Segment]:
    """The segments, in order. `moves`: backfill -> key of the changeset that it follows; `requires`: key -> backfills.

    A backfill whose changeset ran long ago comes first of all.
    """
    required = requires or {}
    keys = {_key(one) for one in planned}
    early = tuple(name for name, after in moves.items() if after not in keys)
    found = [Segment(moves=early)] if early else []
    part: list[Planned] = []
    needs: tuple[str, ...] = ()
    for one in planned:
        if required.get(_key(one)):
            if part:
                found.append(Segment(changesets=tuple(part), requires=needs))
            part, needs = [], tuple(required[_key(one)])
        part.append(one)
        after = tuple(name for name, key in moves.items() if key == _key(one))
        if after:
            found.append(Segment(changesets=tuple(part), requires=needs, moves=after))
            part, needs = [], ()
    if part:
        found.append(Segment(changesets=tuple(part), requires=needs))
    return found


def back(undone: Sequence[Planned], moves: Mapping[str, str]) -> list[Segment]:
    """The same for the way back. `undone`: newest first; a backfill is undone before the changeset that it follows.

    One whose changeset is not among them comes last of all.
    """
    keys = {_key(one) for one in undone}
    found: list[Segment] = []
    part: list[Planned] = []
    for one in undone:
        before = tuple(name for name, key in reversed(list(moves.items())) if key == _key(one))
        if before:
            found.append(Segment(changesets=tuple(part), moves=before))
            part = []
        part.append(one)
    late = tuple(name for name, key in reversed(list(moves.items())) if key not in keys)
    if part or late:
        found.append(Segment(changesets=tuple(part), moves=late))
    return found


def _key(one: Planned) -> str:
    return "::".join(one.key)
