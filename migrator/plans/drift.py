"""Where a schema is no longer what it should be. Pure: it compares two fingerprints."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from fnmatch import fnmatchcase

from migrator.plans import own_tables
from migrator.postgres import ddl, schema_objects

_LISTED = re.compile(r"COLUMNS \((.*?)\)(?= |$)")
_OWNER = re.compile(rf"(?:^| )OWNER {schema_objects.PART}(?= \| |$)")
_RIGHTS = ("grants on ", "default privileges of ")
# what catches the writes of others while a backfill is at work comes and goes with it: `backfill status` tells of it
_CAPTURE = re.compile(r'(?:(?:grants|comment) on )?(?:trigger |function (?:"[^"]+"|\w+)\.)"?migrator_backfill_')
_ROWS = ("large objects",)  # written by applications: rows, not schema
_UNSEEN = "OPTIONS ()"  # what a login sees of a user mapping that is not its own


class Change(StrEnum):
    ADDED = "added"  # there, and not expected
    MISSING = "missing"  # expected, and not there
    CHANGED = "changed"


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One object that is not as expected, with the statements of each side. What belongs to it is among its parts."""

    identity: str  # `table public.orders`
    change: Change
    table: str | None  # that it is, or belongs to, qualified
    expected: str | None  # None: it is not expected
    found: str | None  # None: it is not there
    parts: tuple[str, ...] = ()  # identities that came or went with it

    @property
    def diff(self) -> list[str]:
        """Lines that begin with `-` (expected alone), `+` (found alone) or a space (both)."""
        expected, found = ((text or "").splitlines() for text in (self.expected, self.found))
        return [line for line in difflib.ndiff(expected, found) if not line.startswith("?")]


@dataclass(frozen=True, kw_only=True)
class Drift:
    """All differences, in order of the objects. Empty when there are none; then it is false."""

    differences: tuple[Difference, ...] = ()
    partitions: tuple[str, ...] = ()  # left out: that exist on one side alone, qualified
    ignored: tuple[str, ...] = ()  # left out: identities that differ and match a pattern

    def __bool__(self) -> bool:
        return bool(self.differences)

    def of(self, change: Change) -> list[Difference]:
        return [one for one in self.differences if one.change is change]

    def touching(self, identities: Collection[str], relations: Collection[str]) -> Drift:
        """The part of it that is about these objects, or about these tables (qualified names)."""
        kept = tuple(one for one in self.differences if one.identity in identities or one.table in relations)
        return replace(self, differences=kept)


@dataclass
class _Sides:
    """Both schemas, and what is found to differ between them."""

    expected: dict[str, str]
    found: dict[str, str]
    changes: dict[str, Change] = field(default_factory=dict)
    folded: dict[str, str] = field(default_factory=dict)  # identity -> that in whose difference it is told
    parents: dict[str, str] = field(default_factory=dict)  # qualified name of a partition -> that of its parent

    _by_relation: tuple[dict[str, dict[str, str]], ...] = ()

    def side(self, identity: str) -> dict[str, str]:
        return self.found if identity in self.found else self.expected

    def of_relation(self, relation: str | None) -> tuple[dict[str, str], dict[str, str]]:
        """What belongs to the relation, on each side."""
        if not self._by_relation:
            self._by_relation = tuple(_grouped(objects) for objects in (self.expected, self.found))
        expected, found = self._by_relation
        return expected.get(relation or "", {}), found.get(relation or "", {})


def _grouped(objects: Mapping[str, str]) -> dict[str, dict[str, str]]:
    grouped: dict[str, dict[str, str]] = {}
    for identity, line in objects.items():
        relation = schema_objects.relation_of(identity, objects)
        if relation is not None:
            grouped.setdefault(relation, {})[identity] = line
    return grouped


