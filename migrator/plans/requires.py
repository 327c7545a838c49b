"""Backfills that a changeset cannot do without: `migrator:requires NAME` in a comment of it, in any format."""

from __future__ import annotations

import re
from collections.abc import Sequence

from migrator.errors import Place, Refused
from migrator.liquibase.models import Changeset
from migrator.plans.findings.places import Places
from migrator.plans.findings.suppression import IN_COMMENT

_WORD = "migrator:requires"
_REQUIRES = re.compile(
    r"(?P<before>[^\n]*?)\bmigrator:requires\b(?:[ \t]+(?P<names>\w[\w-]*(?:[ \t]*,[ \t]*\w[\w-]*)*))?"
)


def of(changesets: Sequence[Changeset], places: Places) -> dict[str, tuple[str, ...]]:
    """Key of a changeset -> the names of the backfills that it requires; those without one are left out.

    Raises: Refused, with the place, for a comment that names none.
    """
    found = {changeset.key: _of(changeset, places) for changeset in changesets}
    return {key: names for key, names in found.items() if names}


def _of(changeset: Changeset, places: Places) -> tuple[str, ...]:
    """By the changeset's own comment, which every format has, and by comments in its text, where a format has them."""
    names: dict[str, None] = {}
    text, first = (changeset.comment or ""), places.line_of(changeset)
    names |= dict.fromkeys(_read(text, changeset, first, is_comment=True))
    if (changeset.file or "").lower().endswith(".json"):
        return tuple(names)
    text, first = places.text_of(changeset)
    if _WORD in text:
        names |= dict.fromkeys(_read(text, changeset, first))
    return tuple(names)


def _read(text: str, changeset: Changeset, first: int | None, *, is_comment: bool = False) -> list[str]:
    names: list[str] = []
    for match in _REQUIRES.finditer(text):
        if not is_comment and IN_COMMENT.search(match["before"]) is None:
            continue
        if match["names"] is None:
            line = None if first is None else first + text.count("\n", 0, match.start())
            where = f"{changeset.file}:{line}" if line is not None else changeset.key
            raise Refused(
                f"{where}: migrator:requires names no backfill.",
                hint="Write the name of the backfill behind it: migrator:requires NAME.",
                code="requires_nothing",
                place=Place(changeset=changeset.key, file=changeset.file, line=line),
            )
        names += [name.strip() for name in match["names"].split(",")]
    return names
