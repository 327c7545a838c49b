"""Suites and invariants inside a migration that is not committed, on Liquibase's own connection."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from migrator.checks.invariants import Invariant, Kind, judge, measure
from migrator.checks.runner import SuiteRunner
from migrator.config.login import Login
from migrator.errors import StepFailed
from tests.integration.liquibase_fixtures import Project
from tests.integration.test_suite_runner import GOOD, NOT_NULL, ROWS, TABLES, about, expect, run

pytest_plugins = ("tests.integration.liquibase_fixtures",)


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SuiteRunner]:
    with SuiteRunner.start(tmp_path_factory.mktemp("suites") / "checks.log") as started:
        yield started


def rule(name: str, sql: str, kind: Kind = Kind.UNCHANGED) -> Invariant:
    return Invariant(name=name, path=Path(name), kind=kind, sql=sql)


@pytest.fixture
def held(project: Project) -> Project:
    project.run(TABLES)
    changelog = project.sql("\nALTER TABLE orders ADD COLUMN loyal bool;", "\nUPDATE orders SET loyal = id > 1;")
    project.hold()
    project.update(changelog)
    return project


def test_suites_see_what_is_not_committed_and_it_can_be_committed_afterwards(
    runner: SuiteRunner, held: Project
) -> None:
    loyal = expect("expect_column_values_to_be_in_set", column="loyal", value_set=[True])
    slow = expect(ROWS, unexpected_rows_query="select pg_sleep(30) from {batch} limit 1")
    many = expect(ROWS, unexpected_rows_query="select 1 from {batch}, generate_series(1, 2001)")
    writing = expect(ROWS, unexpected_rows_query="delete from empty returning 1")
    found = run(runner, about("orders", *GOOD.values(), loyal, slow, many, writing), held.liquibase, timeout_s=2)
    assert [(r.name, r.detail) for r in found[: len(GOOD)] if not r.success] == []
    details = [result.detail or "" for result in found[len(GOOD) :]]
    assert details[0].startswith("1 of 100 values are unexpected")
    assert "statement timeout" in details[1]
    assert "200000 rows" in details[2]
    assert "begins with DELETE" in details[3]
    held.liquibase.commit()
    assert held.query("select count(*) from orders where loyal") == [(99,)]


def test_every_type_arrives_as_over_a_session_of_ones_own(runner: SuiteRunner, held: Project, database: Login) -> None:
    columns = ["id", "total", "state", "color", "at", "day", "doc", "tags", "key", "raw", "ratio", "span"]
    suite = about("orders", *(expect("expect_column_values_to_be_null", column=column) for column in columns))
    inside = run(runner, suite, held.liquibase)
    held.liquibase.rollback()
    assert [result.detail for result in inside] == [result.detail for result in run(runner, suite, database)]
    assert all("100 of 100" in (result.detail or "") for result in inside)


def test_invariants_are_measured_inside_and_bad_ones_do_no_harm(held: Project) -> None:
    rules = [
        rule("sum", "select sum(total) from orders where loyal is not null -- {?}"),
        rule("null", "select null::int"),
        rule("commit", "select 1; commit"),
        rule("write", "with d as (delete from orders returning 1) select count(*) from d"),
        rule("slow", "select pg_sleep(30)"),
        rule("missing", "select nope from orders"),
        rule("rows", "select id from orders where doc ? 'a' and id < 4 order by id", Kind.VIOLATIONS),
        rule("count", "select count(*) from orders"),
    ]
    measured = {found.name: found for found in measure(held.liquibase, rules, phase="after", timeout_s=0.5)}
    assert measured["sum"].value == "7575.00"
    assert measured["rows"].samples == ('{"id":1}', '{"id":2}', '{"id":3}')
    assert measured["count"].value == "100"
    for name, said in {
        "null": "NULL",
        "commit": "more than one statement",
        "write": "top level",
        "slow": "longer than 0.5 s",
        "missing": "nope",
    }.items():
        assert said in (measured[name].error or "")
    assert [result.success for result in judge([], [measured["rows"]])] == [False]
    held.liquibase.execute("INSERT INTO empty VALUES (1)")  # the transaction goes on, and may write
    held.liquibase.commit()
    assert held.query("select count(*) from empty") == [(1,)]


def test_a_connection_that_commits_by_itself_is_not_trusted(project: Project) -> None:
    project.run(TABLES)
    project.connect("stepwise")
    with pytest.raises(StepFailed):
        measure(project.liquibase, [rule("one", "select nextval('x')")], phase="after", timeout_s=5)


def test_a_new_column_without_values_fails_its_suite(runner: SuiteRunner, held: Project) -> None:
    held.liquibase.execute("UPDATE orders SET loyal = NULL WHERE id = 7")
    [result] = run(runner, about("orders", expect(NOT_NULL, column="loyal")), held.liquibase)
    assert result.detail == "1 of 100 values are unexpected (1 %), such as NULL"
