from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg import sql

from migrator.config.login import Login
from migrator.errors import StepFailed
from migrator.postgres.catalog import Relation, tables
from migrator.postgres.connect import PgSession, connect
from migrator.postgres.row_fingerprint import (
    TableFingerprint,
    of_large_objects,
    of_table,
    of_tables,
    snapshot_sessions,
)
from migrator.postgres.schema_fingerprint import of_schema
from migrator.postgres.session import Row
from migrator.postgres.transactions import statement
from tests.conftest import Server, fresh_database
from tests.integration.restored import restored

TYPES = """
CREATE SCHEMA kinds;
CREATE TYPE kinds.mood AS ENUM ('sad', 'ok', 'happy');
CREATE TYPE kinds.pair AS (a numeric, "b C" char(5));
CREATE TYPE kinds.deep AS (p kinds.pair, m kinds.mood[]);
CREATE TYPE kinds.span AS RANGE (subtype = numeric);
CREATE DOMAIN kinds.price AS numeric CHECK (VALUE < 1000000);
CREATE DOMAIN kinds.dearer AS kinds.price;
CREATE DOMAIN kinds.moody AS kinds.mood;
CREATE DOMAIN kinds.pairs AS kinds.pair[];
CREATE DOMAIN kinds.word AS char(5);
CREATE TABLE kinds.one (a int);
CREATE TABLE kinds.other (a int);
CREATE FUNCTION kinds.blind(kinds.mood) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT 'x' $$;
CREATE CAST (kinds.mood AS text) WITH FUNCTION kinds.blind(kinds.mood);
"""

# A type, and two of its values that a careless fingerprint takes for the same.
PAIRS = [
    ("int", "5", "-5"),
    ("smallint", "0", "NULL"),
    ("bigint", "1", "4294967296"),
    ("bigint", "-1", "0"),
    ("numeric", "5", "-5"),
    ("numeric", "1.0", "1.00"),
    ("numeric(12, 2)", "7.10", "-7.10"),
    ("numeric", "'NaN'", "'Infinity'"),
    ("numeric", "'Infinity'", "'-Infinity'"),
    ("numeric", "1e10", "1e6"),
    ("float8", "0", "'-0'"),
    ("float8", "0.1", "0.1::float8 + 1e-17::float8 + 2e-17::float8"),
    ("real", "'NaN'", "NULL"),
    ("money", "1.10", "-1.10"),
    ("boolean", "true", "false"),
    ("boolean", "false", "NULL"),
    ("text", "'a'", "'A'"),
    ("text", "''", "NULL"),
    ("text", "'a'", "'a '"),
    ("text", "'é'", "E'e\\u0301'"),
    ("varchar(9)", "'a'", "'a '"),
    ("bpchar", "'a'", "'a '"),
    ("char(3)", "'a'", "'b'"),
    ('"char"', "'a'", "'b'"),
    ("name", "'a'", "'A'"),
    ("bytea", "'\\x00'", "'\\x0000'"),
    ("uuid", "'00000000-0000-0000-0000-000000000001'", "'00000000-0000-0000-0000-000000000010'"),
    ("date", "'2026-01-01'", "'infinity'"),
    ("timestamp", "'2026-01-01'", "'2026-01-01 00:00:00.000001'"),
    ("timestamptz", "'-infinity'", "'infinity'"),
    ("time", "'00:00'", "'24:00'"),
    ("timetz", "'12:00+00'", "'13:00+01'"),
    ("interval", "'1 day'", "'24:00'"),
    ("interval", "'1 month'", "'30 days'"),
    ("jsonb", "'{\"a\": 1.0}'", "'{\"a\": 1.00}'"),
    ("jsonb", "'1'", "'\"1\"'"),
    ("jsonb", "'null'", "NULL"),
    ("json", "'{\"a\":1}'", "'{\"a\": 1}'"),
    ("inet", "'10.0.0.1'", "'10.0.0.1/8'"),
    ("cidr", "'10.0.0.0/8'", "'10.0.0.0/9'"),
    ("point", "'(0,0)'", "'(-0,0)'"),
    ("bit(3)", "B'001'", "B'010'"),
    ("varbit", "B'0'", "B'00'"),
    ("tsvector", "'a:1'", "'a:2'"),
    ("int4range", "'[1,2)'", "'empty'"),
    ("kinds.span", "'[1,2)'", "'[1.0,2)'"),
    ("int[]", "'{1,2}'", "'{{1,2}}'"),
    ("int[]", "'{1,2}'", "'[2:3]={1,2}'"),
    ("int[]", "'{}'", "'{NULL}'"),
    ("text[]", "'{a,b}'", "'{\"a,b\"}'"),
    ("text[]", "'{NULL}'", "'{\"NULL\"}'"),
    ("char(3)[]", "'{a}'", "'{b}'"),
    ("kinds.mood", "'ok'", "'happy'"),
    ("kinds.mood[]", "'{ok}'", "'{sad}'"),
    ("kinds.moody", "'ok'", "'happy'"),
    ("kinds.pair", "(1.0, 'x')", "(1.00, 'x')"),
    ("kinds.pair", "(NULL, NULL)", "NULL"),
    ("kinds.pairs", "ARRAY[(1, 'x')]::kinds.pair[]", "ARRAY[(1.0, 'x')]::kinds.pair[]"),
    ("kinds.deep", "((1, 'x'), '{ok}')", "((1, 'x'), '{sad}')"),
    ("kinds.price", "1", "-1"),
    ("kinds.dearer", "1.0", "1.00"),
    ("kinds.word", "'a'", "'b'"),
    ("regclass", "'kinds.one'", "'kinds.other'"),
    ("regtype[]", "'{kinds.mood}'", "'{kinds.pair}'"),
    ("oid", "1", "2"),
    ("pg_lsn", "'0/1'", "'1/0'"),
]


