"""The connection that Great Expectations is given: parameters as literals, no question asked twice."""

from __future__ import annotations

import datetime
from decimal import Decimal

import psycopg
import pytest

from migrator.checks.dbapi import Connection, Memory, ResultSet, render


class Fake:
    """Answers with the rows it was given, or with an error."""

    def __init__(self, *rows: tuple[object, ...], error: psycopg.Error | None = None) -> None:
        self.rows = list(rows)
        self.error = error
        self.asked: list[str] = []

    def query(self, sql: str) -> ResultSet:
        self.asked.append(sql)
        if self.error is not None:
            raise self.error
        return ResultSet(columns=(("a", 23),), rows=self.rows)


@pytest.mark.parametrize(
    ("query", "params", "expected"),
    [
        ("select %(a)s::text", {"a": "it's; --"}, "select 'it''s; --'::text"),
        ("select %(a)s", {"a": "\\'; commit; --"}, "select  E'\\\\''; commit; --'"),
        ("select '100%%' like %(a)s", {"a": "%s%%"}, "select '100%' like '%s%%'"),
        ("select '100%%'", {}, "select '100%'"),
        ("select %s, %s", [None, True], "select NULL, true"),
        ("select %(a)s, %(a)s", {"a": -1}, "select -1, -1"),
        ("select %(a)s", {"a": Decimal("1.50")}, "select 1.50"),
        ("select %(a)s", {"a": datetime.date(2024, 1, 31)}, "select '2024-01-31'::date"),
    ],
)
def test_parameters_become_literals(query: str, params: dict[str, object] | list[object], expected: str) -> None:
    assert " ".join(render(query, params).split()) == " ".join(expected.split())


def test_a_missing_parameter_is_an_error() -> None:
    with pytest.raises(psycopg.ProgrammingError, match=r"%\(b\)s"):
        render("select %(b)s", {"a": 1})


def test_without_parameters_a_query_is_sent_as_it_is() -> None:
    fake = Fake((1,))
    Connection(fake).cursor().execute("select '100%%'")
    assert fake.asked == ["select '100%%'"]


def test_rows_are_fetched_once_each() -> None:
    cursor = Connection(Fake((1,), (2,), (3,))).cursor().execute("select")
    assert (cursor.rowcount, cursor.fetchone(), cursor.fetchmany(1), cursor.fetchall()) == (3, (1,), [(2,)], [(3,)])
    assert (cursor.fetchone(), cursor.fetchall()) == (None, [])


def test_the_same_question_is_asked_once_whether_it_was_answered_or_not() -> None:
    good, bad = Fake((1,)), Fake(error=psycopg.errors.UndefinedColumn("no"))
    for fake in (good, bad):
        memory = Memory(fake)
        for _ in range(3):
            try:
                memory.query("select 1")
            except psycopg.errors.UndefinedColumn:
                assert fake is bad
        assert fake.asked == ["select 1"]


def test_after_three_timeouts_nothing_more_is_asked_and_nothing_passes() -> None:
    fake = Fake(error=psycopg.errors.QueryCanceled("too long"))
    memory = Memory(fake)
    for number in range(6):
        with pytest.raises(psycopg.errors.QueryCanceled):
            memory.query(f"select {number}")
    assert len(fake.asked) == 3


def test_nothing_can_be_written_in_bulk() -> None:
    with pytest.raises(psycopg.NotSupportedError):
        Connection(Fake()).cursor().executemany("insert", [])
