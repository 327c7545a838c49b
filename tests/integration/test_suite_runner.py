"""Suites through a real child process: over a login, and over a session with uncommitted changes."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from migrator.checks.results import CheckResult, failures
from migrator.checks.runner import SuiteRunner, TypedSession
from migrator.checks.suites import Expectation, Suite, TableName
from migrator.config.login import Login, Secret
from migrator.errors import ConfigError, ConnectionFailed, StepFailed, ToolFailed, TransactionLost
from migrator.postgres.connect import PgSession, connect
from migrator.postgres.session import Row

TABLES = """
CREATE TYPE color AS ENUM ('red', 'green');
CREATE TABLE orders (id int PRIMARY KEY, customer_id int NOT NULL, total numeric(12, 2), state text, color color,
    at timestamptz, day date, doc jsonb, tags text[], key uuid, raw bytea, ratio float8, span interval);
INSERT INTO orders SELECT i, i % 10, i * 1.5, 'open', 'red', '2024-01-01 10:00+02', '2024-01-01', '{"a": 1}',
    '{a,b}', gen_random_uuid(), '\\x00ff', 'NaN', '1 day' FROM generate_series(1, 100) i;
CREATE TABLE empty (id int, note text);
CREATE SCHEMA "My Schema";
CREATE TABLE "My Schema"."Order ""s"" x" ("Id" int, "na:me %s" text);
INSERT INTO "My Schema"."Order ""s"" x" VALUES (1, 'a');
CREATE TABLE twins (id int, "ID" int);
INSERT INTO twins VALUES (1, NULL);
"""

NOT_NULL = "expect_column_values_to_not_be_null"
IN_SET = "expect_column_values_to_be_in_set"
ROWS = "unexpected_rows_expectation"


class HeldSession:
    """What the worker's connection offers, on psycopg: an open transaction, a savepoint around each typed query."""

    def __init__(self, session: PgSession) -> None:
        self.session = session
        self.asked: list[str] = []

    def rows(self, sql: str) -> list[Row]:
        return self.session.rows(sql)

    def execute(self, sql: str) -> None:
        self.session.execute(sql)

    def query_typed(
        self, sql: str, max_rows: int, *, timeout_s: float
    ) -> tuple[Sequence[tuple[str, int]], Sequence[Row]]:
        self.asked.append(sql)
        self.session.execute("SAVEPOINT typed")
        try:
            rows = self.session.rows(sql)
            columns = self._columns(sql)
        finally:
            self.session.execute("ROLLBACK TO SAVEPOINT typed")
        if len(rows) > max_rows:
            raise StepFailed(f"the query returned more than {max_rows} rows")
        return columns, rows

    def _columns(self, sql: str) -> list[tuple[str, int]]:
        with self.session.conn.cursor() as cursor:
            result = cursor.execute(sql.encode()).pgresult
        assert result is not None
        return [((result.fname(i) or b"").decode(), result.ftype(i)) for i in range(result.nfields)]


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SuiteRunner]:
    with SuiteRunner.start(tmp_path_factory.mktemp("suites") / "checks.log") as started:
        yield started


@pytest.fixture
def filled(database: Login) -> Login:
    with connect(database, role="test", run_id="test") as session:
        session.execute(TABLES)
    return database


@pytest.fixture
def held(filled: Login) -> Iterator[HeldSession]:
    with connect(filled, role="test", run_id="test") as session:
        session.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        yield HeldSession(session)


@pytest.fixture(params=["login", "held"])
def via(request: pytest.FixtureRequest, filled: Login) -> Login | HeldSession:
    if request.param == "login":
        return filled
    held: HeldSession = request.getfixturevalue("held")
    return held


def expect(kind: str, **kwargs: Any) -> Expectation:
    return Expectation(type=kind, kwargs=kwargs, line=7)


def about(table: str | None, *expectations: Expectation, query: str | None = None, **more: Any) -> Suite:
    name = None if table is None else TableName(schema=None, name=table)
    return Suite(name="s", path=Path("s.yaml"), table=name, query=query, expectations=expectations, **more)


def run(
    runner: SuiteRunner, suite: Suite, via: Login | TypedSession, *, timeout_s: float = 20, **more: Any
) -> list[CheckResult]:
    return runner.run([suite], phase="after", via=via, run_id="test", statement_timeout_s=timeout_s, **more)