@contextmanager
def session_of(login: Login) -> Iterator[PgSession]:
    with connect(login, role="test", run_id="test") as session:
        yield session


def relation(session: PgSession, name: str) -> Relation:
    [found] = [table for table in tables(session) if table.qualified == name]
    return found


def fingerprint(session: PgSession, name: str, columns: Sequence[str] | None = None) -> TableFingerprint:
    return of_table(session, relation(session, name), columns=columns)


@pytest.fixture(scope="module")
def kinds(server: Server) -> Iterator[Login]:
    with fresh_database(server) as login:
        with session_of(login) as session:
            session.execute(TYPES)
        yield login


@pytest.fixture
def session(kinds: Login) -> Iterator[PgSession]:
    with session_of(kinds) as session:
        session.execute("BEGIN")
        yield session
        session.execute("ROLLBACK")


@pytest.mark.parametrize(("type_", "one", "other"), PAIRS)
def test_two_values_are_told_apart(session: PgSession, type_: str, one: str, other: str) -> None:
    session.execute(f"CREATE TABLE t (id int, v {type_}); INSERT INTO t VALUES (1, {one}), (2, NULL)")
    table = relation(session, "public.t")
    before = of_table(session, table)
    session.execute(f"UPDATE t SET v = {one} WHERE id = 1")
    assert of_table(session, table) == before
    session.execute(f"UPDATE t SET v = {other} WHERE id = 1")
    assert of_table(session, table).digest != before.digest


def test_spellings_that_a_collation_takes_for_one_are_told_apart(server: Server, session: PgSession) -> None:
    if session.rows("SELECT FROM pg_collation WHERE collname = 'und-x-icu'") == []:
        pytest.skip("this server knows no ICU: name one that does by MIGRATOR_TEST_SERVER_URL")
    session.execute(
        """CREATE COLLATION blurred (provider = icu, locale = 'und-u-ks-level1', deterministic = false);
        CREATE DOMAIN blurry AS text COLLATE blurred;
        CREATE TABLE t (a text COLLATE blurred, b varchar(5) COLLATE blurred, c blurry, d blurry[]);
        INSERT INTO t VALUES ('a', 'a', 'a', '{a}')"""
    )
    table = relation(session, "public.t")
    seen = {of_table(session, table).digest}
    for column, value in (("a", "A"), ("b", "á"), ("c", "A"), ("d", "{A}")):
        session.execute(f"UPDATE t SET {column} = '{value}'")
        seen.add(of_table(session, table).digest)
    assert len(seen) == 5