def compare(
    expected: Mapping[str, str], found: Mapping[str, str], *, ignore: Sequence[str] = (), owners: bool = True
) -> Drift:
    """How `found` differs from `expected`, each the objects of a schema fingerprint.

    Left out are Liquibase's own tables, what belongs to backfills, partitions that exist on one side alone, objects
    that match a pattern of `ignore` (by identity, by name, or by the table that they belong to), and without `owners`
    owners and privileges.
    """
    if expected == found:  # as it nearly always is
        return Drift()
    sides = _Sides(_comparable(expected, owners=owners), _comparable(found, owners=owners))
    partitions = _without_lone_partitions(sides)
    for identity in sorted(sides.expected.keys() | sides.found.keys()):
        before, after = sides.expected.get(identity), sides.found.get(identity)
        if before == after or _is_unseen(identity, before, after):
            continue
        sides.changes[identity] = (
            Change.ADDED if before is None else Change.MISSING if after is None else Change.CHANGED
        )
    ignored = [identity for identity in sides.changes if _matches(identity, sides, ignore)]
    for identity in ignored:
        del sides.changes[identity]
    _drop_what_others_tell(sides)
    parts: dict[str, list[str]] = {}
    for identity in sides.folded:
        parts.setdefault(_told_by(identity, sides.folded), []).append(identity)
    told = [identity for identity in sides.changes if identity not in sides.folded]
    return Drift(
        differences=tuple(_difference(identity, parts.get(identity, ()), sides) for identity in told),
        partitions=tuple(sorted(partitions)),
        ignored=tuple(ignored),
    )


def _comparable(objects: Mapping[str, str], *, owners: bool) -> dict[str, str]:
    return {
        identity: line if owners else _without_owner(identity, line)
        for identity, line in objects.items()
        if not identity.startswith(_ROWS)
        and (owners or not identity.startswith(_RIGHTS))
        and not _is_ledger(identity, objects)
        and _CAPTURE.match(identity) is None
    }


def _without_owner(identity: str, line: str) -> str:
    if identity.startswith(("view ", "materialized view ")):
        return _OWNER.sub("", line, count=1)
    found = list(_OWNER.finditer(line))
    return line[: found[-1].start()] if found and found[-1].end() == len(line) else line


def _is_ledger(identity: str, objects: Mapping[str, str]) -> bool:
    relation = schema_objects.relation_of(identity, objects)
    return relation is not None and own_tables.is_own(relation)


def _is_unseen(identity: str, before: str | None, after: str | None) -> bool:
    """Whether one of the logins could not see what it is."""
    return identity.startswith("user mapping for ") and _UNSEEN in (before, after)


def _matches(identity: str, sides: _Sides, patterns: Sequence[str]) -> bool:
    relation = schema_objects.relation_of(identity, sides.side(identity))
    inner = schema_objects.described_by(identity)
    names = [identity, schema_objects.name_of(identity), relation, inner]
    names += [schema_objects.name_of(inner)] if inner is not None else []
    return any(fnmatchcase(name, pattern) for pattern in patterns for name in names if name is not None)


def _without_lone_partitions(sides: _Sides) -> set[str]:
    """Partitions that one side alone has come and go at run time: they, and all that is theirs, are taken out."""
    expected, found = schema_objects.partitions(sides.expected), schema_objects.partitions(sides.found)
    lone: set[str] = set()
    for own, other, objects, others in (
        (expected, found, sides.expected, sides.found),
        (found, expected, sides.found, sides.expected),
    ):
        gone = {name for name in own.keys() - other.keys() if f"table {name}" not in others}
        theirs = [one for one in objects if schema_objects.relation_of(one, objects) in gone]
        for identity in theirs:
            del objects[identity]
        lone |= gone
    return lone


def _drop_what_others_tell(sides: _Sides) -> None:
    """An object whose difference follows from another's is no difference of its own."""
    sides.parents = schema_objects.partitions(sides.expected) | schema_objects.partitions(sides.found)
    for identity in list(sides.changes):
        if _says_nothing(identity, sides):
            del sides.changes[identity]
    for identity, change in sides.changes.items():
        teller = next((one for one in _tellers(identity, sides) if sides.changes.get(one) is change), None)
        if teller is not None:
            sides.folded[identity] = teller


