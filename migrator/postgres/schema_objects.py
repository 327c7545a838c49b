"""What the objects of a schema fingerprint are called, and which of them belong to a table.

A fingerprint maps an object's identity (`index public.orders_pkey`) to its definition, on one line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

PART = r'(?:"(?:[^"]|"")+"|[^\s".(),]+)'
QUALIFIED = rf"{PART}\.{PART}"
RELATIONS = ("table", "view", "materialized view", "foreign table")
_OWNERS = (*RELATIONS, "type")
_KINDS = (
    *RELATIONS,
    "event trigger",
    "foreign data wrapper",
    "user mapping for",
    "operator family",
    "operator class",
    "access method",
    "text search configuration",
    "text search dictionary",
    "text search parser",
    "text search template",
    "transform for",
    "comment on",
    "grants on",
    "security label of",
    "default privileges of",
    "enforcement of",
    "large objects",
)
_ABOUT = re.compile(rf"(?:comment on|grants on|security label of {PART} on) ")
_HANGS_ON = re.compile(rf"(?:constraint|trigger|rule|policy|enforcement of) .* on ({QUALIFIED})$")
_COLUMN = re.compile(rf"(?:(?:table|view|materialized view|foreign table) )?column ({QUALIFIED})\.{PART}$")
_OF_PUBLICATION = re.compile(rf" of table ({QUALIFIED})$")
_OWNED_BY = re.compile(rf"\b(OWNED BY|IDENTITY OF) ({QUALIFIED})\.({PART})")
_NAMED_IN = {
    "index ": re.compile(rf" ON (?:ONLY )?({QUALIFIED}) USING "),
    "sequence ": re.compile(rf"\b(?:OWNED BY|IDENTITY OF) ({QUALIFIED})\.{PART}"),
    "statistics ": re.compile(rf" FROM ({QUALIFIED})(?: |$)"),
}
_PARTITION_OF = re.compile(rf"(?:^|\) |UNLOGGED )PARTITION OF ({QUALIFIED})")


def kind_of(identity: str) -> str:
    """The words that an identity begins with: table, index, text search parser, ..."""
    return next((kind for kind in _KINDS if identity.startswith(f"{kind} ")), identity.partition(" ")[0])


def name_of(identity: str) -> str:
    """An identity without the words of its kind: public.orders, orders_pkey on public.orders."""
    return identity.removeprefix(kind_of(identity)).strip()


def relation_of(identity: str, objects: Mapping[str, str]) -> str | None:
    """The qualified name of the table, view or composite type that the object is, or belongs to; else None."""
    inner = _ABOUT.sub("", identity, count=1)
    if inner.startswith(("table constraint ", "domain constraint ")):
        inner = inner.partition(" ")[2]
    for kind in _OWNERS:
        if inner.startswith(f"{kind} ") and not inner.startswith(f"{kind} column "):
            return inner.removeprefix(f"{kind} ")
    for pattern in (_COLUMN, _HANGS_ON):
        if found := pattern.match(inner):
            return found[1]
    if inner.startswith("publication "):
        found = _OF_PUBLICATION.search(inner)
    else:  # its definition names the table
        found = next(
            (p.search(objects.get(inner, "")) for kind, p in _NAMED_IN.items() if inner.startswith(kind)), None
        )
    return found[1] if found else None


def owner_of(identity: str, objects: Mapping[str, str]) -> str | None:
    """The identity of the table, view or composite type that the object belongs to; None for what stands alone."""
    relation = relation_of(identity, objects)
    for kind in _OWNERS:
        owner = f"{kind} {relation}"
        if relation is not None and owner in objects and owner != identity:
            return owner
    return None


def described_by(identity: str) -> str | None:
    """The identity of what a comment, a grant or a label is about; None for everything else."""
    if not _ABOUT.match(identity):
        return None
    return re.sub(r"^(?:[a-z ]+ )?(?=column |constraint )", "", _ABOUT.sub("", identity, count=1))


def column_of_sequence(line: str) -> tuple[str, bool] | None:
    """`column schema.table.name` of what the sequence serves, and whether as its identity; None for a free one."""
    found = _OWNED_BY.search(line)
    return None if found is None else (f"column {found[2]}.{found[3]}", found[1] == "IDENTITY OF")


def partitions(objects: Mapping[str, str]) -> dict[str, str]:
    """Qualified name of every partition -> that of what it is a partition of."""
    return dict(_partitions(objects))


def _partitions(objects: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for identity, line in objects.items():
        if identity.startswith(("table ", "foreign table ")) and (found := _PARTITION_OF.search(line)):
            yield name_of(identity), found[1]