GOOD: Mapping[str, Expectation] = {
    "null": expect(NOT_NULL, column="customer_id"),
    "set": expect(IN_SET, column="state", value_set=["open", "100% %(x)s :y"]),
    "unique": expect("expect_column_values_to_be_unique", column="id"),
    "type": expect("expect_column_values_to_be_of_type", column="id", type_="INTEGER"),
    "sum": expect("expect_column_sum_to_be_between", column="total", min_value=7575, max_value=7575),
    "quantile": expect(
        "expect_column_quantile_values_to_be_between",
        column="id",
        quantile_ranges={"quantiles": [0.5], "value_ranges": [[50, 50]]},
    ),
    "rows": expect(ROWS, unexpected_rows_query="select * from {batch} where total < 0"),
    "count": expect("expect_table_row_count_to_equal", value=100),
    "like": expect("expect_column_values_to_match_like_pattern", column="state", like_pattern="op%"),
    "regex": expect("expect_column_values_to_match_regex", column="state", regex="^o"),
    "day": expect("expect_column_max_to_be_between", column="day", min_value="2024-01-01", max_value="2024-01-01"),
    "at": expect("expect_column_max_to_be_between", column="at", min_value="2024-01-01 08:00:00+00:00"),
    "condition": expect(NOT_NULL, column="at", row_condition='col("id") > 5', condition_parser="great_expectations"),
}


def test_what_holds_passes_and_what_does_not_is_told(runner: SuiteRunner, via: Login | HeldSession) -> None:
    heard: list[CheckResult] = []
    bad = [
        expect(IN_SET, column="state", value_set=["paid"]),
        expect("expect_column_max_to_be_between", column="total", max_value=10),
        expect(ROWS, unexpected_rows_query="select * from {batch} where total > 100"),
        Expectation(type=NOT_NULL, kwargs={"column": "nope"}, severity="warning"),
        expect("expect_column_mean_to_be_between", column="state", min_value=1),
        expect(IN_SET, column="color", value_set=["red"]),
        expect("expect_column_max_to_be_between", column="ratio", max_value=10),
    ]
    suite = about("orders", *GOOD.values(), *bad)
    found = run(runner, suite, via, on_result=heard.append)
    assert found == heard
    assert [result.name for result in found] == list(suite.labels)
    assert [(r.name, r.detail) for r in found[: len(GOOD)] if not r.success] == []
    failed = found[len(GOOD) :]
    assert not any(result.success for result in failed)
    details = [result.detail or "" for result in failed]
    assert details[0] == "100 of 100 values are unexpected (100 %), such as open"
    assert details[1] == "observed 150.0"
    assert details[2] == "observed 34"
    assert '"nope"' in details[3]
    assert "numeric * text" in details[4]
    assert "color" in details[5]
    assert "no value" in details[6]
    assert failed[3].severity == "warning"
    assert failed[3] not in failures(found)
    assert all(result.table == "orders" and result.phase == "after" for result in found)


def test_values_that_are_not_to_be_shown_are_not(runner: SuiteRunner, filled: Login) -> None:
    suite = about(
        "orders",
        expect(IN_SET, column="state", value_set=["shipped"]),
        expect(IN_SET, column="customer_id", value_set=[77]),
        expect("expect_column_max_to_be_between", column="total", max_value=1),
        redact=("orders.state", "tot*"),
    )
    results = runner.run([suite], phase="after", via=filled, run_id="test", statement_timeout_s=60)
    said = [one.detail or "" for one in results]
    assert "100 of 100 values are unexpected" in said[0]
    assert "hidden by checks.redact" in said[0]
    assert "open" not in said[0]
    assert "such as" in said[1]
    assert said[2] == "what was observed is hidden by checks.redact"


def test_every_kind_of_column_can_be_read(runner: SuiteRunner, via: Login | HeldSession) -> None:
    columns = ["id", "total", "state", "color", "at", "day", "doc", "tags", "key", "raw", "ratio", "span"]
    found = run(runner, about("orders", *(expect(NOT_NULL, column=column) for column in columns)), via)
    assert [(r.name, r.detail) for r in found if not r.success] == []
    # As details of a failure the values themselves are read.
    found = run(
        runner, about("orders", *(expect("expect_column_values_to_be_null", column=column) for column in columns)), via
    )
    assert all("100 of 100 values are unexpected" in (r.detail or "") for r in found)


def test_a_query_is_as_good_as_a_table(runner: SuiteRunner, via: Login | HeldSession) -> None:
    query = "with x as (select *, ':word 10%' as mark, '{}' as braces from orders) select * from x -- all"
    found = run(
        runner,
        about(
            None,
            expect(IN_SET, column="mark", value_set=[":word 10%"]),
            expect("expect_table_row_count_to_equal", value=100),
            expect(ROWS, unexpected_rows_query="select * from {batch} where id > 100"),
            expect(ROWS, unexpected_rows_query="select * from {batch}"),
            expect("expect_column_values_to_be_of_type", column="id", type_="INTEGER"),
            query=query,
        ),
        via,
    )
    assert [result.success for result in found] == [True, True, True, False, False]
    assert found[3].detail == "observed 100"
    assert "types of a query's columns" in (found[4].detail or "")
    assert {result.table for result in found} == {None}


