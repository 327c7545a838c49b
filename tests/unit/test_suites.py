"""Suite files: what is understood, and what is said of a bad one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from migrator.checks.suites import Suite, known_types, load
from migrator.errors import ConfigError

GOOD = """\
name: orders
table: public.orders
when: [after]
inside: true
allow_empty: true
expectations:
  - type: expect_column_values_to_not_be_null
    kwargs: {column: customer_id}
    severity: warning
  - type: expect_column_values_to_be_in_set
    kwargs:
      column: country
      value_set: [NO, SE, 2024-01-31, 12:30, 010, 1.5, true, null]
"""


def written(tmp_path: Path, text: str | bytes, name: str = "orders.yaml") -> Path:
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def one(tmp_path: Path, text: str | bytes, name: str = "orders.yaml") -> Suite:
    [suite] = load([written(tmp_path, text, name)])
    return suite


def test_a_yaml_suite_is_read(tmp_path: Path) -> None:
    suite = one(tmp_path, GOOD)
    assert suite.name == "orders"
    assert str(suite.table) == "public.orders"
    assert suite.when == {"after"}
    assert suite.inside
    assert suite.allow_empty
    assert [e.severity for e in suite.expectations] == ["warning", "critical"]
    assert suite.severity == "critical"
    assert suite.expectations[1].line == 10
    assert suite.labels[0] == "orders: expect_column_values_to_not_be_null(customer_id)"


def test_yaml_scalars_are_those_of_json(tmp_path: Path) -> None:
    values = one(tmp_path, GOOD).expectations[1].kwargs["value_set"]
    assert values == ["NO", "SE", "2024-01-31", "12:30", 10, 1.5, True, None]


def test_a_json_suite_with_tabs_is_read(tmp_path: Path) -> None:
    text = '{\n\t"name": "n",\n\t"query": "select 1 as a;",\n\t"expectations": [\n\t\t{"type": "expect_column_to_exist", "kwargs": {"column": "a"}}]}'  # noqa: E501
    suite = one(tmp_path, text, "n.json")
    assert suite.query == "select 1 as a"
    assert suite.table is None
    assert suite.when == {"before", "after"}
    assert not suite.inside
    assert suite.expectations[0].line == 5


@pytest.mark.parametrize(
    ("name", "shown", "schema", "bare"),
    [
        ("orders", "orders", None, "orders"),
        ("Public.Orders", "public.orders", "public", "orders"),
        ('"My Schema"."Order ""s"""', '"My Schema"."Order ""s"""', "My Schema", 'Order "s"'),
    ],
)
def test_table_names_are_read_as_postgresql_reads_them(
    tmp_path: Path, name: str, shown: str, schema: str | None, bare: str
) -> None:
    table = one(tmp_path, GOOD.replace("public.orders", f"'{name}'")).table
    assert table is not None
    assert (str(table), table.schema, table.name) == (shown, schema, bare)


def test_the_same_expectation_twice_has_two_names(tmp_path: Path) -> None:
    text = GOOD.split("  - type: expect_column_values_to_be_in_set", maxsplit=1)[0]
    again = text + text.split("expectations:\n")[1]
    assert one(tmp_path, again).labels[1].endswith("#2")


