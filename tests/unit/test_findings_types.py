"""What a change of a column's type does to the rows that are there."""

from __future__ import annotations

import pytest

from migrator.plans.findings.column_types import effect


@pytest.mark.parametrize(
    ("old", "new", "rewrites", "narrows"),
    [
        ("integer", "int4", False, False),
        ("integer", "bigint", True, False),
        ("bigint", "int", True, True),
        ("character varying(50)", "varchar(200)", False, False),
        ("character varying(50)", "varchar(20)", True, True),
        ("character varying(50)", "TEXT", False, False),
        ("text", "varchar", False, False),
        ("text", "character varying(10)", True, True),
        ("character(5)", "text", True, False),
        ("numeric(10,2)", "numeric(12, 2)", False, False),
        ("numeric(10,2)", "numeric", False, False),
        ("numeric(10,2)", "decimal(12,4)", True, False),
        ("numeric(10,2)", "numeric(10,4)", True, True),
        ("numeric(10,2)", "integer", True, True),
        ("numeric", "numeric(10,2)", True, True),
        ("integer", "numeric(12,2)", True, False),
        ("integer", "numeric(8,2)", True, True),
        ("timestamp without time zone", "timestamptz", True, False),
        ("timestamp(3) with time zone", "timestamp(6) with time zone", False, False),
        ("timestamp with time zone", "timestamp(0) with time zone", True, True),
        ("timestamp with time zone", "date", True, True),
        ("date", "timestamp", True, False),
        ("double precision", "real", True, True),
        ("text", "integer", True, True),
        ("json", "jsonb", True, None),
        ("uuid", "text", True, False),
        ("integer[]", "integer[]", False, False),
        ('public."Mood"', "text", True, False),
    ],
)
def test_effect_on_rows(old: str, new: str, rewrites: bool, narrows: bool | None) -> None:
    found = effect(old, new)
    assert (found.rewrites, found.narrows) == (rewrites, narrows)