def test_every_type_is_the_same_after_dump_and_restore(server: Server, kinds: Login) -> None:
    with session_of(kinds) as session:
        columns = [(f"c{number}", type_, value) for number, (type_, *pair) in enumerate(PAIRS) for value in pair[:1]]
        session.execute(
            # what is dropped leaves a gap that a restore closes; OIDs of what is made later differ there
            "CREATE TABLE public.all_types (dropped int, "
            + ", ".join(f"{name} {type_}" for name, type_, _ in columns)
            + "); ALTER TABLE public.all_types DROP COLUMN dropped; INSERT INTO public.all_types VALUES ("
            + ", ".join(value for *_, value in columns)
            + "); CREATE TABLE public.others (LIKE public.all_types); INSERT INTO public.others VALUES ("
            + ", ".join(pair[1] for _, *pair in PAIRS)
            + ")"
        )
        found = of_tables([session], tables(session))
        with session_of(restored(server, kinds)) as copy:
            assert of_tables([copy], tables(copy)) == found
        session.execute("DROP TABLE public.all_types, public.others")
    assert found["public.all_types"].digest != found["public.others"].digest


values = st.tuples(
    st.none() | st.integers(-(2**63), 2**63 - 1).map(str),
    st.none() | st.sampled_from(["0", "-1.5", "1.5", "1.50", "NaN", "Infinity", "-Infinity"]),
    st.none() | st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=5),
)
some_rows = st.lists(values, max_size=6)


class Rows:
    """A table whose rows are replaced again and again, in a transaction that is never committed."""

    def __init__(self, session: PgSession) -> None:
        self.session, self.table = session, relation(session, "public.r")

    def digest(self, values: Sequence[tuple[object, ...]]) -> str:
        insert = statement(
            "INSERT INTO r VALUES {}",
            sql.SQL(", ").join(
                sql.SQL("({}::bigint, {}::numeric, {})").format(*(sql.Literal(value) for value in row))
                for row in values
            ),
        )
        self.session.execute(f"DELETE FROM r; {insert if values else ''}")
        found = of_table(self.session, self.table)
        assert found.rows == len(values)
        return found.digest


@pytest.fixture(scope="module")
def table(kinds: Login) -> Iterator[Rows]:
    with session_of(kinds) as session:
        session.execute("BEGIN; CREATE TABLE public.r (a bigint, b numeric, c text)")
        yield Rows(session)
        session.execute("ROLLBACK")


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_equal_rows_in_any_order_and_nothing_else_have_the_same_digest(table: Rows, data: st.DataObject) -> None:
    one = data.draw(some_rows)
    digest = table.digest(one)
    assert table.digest(data.draw(st.permutations(one))) == digest
    other = data.draw(some_rows)
    assert (table.digest(other) == digest) == (sorted(one, key=repr) == sorted(other, key=repr))


@settings(max_examples=60, deadline=None)
@given(first=values, second=values)
def test_two_rows_that_swap_a_value_are_seen(table: Rows, first: tuple[str], second: tuple[str]) -> None:
    before = [first, second]
    swapped = [(first[0], *second[1:]), (second[0], *first[1:])]
    same = sorted(swapped, key=repr) == sorted(before, key=repr)
    assert (table.digest(before) == table.digest(swapped)) == same


def test_chosen_columns_survive_a_change_of_the_others(session: PgSession) -> None:
    session.execute("CREATE TABLE t (a int, b text, c varchar(5)); INSERT INTO t VALUES (1, 'x', 'y'), (2, 'z', NULL)")
    before = fingerprint(session, "public.t", ["a", "c"])
    session.execute(
        "ALTER TABLE t DROP b, ADD d int DEFAULT 5, ALTER a TYPE bigint, ALTER c TYPE text; UPDATE t SET d = 6"
    )
    after = fingerprint(session, "public.t", ["a", "c"])
    assert (after.rows, after.digest) == (before.rows, before.digest)
    assert (before.columns, after.columns) == (
        {"a": "integer", "c": "character varying(5)"},
        {"a": "bigint", "c": "text"},
    )
    with pytest.raises(StepFailed, match=r"public\.t has no column b"):
        fingerprint(session, "public.t", ["a", "b"])