def test_names_with_capitals_quotes_and_placeholders_are_found(runner: SuiteRunner, via: Login | HeldSession) -> None:
    suite = Suite(
        name="s",
        path=Path("s.yaml"),
        table=TableName(schema="My Schema", name='Order "s" x'),
        query=None,
        expectations=(
            expect(NOT_NULL, column="Id"),
            expect(IN_SET, column="na:me %s", value_set=["a"]),
            expect("expect_column_values_to_be_of_type", column="Id", type_="INTEGER"),
        ),
    )
    assert [r.detail for r in run(runner, suite, via) if not r.success] == []


def test_columns_of_composite_and_other_strange_types_do_not_hide_the_others(
    runner: SuiteRunner, via: Login | HeldSession, filled: Login
) -> None:
    with connect(filled, role="other", run_id="test") as other:
        other.execute(
            "CREATE TYPE address AS (street text, town text); CREATE DOMAIN home AS address;"
            'CREATE TABLE people (id int, at address, "all" address[], home home, spot point, seen txid_snapshot);'
            "INSERT INTO people VALUES (1, '(a,b)', '{\"(a,b)\"}', '(a,b)', '(1,2)', '1:2:')"
        )
    columns = ["id", "at", "all", "home", "spot", "seen"]
    found = run(runner, about("people", *(expect(NOT_NULL, column=column) for column in columns)), via)
    assert [(r.name, r.detail) for r in found if not r.success] == []
    found = run(
        runner, about("people", *(expect("expect_column_values_to_be_null", column=column) for column in columns)), via
    )
    assert all("1 of 1 values are unexpected" in (r.detail or "") for r in found)


def test_columns_that_differ_by_case_alone_are_not_taken_for_each_other(
    runner: SuiteRunner, via: Login | HeldSession
) -> None:
    [result] = run(runner, about("twins", expect(NOT_NULL, column="ID")), via)
    assert not result.success
    assert "but for the case" in (result.detail or "")


def test_suites_of_two_tables_do_not_share_statements(runner: SuiteRunner, via: Login | HeldSession) -> None:
    lower = about(None, expect(NOT_NULL, column="id"), query="select id from orders")
    upper = about(None, expect(NOT_NULL, column="Id"), query='select * from "My Schema"."Order ""s"" x"')
    found = runner.run([lower, upper], phase="after", via=via, run_id="test", statement_timeout_s=20)
    assert [result.success for result in found] == [True, True]


@pytest.mark.parametrize(
    ("suite", "said"),
    [
        (about("empty", expect(NOT_NULL, column="id")), "not one row"),
        (about(None, expect(NOT_NULL, column="id"), query="select id from orders where id < 0"), "not one row"),
        (about("missing", expect(NOT_NULL, column="id"), allow_empty=True), "no table"),
        (about("orders_pkey", expect(NOT_NULL, column="id"), allow_empty=True), "no table"),
        (about(None, expect(NOT_NULL, column="id"), query="select nope from orders"), "nope"),
        (
            about(None, expect(NOT_NULL, column="id"), query="with d as (delete from orders returning 1) table d"),
            "level",
        ),
    ],
    ids=["empty table", "empty query", "missing table", "an index", "bad query", "a query that writes"],
)
def test_nothing_to_look_at_is_a_failure(
    runner: SuiteRunner, via: Login | HeldSession, suite: Suite, said: str
) -> None:
    [result] = run(runner, suite, via)
    assert not result.success
    assert result.name == "s"
    assert said in (result.detail or "")


def test_an_empty_table_passes_only_where_the_suite_allows_it(runner: SuiteRunner, via: Login | HeldSession) -> None:
    suite = about(
        "empty",
        expect(NOT_NULL, column="id"),
        expect("expect_column_max_to_be_between", column="id", min_value=1),
        expect(NOT_NULL, column="nope"),
        allow_empty=True,
    )
    assert [result.success for result in run(runner, suite, via)] == [True, False, False]


def test_a_suite_belongs_to_its_phases(runner: SuiteRunner, filled: Login) -> None:
    suite = about("missing", expect(NOT_NULL, column="id"), when=frozenset({"before"}))
    assert run(runner, suite, filled) == []


