"""Invariants on a real server: inside an open transaction and on a session of their own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from migrator.checks.invariants import Invariant, Kind, Measured, judge, judge_before, measure
from migrator.checks.results import Phase
from migrator.config.login import Login
from migrator.errors import ConnectionFailed, StepFailed
from migrator.postgres.connect import PgSession, connect

TABLES = """
CREATE TABLE orders (id int PRIMARY KEY, total numeric(10, 2), note text, ratio float8);
INSERT INTO orders SELECT i, i, 'n', i FROM generate_series(1, 2000) i;
CREATE SEQUENCE counter;
CREATE FUNCTION writes() RETURNS int LANGUAGE sql AS 'INSERT INTO orders VALUES (0) RETURNING id';
"""


@pytest.fixture
def session(database: Login) -> Iterator[PgSession]:
    with connect(database, role="test", run_id="test") as opened:
        opened.execute(TABLES)
        yield opened


@pytest.fixture(params=["own transaction", "held transaction"])
def either(session: PgSession, request: pytest.FixtureRequest) -> PgSession:
    if request.param == "held transaction":
        session.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; INSERT INTO orders VALUES (3000, 1)")
    return session


def rule(sql: str, kind: Kind = Kind.UNCHANGED) -> Invariant:
    return Invariant(name="a.sql", path=Path("a.sql"), kind=kind, sql=sql)


def asked(session: PgSession, sql: str, kind: Kind = Kind.UNCHANGED, *, phase: Phase = "before") -> Measured:
    [measured] = measure(session, [rule(sql, kind)], phase=phase, timeout_s=0.5)
    return measured


def state(session: PgSession) -> list[tuple[str | None, ...]]:
    return session.rows(
        "SELECT count(*), (SELECT last_value FROM counter), current_setting('transaction_read_only'), "
        "current_setting('statement_timeout') FROM orders"
    )


def test_a_value_is_measured(either: PgSession) -> None:
    measured = asked(either, "select sum(total) from orders where id <= 2000 -- all of them")
    assert (measured.value, measured.type, measured.error) == ("2001000.00", "numeric", None)
    assert judge_before([measured])[0].success


@pytest.mark.parametrize("kind", list(Kind))
@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("delete from orders", "begins with DELETE"),
        ("with gone as (delete from orders returning id) select count(*) from gone", "top level"),
        ("select id into stolen from orders", "INTO"),
        ("select writes()", "writes, or calls"),
        ("select nextval('counter')", "writes, or calls"),
        ("select id from orders for update", "writes, or calls"),
        ("select 1; commit", "more than one statement"),
        ("commit", "begins with COMMIT"),
        ("select 1) as x; commit; select * from (select 1", "more than one statement"),
        ("select 'a\\'; commit; --'", "more than one statement"),
        ("select nope from orders", "nope"),
        ("select 1 from missing", "missing"),
        ("select count(*) from generate_series(1, 10000000000)", "longer than 0.5 s"),
        ("select pg_sleep(60)", "longer than 0.5 s"),
        ("with recursive r as (select 1 as n union all select n from r) select max(n) from r", "longer than 0.5 s"),
        ("select set_config('transaction_read_only', 'off', false) || writes()", "read"),
        ("select", None),
    ],
)
def test_a_rule_that_does_not_just_read_is_a_failure(either: PgSession, kind: Kind, sql: str, said: str | None) -> None:
    before = state(either)
    measured = asked(either, sql, kind)
    assert not judge_before([measured])[0].success
    if said is not None:
        assert said in (measured.error or "")
    assert state(either) == before


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("select null::int", "NULL"),
        ("select sum(total) from orders where id < 0", "NULL"),
        ("select total from orders where id < 0", "no row"),
        ("select total from orders", "more than one row"),
        ("select 1, 2", "2 columns"),
        ("select sum(ratio) from orders", "double precision"),
        ("select row(1, 2)", "record"),
    ],
)
def test_unchanged_wants_one_value(either: PgSession, sql: str, said: str) -> None:
    measured = asked(either, sql)
    assert said in (measured.error or "")
    assert not judge_before([measured])[0].success


def test_violations_are_counted_and_five_are_shown(either: PgSession) -> None:
    measured = asked(either, "select id, note from orders where id <= 7 order by id", Kind.VIOLATIONS)
    assert measured.rows == 7
    assert len(measured.samples) == 5
    assert measured.samples[0] == '{"id":1,"note":"n"}'
    many = asked(either, "select id from orders", Kind.VIOLATIONS)
    assert "more than 1000" in (judge_before([many])[0].detail or "")
    assert judge_before([asked(either, "select id from orders where total < 0", Kind.VIOLATIONS)])[0].success


def test_values_that_are_not_to_be_shown_are_not(either: PgSession) -> None:
    sql = """select id, 'kim@example.org' as "e-mail", note from orders where id < 3"""
    hiding = Invariant(
        name="a.sql", path=Path("a.sql"), kind=Kind.VIOLATIONS, sql=sql, redact=("customer.e-m*", "no't?")
    )
    [measured] = measure(either, [hiding], phase="before", timeout_s=5)
    assert measured.error is None
    assert "kim" not in measured.samples[0]
    assert json.loads(measured.samples[0]) == {"id": 1, "e-mail": "hidden", "note": "n"}


def test_a_bad_rule_does_not_spoil_the_next_one(either: PgSession) -> None:
    rules = [
        rule("select nope"),
        rule("select set_config('statement_timeout', '0', true)"),
        rule("select pg_sleep(60)"),
        rule("select count(*) from orders where id <= 2000"),
    ]
    found = measure(either, rules, phase="before", timeout_s=0.5)
    assert [measured.error is None for measured in found] == [False, True, False, True]
    assert found[3].value == "2000"


def test_uncommitted_rows_are_seen_and_the_transaction_goes_on(session: PgSession, database: Login) -> None:
    counting = "select count(*) from orders"
    before = asked(session, counting)
    session.execute("BEGIN; DELETE FROM orders WHERE id = 1")
    after = asked(session, counting, phase="after")
    [result] = judge([before], [after])
    assert not result.success
    assert result.detail == "was 2000, is 1999"
    session.execute("INSERT INTO orders VALUES (0); COMMIT")
    with connect(database, role="other", run_id="test") as other:
        assert other.rows("SELECT count(*) FROM orders WHERE id IN (0, 1)") == [("1",)]


def test_a_deferred_constraint_that_is_violated_is_found_first(session: PgSession) -> None:
    session.execute(
        "CREATE TABLE item (order_id int REFERENCES orders DEFERRABLE INITIALLY DEFERRED);"
        "BEGIN; INSERT INTO item VALUES (99999)"
    )
    with pytest.raises(StepFailed, match="item_order_id_fkey"):
        asked(session, "select 1")
    session.execute("DELETE FROM item; COMMIT")
    assert session.rows("SELECT count(*) FROM item") == [("0",)]


def test_a_lost_session_is_no_result(session: PgSession) -> None:
    with pytest.raises(ConnectionFailed):
        asked(session, "select pg_terminate_backend(pg_backend_pid())")


def test_a_standard_string_is_read_as_one_whatever_the_database_says(session: PgSession) -> None:
    session.execute("SET standard_conforming_strings = off")
    measured = asked(session, "select 'a\\' || 'b'")
    assert measured.value == "a\\b"
