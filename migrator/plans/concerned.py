"""The part of a schema that a set of changesets touches: what has to be the same for what was seen there to hold here.

Generous where the changesets name something, and silent on all else:

- what bears a name that stands in the changesets, and all that hangs on such a table: columns, indexes, constraints,
  triggers and their functions, sequences, foreign keys of others that refer to it, views that read it;
- the types and domains that these are made of, and what those are made of: their labels, attributes and constraints;
- not its partitions, which come and go by themselves, unless one is named itself;
- not owners, privileges and comments, which differ between environments and change no row;
- not the tables in which Liquibase and backfills write down what was done.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from migrator.plans import impact, own_tables
from migrator.postgres import schema_objects
from migrator.postgres.schema_objects import PART, QUALIFIED

_TABLE_KINDS = tuple(f"{kind} " for kind in schema_objects.RELATIONS)
_LEFT_OUT = ("grants on ", "default privileges of ", "comment on ", "security label of ", "large objects")
# What names a table and yet stands for itself: it touches no row, or differs between environments.
_STANDS_FOR_ITSELF = ("type ", "statistics ", "publication ")
_OWNER = re.compile(rf"\s*\bOWNER {PART}$")
_REFERENCES = re.compile(rf"\bREFERENCES ({QUALIFIED})\(")
_CALLS = re.compile(rf"\bEXECUTE FUNCTION ({QUALIFIED})\(")
_MULTIRANGE = re.compile(rf" MULTIRANGE ({QUALIFIED})")
_ON_DOMAIN = re.compile(rf" on domain ({QUALIFIED})$")
_TYPE_KINDS = ("type ", "domain ")
_NAME = re.compile(rf"{QUALIFIED}|{PART}")


def objects(schema: Mapping[str, str], words: Collection[str]) -> dict[str, str]:
    """Identity -> definition of every object of the schema that the changesets with these words touch, in order.

    `schema` is that of a SchemaFingerprint, `words` are the identifiers in the changesets, folded.
    """
    known = frozenset(words)
    tables = {
        identity.removeprefix(kind): line
        for identity, line in schema.items()
        for kind in _TABLE_KINDS
        if identity.startswith(kind)
    }
    partitions = set(schema_objects.partitions(schema))
    named = {name for name in tables if impact.bare(name) in known and not own_tables.is_own(name)}
    apart = {name for name in tables if own_tables.is_own(name)} | (partitions - named)
    bares = {impact.bare(name) for name in named}
    hanging = [line for identity, line in schema.items() if _table_of(identity, schema) in named]
    called = {function for line in hanging for function in _CALLS.findall(line)}
    types = _types(schema, known, hanging)
    return {
        identity: _OWNER.sub("", line)
        for identity, line in sorted(schema.items())
        if not identity.startswith(_LEFT_OUT)
        and (
            _is_of_type(identity, types)
            or _is_touched(identity, schema, known=known, named=named, apart=apart, bares=bares, called=called)
        )
    }


def _types(schema: Mapping[str, str], known: Collection[str], using: Collection[str]) -> set[str]:
    """The types and domains that are named, or stand in these definitions; and what they are made of themselves."""
    made_of: dict[str, list[str]] = {
        identity.partition(" ")[2]: [line] for identity, line in schema.items() if identity.startswith(_TYPE_KINDS)
    }
    if not made_of:
        return set()
    called = {name: name for name in made_of}
    called |= {found: name for name, [line] in made_of.items() for found in _MULTIRANGE.findall(line)}
    for identity, line in schema.items():  # attributes of composite types
        if identity.startswith("column ") and (owner := _table_of(identity, schema)) in made_of:
            made_of[owner].append(line)
    longest_first = sorted(called, key=len, reverse=True)
    pattern = re.compile(rf'(?<![\w$".])(?:{"|".join(map(re.escape, longest_first))})(?![\w$"])')

    def names_in(lines: Collection[str]) -> set[str]:
        return {called[found] for line in lines for found in pattern.findall(line)}

    found: set[str] = set()
    new = {name for name in made_of if impact.bare(name) in known} | names_in(using)
    while new:
        found |= new
        new = {inner for name in new for inner in names_in(made_of[name])} - found
    return found


def _is_of_type(identity: str, types: Collection[str]) -> bool:
    """Whether the object is one of these types, an attribute of one, or a domain's constraint."""
    if identity.startswith(_TYPE_KINDS):
        return identity.partition(" ")[2] in types
    if identity.startswith("column "):
        return schema_objects.relation_of(identity, {}) in types
    on_domain = _ON_DOMAIN.search(identity) if identity.startswith("constraint ") else None
    return on_domain is not None and on_domain[1] in types


def _is_touched(
    identity: str,
    schema: Mapping[str, str],
    *,
    known: Collection[str],
    named: Collection[str],
    apart: Collection[str],
    bares: Collection[str],
    called: Collection[str],
) -> bool:
    table, line = _table_of(identity, schema), schema[identity]
    if table in apart:
        return False
    if table in named or any(found in named for found in _REFERENCES.findall(line)):
        return True
    if identity.startswith(("view ", "materialized view ")):
        return bool(impact.identifiers(line) & set(bares))
    if identity.startswith("function ") and identity.removeprefix("function ").partition("(")[0] in called:
        return True
    return not identity.startswith(("column ", *_TABLE_KINDS)) and _name(identity) in known


def _table_of(identity: str, schema: Mapping[str, str]) -> str | None:
    """The table that the object is, or hangs on; None for one that stands for itself."""
    return None if identity.startswith(_STANDS_FOR_ITSELF) else schema_objects.relation_of(identity, schema)


def _name(identity: str) -> str | None:
    """The bare name that the object bears, without its schema's, its arguments' and the words of its kind."""
    found = _NAME.search(schema_objects.name_of(identity).partition("(")[0])
    return impact.bare(found[0]) if found else None