def test_uncommitted_rows_are_seen_and_the_transaction_goes_on(
    runner: SuiteRunner, held: HeldSession, filled: Login
) -> None:
    held.execute(
        "ALTER TABLE orders ADD COLUMN loyal bool; UPDATE orders SET loyal = true WHERE id > 1;"
        "CREATE TABLE fresh AS SELECT 1 AS id"
    )
    [loyal] = run(runner, about("orders", expect(NOT_NULL, column="loyal")), held)
    assert loyal.detail is not None
    assert loyal.detail.startswith("1 of 100 values")
    [fresh] = run(runner, about("fresh", expect(IN_SET, column="id", value_set=[1])), held)
    assert fresh.success
    [outside] = run(runner, about("orders", expect("expect_column_to_exist", column="loyal")), filled, timeout_s=0.5)
    assert not outside.success  # the held transaction has locked the table
    held.execute("INSERT INTO fresh VALUES (2); COMMIT")
    with connect(filled, role="other", run_id="test") as other:
        assert other.rows("SELECT count(*) FROM fresh") == [("2",)]


def test_checks_cannot_write(runner: SuiteRunner, via: Login | HeldSession, filled: Login) -> None:
    found = run(
        runner,
        about(
            "orders",
            expect(ROWS, unexpected_rows_query="select lo_create(0) from {batch}"),
            expect(ROWS, unexpected_rows_query="select 1; commit; drop table empty"),
            expect(ROWS, unexpected_rows_query="delete from empty returning 1"),
            GOOD["null"],
        ),
        via,
    )
    assert [result.success for result in found] == [False, False, False, True]
    with connect(filled, role="other", run_id="test") as other:
        assert other.rows("SELECT count(*) FROM pg_largeobject_metadata") == [("0",)]
        assert other.rows("SELECT count(*) FROM empty") == [("0",)]


def test_a_statement_that_takes_too_long_is_asked_once(runner: SuiteRunner, via: Login | HeldSession) -> None:
    slow = expect(ROWS, unexpected_rows_query="select pg_sleep(30) from {batch} limit 1")
    started = time.monotonic()
    found = run(runner, about("orders", slow, GOOD["null"], GOOD["sum"]), via, timeout_s=1)
    taken = time.monotonic() - started
    assert [result.success for result in found] == [False, True, True]
    assert "statement timeout" in (found[0].detail or "")
    assert taken < 5.5  # it is two statements of 1 s; three tries of each would take 6 s


def test_a_suite_with_many_slow_statements_is_given_up(runner: SuiteRunner, via: Login | HeldSession) -> None:
    query = "select id, id as b, id as c, id as d, id as e from orders, (select pg_sleep(0.04 * id)) as s limit 100"
    columns = ["id", "b", "c", "d", "e"]
    started = time.monotonic()
    found = run(runner, about(None, *(expect(NOT_NULL, column=c) for c in columns), query=query), via, timeout_s=0.5)
    assert not any(result.success for result in found)
    assert time.monotonic() - started < 3


def test_a_result_that_is_too_long_is_a_failure_and_never_cut_off(
    runner: SuiteRunner, via: Login | HeldSession
) -> None:
    many = "select 1 from {batch}, generate_series(1, 2001)"
    [result] = run(runner, about("orders", expect(ROWS, unexpected_rows_query=many)), via)
    assert not result.success
    assert "200000 rows" in (result.detail or "")


def test_a_snapshot_is_shared(runner: SuiteRunner, filled: Login) -> None:
    with connect(filled, role="holder", run_id="test") as holder:
        holder.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        [(snapshot,)] = holder.rows("SELECT pg_export_snapshot()")
        with connect(filled, role="writer", run_id="test") as writer:
            writer.execute("DELETE FROM orders WHERE id > 50")
        [then] = run(runner, about("orders", GOOD["count"]), filled, snapshot=snapshot)
        [now] = run(runner, about("orders", GOOD["count"]), filled)
    assert (then.success, now.success) == (True, False)


def test_a_login_that_is_refused_is_an_error_and_tells_no_password(runner: SuiteRunner, filled: Login) -> None:
    wrong = Login(
        host=filled.host, port=filled.port, database="no such database", user=filled.user, password=Secret("canary-17")
    )
    with pytest.raises(ConnectionFailed) as caught:
        run(runner, about("orders", GOOD["null"]), wrong)
    assert "canary-17" not in caught.value.message
    assert runner.pid is not None
    for file in ("cmdline", "environ"):
        assert b"canary-17" not in Path(f"/proc/{runner.pid}/{file}").read_bytes()
    assert run(runner, about("orders", GOOD["null"]), filled)[0].success  # the child is none the worse


