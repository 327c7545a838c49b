"""Which columns' values a report does not show."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from psycopg import sql

HIDDEN = "hidden"


def hides(patterns: Sequence[str], columns: Iterable[str], *, table: str | None, schema: str | None) -> bool:
    """Whether a pattern names one of the columns, as column, table.column or schema.table.column, with * and ?.

    A pattern with more parts than are known here counts by its last ones: rather one value too few is shown.
    """
    for column in columns:
        known = [part for part in (schema, table, column) if part is not None]
        for pattern in patterns:
            parts = pattern.split(".")[-len(known) :]
            if all(map(fnmatchcase, known[-len(parts) :], parts)):
                return True
    return False


def row_as_json(relation: str, patterns: Sequence[str]) -> str:
    """SQL: the row of `relation` as JSON, with the values of the columns that the patterns name hidden."""
    row = f"pg_catalog.row_to_json({relation})"
    if not patterns:
        return row
    names = "|".join(_regex(pattern.rpartition(".")[2]) for pattern in patterns)
    matching = sql.Literal(f"^({names})$").as_string()
    return (
        f"(SELECT pg_catalog.json_object_agg(c.key, CASE WHEN c.key OPERATOR(pg_catalog.~) {matching} "  # noqa: S608
        f"""THEN '"{HIDDEN}"'::pg_catalog.json ELSE c.value END) FROM pg_catalog.json_each({row}) AS c)"""
    )


def _regex(pattern: str) -> str:
    """The pattern in PostgreSQL's words: * is any text, ? any character."""
    return "".join({"*": ".*", "?": "."}.get(char, re.escape(char)) for char in pattern)