def _says_nothing(identity: str, sides: _Sides) -> bool:
    """What another one speaks for: a table's list of columns, the columns of a view, a NOT NULL's constraint."""
    owner = schema_objects.owner_of(identity, sides.side(identity)) or ""
    if identity.startswith("column ") and owner.startswith(("view ", "materialized view ")):
        return owner in sides.changes
    before, after = sides.expected.get(identity), sides.found.get(identity)
    if before is not None and after is not None:
        lists = [_LISTED.search(line) for line in (before, after)]
        if None in lists or _LISTED.sub("", before, count=1) != _LISTED.sub("", after, count=1):
            return False
        orders = [re.findall(schema_objects.PART, found[1]) for found in lists if found is not None]
        common = set(orders[0]) & set(orders[1])
        return [one for one in orders[0] if one in common] == [one for one in orders[1] if one in common]
    column = _column_of_not_null(identity, before or after or "")
    if column is None:
        return False
    # Servers before 18 have no such constraint: what the column says is what counts.
    says = [
        re.search(r"\bNOT NULL\b", objects.get(column, "")) is not None for objects in (sides.expected, sides.found)
    ]
    return says[0] == says[1] or column in sides.changes


def _column_of_not_null(identity: str, line: str) -> str | None:
    found = re.fullmatch(rf"NOT NULL ({schema_objects.PART})", line)
    relation = re.search(rf" on ({schema_objects.QUALIFIED})$", identity)
    return f"column {relation[1]}.{found[1]}" if identity.startswith("constraint ") and found and relation else None


def _tellers(identity: str, sides: _Sides) -> Iterator[str]:
    """Objects in whose difference this one is told, when theirs is of the same kind."""
    objects = sides.side(identity)
    lone = sides.changes[identity] is not Change.CHANGED
    relation = schema_objects.relation_of(identity, objects)
    if lone:
        if (owner := schema_objects.owner_of(identity, objects)) is not None:
            yield owner
        if (described := schema_objects.described_by(identity)) is not None:
            yield described
            if "(" in described:  # a function: its arguments have names in the one, and none in the other
                yield from (one for one in sides.changes if one.startswith(f"{described.partition('(')[0]}("))
    if identity.startswith("index "):
        if (constraint := ddl.constraint_of_index(identity, objects)) is not None:
            yield constraint
        if found := re.search(rf" PARTITION OF ({schema_objects.QUALIFIED})", objects[identity]):
            yield f"index {found[1]}"
    if (
        identity.startswith("sequence ")
        and (column := schema_objects.column_of_sequence(objects[identity])) is not None
    ):
        yield column[0]
    parent = sides.parents.get(relation or "")
    if relation is not None and parent is not None:  # what was done to the parent was done to its partitions
        yield _of_parent(identity, relation, parent)


def _of_parent(identity: str, relation: str, parent: str) -> str:
    if identity.startswith("column "):
        return f"column {parent}.{identity.removeprefix(f'column {relation}.')}"
    return f"{identity.removesuffix(f' on {relation}')} on {parent}"


def _difference(identity: str, parts: Sequence[str], sides: _Sides) -> Difference:
    change = sides.changes[identity]
    relation = schema_objects.relation_of(identity, sides.side(identity))

    def text(number: int) -> str | None:
        own, everything = sides.of_relation(relation)[number], (sides.expected, sides.found)[number]
        if identity not in everything:
            return None
        objects = {**own, **{one: everything[one] for one in (identity, *parts) if one in everything}}
        statements = [ddl.of(identity, objects)]
        statements += [ddl.of(one, objects) for one in parts if one in objects and _is_shown(one, identity, objects)]
        return "\n".join(statements)

    return Difference(
        identity=identity,
        change=change,
        table=relation,
        expected=text(0),
        found=text(1),
        parts=tuple(parts),
    )


def _is_shown(part: str, identity: str, objects: Mapping[str, str]) -> bool:
    """Beside the object's own statements: what is neither inside them nor the same thing on a partition."""
    relation = schema_objects.relation_of(identity, objects)
    if schema_objects.relation_of(part, objects) != relation:
        return False
    if relation is not None and identity.endswith(f" {relation}") and " on " not in identity:
        return not ddl.is_inside(part, identity, objects)
    return not part.startswith("index ")


def _told_by(identity: str, folded: Mapping[str, str]) -> str:
    while identity in folded:
        identity = folded[identity]
    return identity