def test_tables_of_every_shape_are_read_by_their_own_rows(session: PgSession) -> None:
    session.execute(
        """CREATE TABLE bare (); INSERT INTO bare DEFAULT VALUES;
        CREATE TABLE parent (a int); CREATE TABLE child () INHERITS (parent);
        INSERT INTO parent VALUES (1); INSERT INTO child VALUES (2), (3);
        CREATE TABLE parts (a int) PARTITION BY LIST (a); CREATE TABLE part_1 PARTITION OF parts FOR VALUES IN (1);
        CREATE TABLE "Odd ""name"" %s {}" (a int, "SELECT 'x' ""y"" %s {0}" int GENERATED ALWAYS AS (a + 1) STORED);
        INSERT INTO "Odd ""name"" %s {}" VALUES (7); INSERT INTO parts VALUES (1), (1);
        CREATE MATERIALIZED VIEW full_one AS SELECT 1 AS a; CREATE MATERIALIZED VIEW void AS SELECT 1 AS a WITH NO DATA;
        CREATE UNLOGGED TABLE unlogged (a int); CREATE TEMP TABLE passing (a int); CREATE VIEW v AS SELECT 1 AS a"""
    )
    found = of_tables([session], tables(session))
    assert {name: one.rows for name, one in found.items() if name.startswith("public.")} == {
        "public.bare": 1,
        "public.parent": 1,
        "public.child": 2,
        "public.part_1": 2,
        'public."Odd ""name"" %s {}"': 1,
        "public.full_one": 1,
        "public.void": 0,
        "public.unlogged": 0,
    }
    assert found["public.void"].digest == "unpopulated"
    session.execute("REFRESH MATERIALIZED VIEW void")
    assert fingerprint(session, "public.void").digest == found["public.full_one"].digest


def test_a_virtual_column_holds_nothing_and_is_not_read(server: Server, session: PgSession) -> None:
    if server.major < 18:
        pytest.skip("virtual generated columns came with PostgreSQL 18")
    session.execute("CREATE TABLE t (a int, b int GENERATED ALWAYS AS (1 / a) VIRTUAL); INSERT INTO t VALUES (0)")
    assert fingerprint(session, "public.t").columns == {"a": "integer"}


def test_hidden_rows_are_an_error_that_names_the_table(server: Server, database: Login) -> None:
    with session_of(database) as session:
        session.execute(
            """CREATE TABLE plain (a int); CREATE TABLE forced (a int); INSERT INTO forced VALUES (1), (2);
            ALTER TABLE forced ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
            CREATE POLICY one ON forced USING (a = 1); ALTER ROLE migrator SET row_security = on"""
        )
        try:
            session.execute("BEGIN; SET row_security = on")
            with pytest.raises(StepFailed, match=r"rows of public\.forced cannot be read in full") as failure:
                of_tables([session], tables(session))
            assert failure.value.code == "unreadable"
            assert failure.value.hint is not None
            assert session.rows("SHOW row_security") == [("on",)]
            assert fingerprint(session, "public.plain").rows == 0  # the transaction goes on
        finally:
            session.execute("ROLLBACK; ALTER ROLE migrator RESET row_security")


def test_a_table_without_the_privilege_to_read_it_is_named(server: Server, database: Login) -> None:
    with session_of(database) as session, session_of(server.app.to(database.database)) as app:
        session.execute("CREATE TABLE mine (a int); CREATE TABLE shared (a int); GRANT SELECT ON shared TO app")
        with pytest.raises(StepFailed, match=r"public\.mine cannot be read in full.*42501") as failure:
            of_tables([app], tables(app))
        assert failure.value.code == "unreadable"


class _OverAPipe:
    """What a session is to these modules, and no more: as the one that Liquibase works in."""

    def __init__(self, session: PgSession) -> None:
        self._session = session

    def rows(self, sql: str) -> list[Row]:
        return self._session.rows(sql)

    def execute(self, sql: str) -> None:
        self._session.execute(sql)


