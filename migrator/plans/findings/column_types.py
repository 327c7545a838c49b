"""What a change of a column's type does to the rows that are there (PostgreSQL, ALTER TABLE, Notes)."""

from __future__ import annotations

import re
from dataclasses import dataclass

_ALIASES = {
    "int": "integer",
    "int4": "integer",
    "int8": "bigint",
    "int2": "smallint",
    "serial": "integer",
    "bigserial": "bigint",
    "smallserial": "smallint",
    "decimal": "numeric",
    "varchar": "character varying",
    "char": "character",
    "bpchar": "character",
    "bool": "boolean",
    "float4": "real",
    "float8": "double precision",
    "float": "double precision",
    "timestamptz": "timestamp with time zone",
    "timestamp": "timestamp without time zone",
    "timetz": "time with time zone",
    "time": "time without time zone",
    "varbit": "bit varying",
}
_DIGITS = {"smallint": 5, "integer": 10, "bigint": 19}
_WIDER = (
    ("smallint", "integer", "bigint"),
    ("real", "double precision"),
    ("date", "timestamp without time zone"),
)
_TEXTS = {"text", "character varying", "character"}
_TYPE = re.compile(
    r"^\s*([^()\[\]]+?)\s*(?:\(\s*(-?\d+)\s*(?:,\s*(-?\d+)\s*)?\))?\s*"
    r"((?:with|without) time zone)?\s*((?:\[\d*\])*)\s*$"
)


@dataclass(frozen=True, kw_only=True)
class Effect:
    rewrites: bool  # every row is written anew, under ACCESS EXCLUSIVE
    narrows: bool | None  # values that were allowed no longer are; None: not known


@dataclass(frozen=True, kw_only=True)
class _Type:
    name: str
    numbers: tuple[int, ...]


def effect(old: str, new: str) -> Effect:
    """Of a change from `old` to `new`, both as SQL writes them. What is not known counts as a rewrite."""
    before, after = _parse(old), _parse(new)
    if before == after:
        return Effect(rewrites=False, narrows=False)
    for judge in (_of_texts, _of_numeric, _of_times):
        found = judge(before, after)
        if found is not None:
            return found
    for row in _WIDER:
        if before.name in row and after.name in row:
            return Effect(rewrites=True, narrows=row.index(after.name) < row.index(before.name))
    if after.name == "text":
        return Effect(rewrites=True, narrows=False)
    if before.name in _TEXTS:
        return Effect(rewrites=True, narrows=True)  # a text may hold what the new type cannot read
    return Effect(rewrites=True, narrows=None)


def _parse(text: str) -> _Type:
    match = _TYPE.match(text.lower().replace('"', "").removeprefix("pg_catalog."))
    if match is None:
        return _Type(name=text.lower(), numbers=())
    name = " ".join(match[1].split())
    if match[4]:
        name = f"{name} {match[4]}"
    name = _ALIASES.get(name, name)
    numbers = tuple(int(number) for number in (match[2], match[3]) if number is not None)
    if name == "character" and not numbers:
        numbers = (1,)
    if name == "numeric" and len(numbers) == 1:
        numbers = (numbers[0], 0)
    return _Type(name=name + (match[5] and "[]"), numbers=numbers)


def _of_texts(before: _Type, after: _Type) -> Effect | None:
    if before.name not in _TEXTS or after.name not in _TEXTS:
        return None
    if not after.numbers:
        return Effect(rewrites=before.name == "character", narrows=False)
    shorter = not before.numbers or after.numbers[0] < before.numbers[0]
    same_kind = before.name == after.name == "character varying"
    return Effect(rewrites=shorter or not same_kind, narrows=shorter)


def _of_numeric(before: _Type, after: _Type) -> Effect | None:
    if after.name == "numeric" and before.name in _DIGITS:
        room = after.numbers[0] - after.numbers[1] if after.numbers else None
        return Effect(rewrites=True, narrows=room is not None and room < _DIGITS[before.name])
    if before.name != "numeric":
        return None
    if after.name != "numeric":
        return Effect(rewrites=True, narrows=True) if after.name in _DIGITS else None
    if not after.numbers:
        return Effect(rewrites=False, narrows=False)
    if not before.numbers:
        return Effect(rewrites=True, narrows=True)
    (digits, scale), (new_digits, new_scale) = before.numbers, after.numbers
    narrows = new_digits - new_scale < digits - scale or new_scale < scale
    return Effect(rewrites=narrows or new_scale != scale, narrows=narrows)


def _of_times(before: _Type, after: _Type) -> Effect | None:
    kinds = {"timestamp without time zone", "timestamp with time zone", "time without time zone", "time with time zone"}
    if before.name == after.name and before.name in kinds:
        old, new = (one.numbers[0] if one.numbers else 6 for one in (before, after))
        return Effect(rewrites=new < old, narrows=new < old)
    if before.name in kinds and after.name in kinds:
        return Effect(rewrites=True, narrows=before.name[:9] != after.name[:9])
    if before.name in kinds and after.name == "date":
        return Effect(rewrites=True, narrows=True)
    return None