@pytest.mark.parametrize(
    ("old", "new", "line", "said", "hint"),
    [
        ("table:", "tabel:", 2, "'tabel' is not known", "'table'"),
        (
            "type: expect_column_values_to_not_be_null",
            "type: expect_column_values_not_null",
            7,
            "there is no",
            "to_not_be_null",
        ),
        ("    kwargs: {column: customer_id}", "    kwarg: {column: a}", 8, "'kwarg'", "'kwargs'"),
        (
            "  - type: expect_column_values_to_not_be_null",
            "  - expectation_type: x",
            7,
            "expectation_type",
            "`type` now",
        ),
        ("name: orders", "expectation_suite_name: orders", 1, "expectation_suite_name", "`name` now"),
        ("name: orders", "name: ''", 1, "`name` is empty", "name: ..."),
        ("severity: warning", "severity: fatal", 9, "'fatal'", "critical, warning, info"),
        ("when: [after]", "when: [later]", 3, "`when`", "[before]"),
        ("when: [after]", "when: []", 3, "`when`", "[before]"),
        ("inside: true", "inside: yes", 4, "'yes'", "true or false"),
        ("table: public.orders", "table: a.b.c", 2, "a.b.c", "schema.table"),
        ("table: public.orders", "table: orders; drop", 2, "orders; drop", "schema.table"),
        ("table: public.orders", "query: select 1; commit", 2, "more than one statement", "one SELECT"),
        ("table: public.orders", "query: delete from x", 2, "DELETE", "one SELECT"),
        ("table: public.orders", "query: select 1\ntable: b", 1, "both", "one of them"),
        ("table: public.orders\n", "", 1, "neither", "one of them"),
        ("when: [after]", "name: again", 3, "stands twice", "one of them"),
        ("when: [after]", "when: !!python/object:os.system x", 3, "tag", "plain value"),
        ("when: [after]", "when: [after", 4, "not YAML", None),
        ("when: [after]", "when: &a [*a]", 3, "without end", "aliases"),
        ("    kwargs: {column: customer_id}", "    kwargs: customer_id", 8, "not a mapping", "column"),
    ],
)
def test_a_bad_file_names_line_and_remedy(
    tmp_path: Path, old: str, new: str, line: int, said: str, hint: str | None
) -> None:
    assert old in GOOD
    with pytest.raises(ConfigError) as caught:
        load([written(tmp_path, GOOD.replace(old, new, 1))])
    assert f"orders.yaml:{line}: " in caught.value.message
    assert said in caught.value.message
    if hint is not None:
        assert hint in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"\xef\xbb\xbf" + GOOD.encode(), "byte order mark"),
        (GOOD.encode().replace(b"customer_id", b"k\xff"), "not UTF-8"),
        (GOOD.encode().replace(b"customer_id", b"k\0"), "NUL"),
        (GOOD.encode("utf-16"), "not UTF-8"),
        (b"", "must be keys"),
        (b"- a\n", "must be keys"),
        (b"name: a\n---\nname: b\n", "not YAML"),
        (b"name: a\ntable: b\nexpectations: []\n", "at least one"),
    ],
)
def test_a_file_that_is_no_suite_is_refused(tmp_path: Path, raw: bytes, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load([written(tmp_path, raw)])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"name": "a",\n "name": "b"}', r"n.json:1: .*twice"),
        ('{"name": "a",\n "x": }', r"n.json:2: is not JSON"),
        ('{"name": NaN}', "NaN"),
        ('{"name": "a",\n\t"table": "t",\n\t"expectations": [{"type": "nope"}]}', r"n.json:3: there is no"),
        ("[" * 200_000, "nested too deeply"),
    ],
)
def test_bad_json_names_its_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load([written(tmp_path, text, "n.json")])


def test_a_missing_file_and_a_strange_suffix_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load([tmp_path / "none.yaml"])
    with pytest.raises(ConfigError, match="no suite"):
        load([written(tmp_path, GOOD, "orders.txt")])


def test_two_suites_of_one_name_are_refused_and_one_file_twice_is_one(tmp_path: Path) -> None:
    first = written(tmp_path, GOOD)
    assert len(load([first, first])) == 1
    with pytest.raises(ConfigError, match=r"is in .*orders\.yaml too"):
        load([first, written(tmp_path, GOOD, "b.yaml")])


def test_known_types_hold_all_that_great_expectations_registers() -> None:
    code = (
        "import sys, great_expectations.expectations.core\n"
        "from great_expectations.expectations.registry import list_registered_expectation_implementations as names\n"
        "print(*names())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert known_types() >= set(done.stdout.split()) > {"unexpected_rows_expectation"}


def test_reading_suites_does_not_import_great_expectations(tmp_path: Path) -> None:
    path = written(tmp_path, GOOD)
    code = (
        "import sys, pathlib, migrator.checks.runner, migrator.checks.invariants\n"
        f"from migrator.checks.suites import load; load([pathlib.Path({str(path)!r})])\n"
        "print([m for m in ('great_expectations', 'sqlalchemy', 'pandas', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
