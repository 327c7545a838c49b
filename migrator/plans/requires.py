"""Backfills that a changeset cannot do without: `migrator:requires NAME` in a comment of it, in any format."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import get_close_matches

from migrator.errors import Place, Refused
from migrator.liquibase.models import Changeset
from migrator.plans.findings.places import Places
from migrator.plans.findings.suppression import IN_COMMENT

_REQUIRES, _ALLOW = "migrator:requires", "migrator:allow"  # the latter is read where findings are suppressed
_ANY = re.compile(
    r"(?<![\w./@])(?P<said>migrator[ \t]*:[ \t]*[a-z][\w-]*)(?P<rest>(?:(?!\bmigrator[ \t]*:)[^\n])*)", re.IGNORECASE
)
_NAMES = re.compile(r"[ \t]+(?P<names>\w[\w-]*(?:[ \t]*,[ \t]*\w[\w-]*)*)[ \t]*(?P<behind>.*)")
_END = re.compile(r"$|-->|\*/|</|[\"'][\s,}\]]*$")
_BLOCKS = (("/*", "*/"), ("<!--", "-->"))
_HEADER = re.compile(r"^\s*--\s*changeset\b", re.IGNORECASE)  # in which migrator may be the author


def of(changesets: Sequence[Changeset], places: Places) -> dict[str, tuple[str, ...]]:
    """Key of a changeset -> the names of the backfills that it requires; those without one are left out.

    Raises: Refused, with the place, for a comment that names none, or says anything but names; and for one that says
    something else to migrator, which may have been meant as a gate.
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
    return tuple(names | dict.fromkeys(_read(text, changeset, first)))


def _read(text: str, changeset: Changeset, first: int | None, *, is_comment: bool = False) -> list[str]:
    names: list[str] = []
    for match in _ANY.finditer(text):
        before = text[text.rfind("\n", 0, match.start()) + 1 : match.start()]
        if not is_comment and (not _is_comment(text, match.start(), before) or _HEADER.search(before)):
            continue
        line = None if first is None else first + text.count("\n", 0, match.start())
        place = Place(changeset=changeset.key, file=changeset.file, line=line)
        if match["said"] not in {_REQUIRES, _ALLOW}:
            raise _refused_word(match["said"], place)
        if match["said"] == _REQUIRES:
            names += _named(match["rest"], text[match.end() :], place)
    return names


def _is_comment(text: str, at: int, before: str) -> bool:
    """By what stands before it on its line, or where a comment of several lines has begun."""
    opened = (text.rfind(begin, 0, at) > text.rfind(end, 0, at) for begin, end in _BLOCKS)
    return IN_COMMENT.search(before) is not None or any(opened)


def _named(rest: str, after: str, place: Place) -> list[str]:
    """The names behind the word, which are all that stands there. Raises: Refused."""
    match = _NAMES.match(rest.rstrip())
    if match is None:
        raise Refused(
            f"{_where(place)}: {_REQUIRES} names no backfill.",
            hint=f"Write the name of the backfill behind it: {_REQUIRES} NAME.",
            code="requires_nothing",
            place=place,
        )
    is_end = _END.match(match["behind"]) is not None
    if not is_end or (not match["behind"] and after.lstrip(" \t\r\n*#-").startswith(",")):
        found = match["behind"].strip() or ","
        raise Refused(
            f"{_where(place)}: {_REQUIRES} {match['names']} is followed by {found!r}, and it is not clear whether that "
            "is required, too.",
            hint=f"Write the names on one line, with commas between, and nothing behind them: {_REQUIRES} NAME, NAME.",
            code="requires_more",
            place=place,
        )
    return [name.strip() for name in match["names"].split(",")]


def _refused_word(said: str, place: Place) -> Refused:
    word = said.partition(":")[2].strip().lower()
    known = {one.partition(":")[2]: one for one in (_REQUIRES, _ALLOW)}
    meant = known.get(next(iter(get_close_matches(word, known)), ""))
    either = f"Write it as {meant}" if meant else f"Write {_REQUIRES} NAME, or {_ALLOW} RULE and the reason"
    return Refused(
        f"{_where(place)}: {said!r} is nothing that migrator knows, so it would be no gate.",
        hint=f"{either}; in a comment that is meant for people, leave out the colon behind migrator.",
        code="comment_unknown",
        place=place,
    )


def _where(place: Place) -> str:
    return f"{place.file}:{place.line}" if place.line is not None else str(place.changeset)