def test_a_held_transaction_keeps_its_settings_and_gets_no_locks(session: PgSession) -> None:
    session.execute("CREATE SEQUENCE s; SET search_path = kinds; SET LOCAL TimeZone = 'Asia/Tokyo'")
    of_tables([_OverAPipe(session)], tables(session))
    assert session.rows("SHOW search_path") == [("kinds",)]
    assert session.rows("SHOW TimeZone") == [("Asia/Tokyo",)]
    locks = "SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND relation = "
    assert session.rows(f"{locks} 'kinds.one'::regclass") == [("0",)]


def test_sessions_of_a_snapshot_do_not_see_what_was_written_since(server: Server, database: Login) -> None:
    with session_of(database) as holder, session_of(database) as writer:
        writer.execute("CREATE TABLE t (a int); CREATE TABLE u (a int); INSERT INTO t SELECT generate_series(1, 100)")
        holder.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        [(snapshot,)] = holder.rows("SELECT pg_export_snapshot()")
        held = of_tables([holder], tables(holder))
        writer.execute("INSERT INTO t VALUES (101); DELETE FROM t WHERE a = 1; INSERT INTO u VALUES (1)")
        with snapshot_sessions(database, snapshot=snapshot or "", jobs=2, run_id="test") as sessions:
            assert of_tables(sessions, tables(holder)) == held
        assert all(session.closed for session in sessions)
        assert of_tables([writer], tables(writer)) != held
    with (
        pytest.raises(StepFailed, match="snapshot"),
        snapshot_sessions(database, snapshot=snapshot or "", jobs=1, run_id="test"),
    ):
        pass


def test_an_error_in_one_session_ends_the_work_of_all(server: Server, database: Login) -> None:
    with session_of(database) as one, session_of(database) as two:
        one.execute("CREATE TABLE slow (a int); INSERT INTO slow VALUES (1); CREATE TABLE t (a int)")
        slow, gone = (replace(relation(one, f"public.{name}"), pages_bytes=2**30) for name in ("slow", "t"))
        two.execute("DROP TABLE t")
        with session_of(database) as other:
            other.execute("BEGIN; LOCK TABLE slow")  # for ever: only a cancellation ends the wait for it
            with pytest.raises(StepFailed, match=r"rows of public\.t could not be read"):
                of_tables([one, two], [slow, gone])
        assert of_table(one, slow).rows == 1
        assert of_table(two, slow).rows == 1


def test_large_objects_count_by_number_and_content(server: Server, database: Login) -> None:
    with session_of(database) as session:
        assert of_large_objects(session).rows == 0
        session.execute("SELECT lo_from_bytea(4711, 'abc'), lo_from_bytea(4712, ''), lo_create(4713)")
        session.execute("SELECT lo_put(4713, 20000000, 'far away')")  # three pieces, all but the last of them zeros
        before = of_large_objects(session)
        assert before.rows == 3
        with session_of(restored(server, database)) as copy:
            assert of_large_objects(copy) == before
        for change in ("lo_put(4711, 2, 'C')", "lo_put(4713, 10000000, 'x')", "lo_put(4712, 0, 'x')"):
            session.execute(f"BEGIN; SELECT {change}")
            assert of_large_objects(session).digest != before.digest
            session.execute("ROLLBACK")
        assert of_large_objects(session) == before


@pytest.mark.slow
def test_five_thousand_tables_do_not_exhaust_the_lock_table(server: Server, database: Login) -> None:
    with session_of(database) as session:
        for start in range(0, 5000, 500):
            session.execute(
                f"""DO $$ BEGIN FOR i IN {start}..{start + 499} LOOP
                EXECUTE format('CREATE TABLE t%s (a int PRIMARY KEY, b text)', i);
                EXECUTE format('INSERT INTO t%s VALUES (%s)', i, i);
                EXECUTE format('CREATE VIEW v%s AS SELECT * FROM t%s', i, i); END LOOP; END $$"""
            )
        session.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        found = of_tables([session], tables(session))
        assert len({one.digest for one in found.values()}) == len(found) == 5000
        assert len(of_schema(session).objects) > 20000