def test_a_session_that_is_ended_meanwhile_is_an_error(runner: SuiteRunner, filled: Login) -> None:
    suicide = expect(ROWS, unexpected_rows_query="select pg_terminate_backend(pg_backend_pid()) from {batch}")
    with pytest.raises(ConnectionFailed):
        run(runner, about("orders", suicide), filled)


def test_a_check_that_ends_the_transaction_is_found(runner: SuiteRunner, held: HeldSession) -> None:
    class Leaky(HeldSession):
        def query_typed(
            self, sql: str, max_rows: int, *, timeout_s: float
        ) -> tuple[Sequence[tuple[str, int]], Sequence[Row]]:
            if "count(*)" in sql:
                self.session.execute("COMMIT; BEGIN")
            return super().query_typed(sql, max_rows, timeout_s=timeout_s)

    with pytest.raises(TransactionLost) as caught:
        run(runner, about("orders", GOOD["count"]), Leaky(held.session))
    assert caught.value.committed


def test_great_expectations_refuses_bad_kwargs_before_any_database_is_asked(runner: SuiteRunner) -> None:
    runner.validate([about("orders", *GOOD.values())])
    for bad in (expect(NOT_NULL, colum="id"), expect(NOT_NULL), expect("expect_multicolumn_values_to_be_unique")):
        with pytest.raises(ConfigError, match=r"s\.yaml:7: ") as caught:
            runner.validate([about("orders", GOOD["null"], bad)])
        assert bad.type in caught.value.message


@pytest.mark.slow
def test_a_child_that_dies_is_an_error_and_the_next_run_has_a_new_one(tmp_path: Path, held: HeldSession) -> None:
    with SuiteRunner.start(tmp_path / "checks.log") as runner:
        first = runner.pid
        assert first is not None

        class Killing(HeldSession):
            def query_typed(
                self, sql: str, max_rows: int, *, timeout_s: float
            ) -> tuple[Sequence[tuple[str, int]], Sequence[Row]]:
                os.kill(first or 0, signal.SIGKILL)
                return super().query_typed(sql, max_rows, timeout_s=timeout_s)

        held.execute("INSERT INTO empty VALUES (1)")
        with pytest.raises(ToolFailed):
            run(runner, about("empty", expect(NOT_NULL, column="id")), Killing(held.session))
        assert run(runner, about("empty", expect(NOT_NULL, column="id")), held)[0].success
        assert runner.pid != first
        second = runner.pid
    assert not Path(f"/proc/{second}").exists()


def test_an_interrupted_run_leaves_no_child_and_an_open_transaction(tmp_path: Path, held: HeldSession) -> None:
    class Interrupting(HeldSession):
        def query_typed(
            self, sql: str, max_rows: int, *, timeout_s: float
        ) -> tuple[Sequence[tuple[str, int]], Sequence[Row]]:
            raise KeyboardInterrupt

    with SuiteRunner.start(tmp_path / "checks.log") as runner:
        pid = runner.pid
        with pytest.raises(KeyboardInterrupt):
            run(runner, about("orders", GOOD["null"]), Interrupting(held.session))
        assert not Path(f"/proc/{pid}").exists()
    held.execute("INSERT INTO empty VALUES (1)")  # may write again


@pytest.mark.slow
def test_a_runner_killed_from_another_thread_does_not_hang(tmp_path: Path, filled: Login) -> None:
    slow = expect(ROWS, unexpected_rows_query="select pg_sleep(30) from {batch} limit 1")
    with SuiteRunner.start(tmp_path / "checks.log") as runner:
        runner.validate([about("orders", slow)])
        timer = threading.Timer(0.5, runner.kill)
        timer.start()
        with pytest.raises(ToolFailed):
            run(runner, about("orders", slow), filled)
        timer.join()


def test_a_library_that_prints_does_not_disturb_the_conversation(runner: SuiteRunner, filled: Login) -> None:
    pid = runner.pid
    assert pid is not None
    runner.validate([about("orders", GOOD["null"])])
    # Its standard output is the log, and its standard input is empty.
    assert os.readlink(f"/proc/{pid}/fd/1").endswith("checks.log")
    assert os.readlink(f"/proc/{pid}/fd/0") == os.devnull


@pytest.mark.slow
def test_nothing_is_left_in_the_temporary_folder(
    tmp_path: Path, filled: Login, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    monkeypatch.setenv("HOME", str(scratch))
    with SuiteRunner.start(tmp_path / "checks.log") as runner:
        assert run(runner, about("orders", GOOD["null"]), filled)[0].success
    assert list(scratch.iterdir()) == []
