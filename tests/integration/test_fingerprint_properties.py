"""Whatever a table holds: equal after dump and restore, different after a change of any one value."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from psycopg import sql

from migrator.config.login import Login
from migrator.errors import StepFailed
from migrator.postgres.catalog import Relation, tables
from migrator.postgres.connect import PgSession, connect
from migrator.postgres.row_fingerprint import of_table, of_tables
from migrator.postgres.schema_fingerprint import of_schema
from tests.conftest import Server, fresh_database
from tests.integration.restored import restored

MADE = """
CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy', 'Sad');
CREATE TYPE pair AS (a numeric, "b C" char(5), m mood);
CREATE TYPE deep AS (p pair, q pair[]);
CREATE TYPE span AS RANGE (subtype = numeric);
CREATE DOMAIN price AS numeric CHECK (VALUE < 1e30);
CREATE DOMAIN dearer AS price;
CREATE DOMAIN moods AS mood[];
CREATE TABLE one (a int); CREATE TABLE other (a int);
"""
BLURRED = """
CREATE COLLATION blurred (provider = icu, locale = 'und-u-ks-level1', deterministic = false);
CREATE DOMAIN vague AS text COLLATE blurred;
"""

characters = st.characters(exclude_characters="\x00", exclude_categories=["Cs"])
texts = st.text(characters, max_size=6) | st.sampled_from(["", " ", "a", "A", "a ", "é", "e\u0301", "NULL", "{}", "\\"])
numbers = st.sampled_from(
    ["0", "-0", "1", "1.0", "1.00", "-1.5", "1.5", "NaN", "Infinity", "-Infinity", "1e20", "1e-20"]
) | st.decimals(-(10**12), 10**12, allow_nan=False, places=5).map(str)
floats = numbers | st.floats(allow_nan=False, allow_infinity=False, width=32).map(repr)
moments = st.sampled_from(["2026-01-01", "1999-12-31 23:59:59.999999", "infinity", "-infinity", "0044-03-15 BC"])
json_texts = st.sampled_from(
    ["1", "1.0", "1.00", '"1"', "null", "[]", "{}", '{"a":1}', '{"a": 1}', '{"a":1,"b":2}', '{"b":2,"a":1}', "[1,[2]]"]
)
digits = st.integers(0, 2**31 - 1).map(str)


def integers(bits: int) -> st.SearchStrategy[str]:
    some = [0, 1, -1, 2**32, 2**32 + 1, -(2 ** (bits - 1)), 2 ** (bits - 1) - 1]
    most = 2 ** (bits - 1)
    fit = [number for number in some if -most <= number < most]
    return (st.sampled_from(fit) | st.integers(-most, most - 1)).map(str)


def listed(*values: str) -> st.SearchStrategy[str]:
    return st.sampled_from(values)


# Every type that a column can have, and values of it as they are written. A list of values holds those that a
# careless hash takes for one another.
TYPES: dict[str, st.SearchStrategy[str]] = {
    "bool": listed("t", "f"),
    "bytea": st.binary(max_size=5).map(lambda value: "\\x" + value.hex()),
    '"char"': listed("a", "b", "A"),
    "name": listed("a", "A", "b"),
    "int8": integers(64),
    "int4": integers(32),
    "int2": integers(16),
    "int2vector": listed("1 2", "2 1", "1"),
    "text": texts,
    "oid": digits,
    "tid": listed("(0,1)", "(1,0)", "(0,2)"),
    "xid": digits,
    "cid": digits,
    "oidvector": listed("1 2", "2 1", "1"),
    "json": json_texts,
    "jsonb": json_texts,
    "jsonpath": listed("$.a", "$.b", "strict $.a"),
    "xml": listed("<a/>", "<a></a>", "<b/>"),
    "pg_node_tree": st.nothing(),
    "pg_ndistinct": st.nothing(),
    "pg_dependencies": st.nothing(),
    "pg_mcv_list": st.nothing(),
    "pg_brin_bloom_summary": st.nothing(),
    "pg_brin_minmax_multi_summary": st.nothing(),
    "gtsvector": st.nothing(),
    "aclitem": listed("postgres=r/postgres", "postgres=w/postgres"),
    "pg_snapshot": listed("10:20:10,14,15", "10:20:10,14", "10:21:10"),
    "txid_snapshot": listed("10:20:10,14,15", "10:20:10,14", "10:21:10"),
    "xid8": digits,
    "point": listed("(0,0)", "(-0,0)", "(1,2)", "(2,1)"),
    "lseg": listed("[(0,0),(1,1)]", "[(1,1),(0,0)]"),
    "path": listed("((0,0),(1,1))", "[(0,0),(1,1)]"),
    "box": listed("(1,1),(0,0)", "(2,1),(0,0)"),
    "polygon": listed("((0,0),(1,1),(1,0))", "((0,0),(1,0),(1,1))"),
    "line": listed("{1,2,3}", "{3,2,1}"),
    "circle": listed("<(0,0),1>", "<(0,0),2>", "<(0,1),1>"),
    "float4": floats,
    "float8": floats,
    "money": listed("1.10", "-1.10", "0"),
    "macaddr": listed("08:00:2b:01:02:03", "08:00:2b:01:02:04"),
    "macaddr8": listed("08:00:2b:01:02:03:04:05", "08:00:2b:01:02:03:04:06"),
    "inet": listed("10.0.0.1", "10.0.0.1/8", "10.0.0.1/32", "::1"),
    "cidr": listed("10.0.0.0/8", "10.0.0.0/9", "::/0"),
    "bpchar": texts,
    "bpchar(3)": listed("a", "b", "A"),
    "varchar": texts,
    "varchar(9)": listed("a", "a ", "A"),
    "date": listed("2026-01-01", "2026-01-02", "infinity", "-infinity", "0044-03-15 BC"),
    "time": listed("00:00", "24:00", "12:00:00.000001"),
    "timestamp": moments,
    "timestamptz": moments,
    "interval": listed("1 day", "24:00", "1 mon", "30 days", "-1 day", "0", "1 year", "12 mons", "1 day -24:00"),
    "timetz": listed("12:00+00", "13:00+01", "00:00+00", "24:00+00"),
    "bit(3)": listed("001", "010", "111"),
    "bit": listed("0", "1"),
    "varbit": listed("0", "00", "1", ""),
    "numeric": numbers,
    "numeric(12, 2)": listed("1", "-1", "0.01", "NaN"),
    "refcursor": texts,
    "regprocedure": listed("lower(text)", "upper(text)"),
    "regoper": st.nothing(),  # no operator's name alone is clear
    "regoperator": listed("+(integer,integer)", "-(integer,integer)"),
    "regclass": listed("one", "other", "pg_class"),
    "regcollation": listed('"C"', '"POSIX"'),
    "regtype": listed("mood", "pair", "integer", "mood[]"),
    "regrole": listed("postgres", "pg_monitor"),
    "regnamespace": listed("public", "pg_catalog"),
    "regproc": listed("now", "pi"),
    "regconfig": listed("simple", "english"),
    "regdictionary": listed("simple", "english_stem"),
    "regdatabase": listed("postgres", "template1"),
    "uuid": st.uuids().map(str),
    "pg_lsn": listed("0/1", "1/0", "16/B374D848"),
    "tsvector": listed("a:1", "a:2", "a", "'A':1"),
    "tsquery": listed("a & b", "b & a", "a | b"),
    "int4range": listed("[1,2)", "[1,3)", "empty", "(,)"),
    "int8range": listed("[1,2)", "[1,3)", "empty"),
    "numrange": listed("[1,2)", "[1.0,2)", "[1,2]", "empty"),
    "tsrange": listed("[2026-01-01,2026-01-02)", "empty"),
    "tstzrange": listed("[2026-01-01,2026-01-02)", "empty"),
    "daterange": listed("[2026-01-01,2026-01-02)", "empty"),
    "int4multirange": listed("{[1,2)}", "{[1,2),[4,5)}", "{}"),
    "int8multirange": listed("{[1,2)}", "{}"),
    "nummultirange": listed("{[1,2)}", "{[1.0,2)}", "{}"),
    "tsmultirange": listed("{[2026-01-01,2026-01-02)}", "{}"),
    "tstzmultirange": listed("{[2026-01-01,2026-01-02)}", "{}"),
    "datemultirange": listed("{[2026-01-01,2026-01-02)}", "{}"),
    "mood": listed("sad", "ok", "happy", "Sad"),
    "pair": listed("(1,a,ok)", "(1.0,a,ok)", "(1,b,ok)", "(1,a,sad)", "(,,)"),
    "deep": listed('("(1,a,ok)",{})', '("(1.0,a,ok)",{})', "(,{})", "(,)", '(,"{""(1,a,ok)""}")'),
    "span": listed("[1,2)", "[1.0,2)", "empty"),
    "price": listed("1", "1.0", "-1", "1.00"),
    "dearer": listed("1", "1.0", "-1"),
    "moods": listed("{ok}", "{sad}", "{Sad}", "{}", "{NULL}"),
    'text COLLATE "C"': texts,
    "text COLLATE blurred": texts,
    "varchar(9) COLLATE blurred": listed("a", "A", "a ", "é", "e\u0301"),
    "vague": texts,
}
USABLE = sorted(name for name, values in TYPES.items() if not values.is_empty)


@dataclass(frozen=True)
class Column:
    type: str  # as it is declared
    values: st.SearchStrategy[str | None]


def _array(values: st.SearchStrategy[str], between: str) -> st.SearchStrategy[str]:
    def quoted(value: str | None) -> str:
        return "NULL" if value is None else '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'

    return st.lists(st.none() | values, max_size=3).map(lambda some: "{" + between.join(map(quoted, some)) + "}")


@st.composite
def columns(draw: st.DrawFn, known: Sequence[str]) -> Column:
    name = draw(st.sampled_from(known))
    values = TYPES[name]
    if name != "moods" and draw(st.integers(0, 4)) == 0:
        base, *collation = name.partition(" COLLATE ")
        many = "".join([base, "[]", *collation])
        return Column(type=many, values=st.none() | _array(values, ";" if name == "box" else ","))
    return Column(type=name, values=st.none() | values)


@contextmanager
def session_of(login: Login) -> Iterator[PgSession]:
    with connect(login, role="test", run_id="test") as session:
        yield session


@contextmanager
def kinds_of(server: Server) -> Iterator[Login]:
    """A database with the types that are made here, as far as the server can."""
    with fresh_database(server) as login:
        with session_of(login) as session:
            session.execute(MADE)
            if session.rows("SELECT FROM pg_collation WHERE collname = 'und-x-icu'"):
                session.execute(BLURRED)
        yield login


@pytest.fixture(scope="module")
def kinds(server: Server) -> Iterator[Login]:
    with kinds_of(server) as login:
        yield login


@pytest.fixture(scope="module")
def known(kinds: Login) -> list[str]:
    with session_of(kinds) as session:
        return known_types(session)


def known_types(session: PgSession) -> list[str]:
    """The types that this server has, as it was built; the summary of the tests names the others."""
    known = [name for name in USABLE if _has(session, name)]
    left_out = [name for name in USABLE if name not in known]
    if left_out:
        [(version,)] = session.rows("SHOW server_version")
        warnings.warn(
            f"fingerprints: not shown for {', '.join(left_out)}: this PostgreSQL {version} does not have them;"
            " name a server that has them by MIGRATOR_TEST_SERVER_URL",
            stacklevel=2,
        )
    return known


def _has(session: PgSession, name: str) -> bool:
    base, _, collation = name.partition(" COLLATE ")
    if session.rows(sql.SQL("SELECT to_regtype({})").format(sql.Literal(base)).as_string(None)) == [(None,)]:
        return False
    if collation and not session.rows(
        sql.SQL("SELECT FROM pg_collation WHERE collname = {}")
        .format(sql.Literal(collation.strip('"')))
        .as_string(None)
    ):
        return False
    try:
        session.rows("SELECT '<a/>'::xml" if name == "xml" else "SELECT 1")
    except StepFailed:
        return False
    return True


def test_every_type_that_postgresql_brings_is_among_them(kinds: Login) -> None:
    with session_of(kinds) as session:
        there = {
            name
            for (name,) in session.rows(
                "SELECT typname FROM pg_type WHERE typnamespace = 'pg_catalog'::regnamespace"
                " AND typtype IN ('b', 'r', 'm', 'd', 'e') AND typelem = 0 OR typname IN ('name', 'int2vector')"
            )
        }
    known = {name.strip('"').split("(")[0] for name in TYPES} | {"point", "lseg", "box", "line"}
    assert there - known == set()


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_change_of_any_one_value_is_seen(kinds: Login, known: list[str], data: st.DataObject) -> None:
    _change_one(kinds, known, data)


@pytest.mark.slow
@settings(max_examples=1500, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_change_of_any_one_value_is_seen_many_times(kinds: Login, known: list[str], data: st.DataObject) -> None:
    _change_one(kinds, known, data)


@settings(max_examples=2, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_change_of_a_value_of_every_type_is_seen(kinds: Login, known: list[str], data: st.DataObject) -> None:
    _change_each(kinds, known, data)


@pytest.mark.slow
def test_change_of_a_value_of_every_type_is_seen_where_the_server_was_built_with_all(tls_server: Server) -> None:
    with kinds_of(tls_server) as login:
        with session_of(login) as session:
            there = known_types(session)

        @settings(max_examples=5, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
        @given(data=st.data())
        def change(data: st.DataObject) -> None:
            _change_each(login, there, data)

        change()


def _change_each(kinds: Login, known: Sequence[str], data: st.DataObject) -> None:
    """A table with a column of every type, each of which is changed in turn."""
    shape = [Column(type=name, values=TYPES[name]) for name in known]
    values = [data.draw(column.values) for column in shape]
    with session_of(kinds) as session:
        session.execute("BEGIN")
        _make(session, "t", shape, [values], partitioned=False)
        [table] = [table for table in tables(session) if table.qualified == "public.t"]
        for number, (column, value) in enumerate(zip(shape, values, strict=True)):
            _assert_change_is_seen(session, table, (0, number), (column, data.draw(column.values.filter(value.__ne__))))
        session.execute("ROLLBACK")


def _change_one(kinds: Login, known: list[str], data: st.DataObject) -> None:
    shape = data.draw(st.lists(columns(known), min_size=1, max_size=4))
    rows = data.draw(st.lists(st.tuples(*(column.values for column in shape)), min_size=1, max_size=4))
    at_row = data.draw(st.integers(0, len(rows) - 1))
    at_column = data.draw(st.integers(0, len(shape) - 1))
    changed = data.draw(shape[at_column].values)
    partitioned = data.draw(st.booleans())
    with session_of(kinds) as session:
        session.execute("BEGIN")
        _make(session, "t", shape, rows, partitioned=partitioned)
        name = "public.t_parts" if partitioned else "public.t"
        [table] = [table for table in tables(session) if table.qualified == name]
        assert of_table(session, table).rows == len(rows)
        _assert_change_is_seen(session, table, (at_row, at_column), (shape[at_column], changed))
        session.execute("ROLLBACK")


def _assert_change_is_seen(
    session: PgSession, table: Relation, at: tuple[int, int], change: tuple[Column, str | None]
) -> None:
    """Or it was none: the value prints as before."""
    (row, number), (column, value) = at, change
    before, witness = of_table(session, table), _witness(session, row, number)
    update = sql.SQL("UPDATE t SET {} = {}::{} WHERE id = {}").format(
        sql.Identifier(f"c{number}"), sql.Literal(value), sql.SQL(column.type), sql.Literal(row)
    )
    session.execute(update.as_string(None))
    same = _witness(session, row, number) == witness
    assert (of_table(session, table).digest == before.digest) is same, f"{column.type}: {value!r}"


def _witness(session: PgSession, row: int, column: int) -> tuple[str | None, ...]:
    """The value as its own output function prints it: what a dump would hold."""
    [found] = session.rows(f"SELECT c{column} IS NULL, format('%s', c{column}) FROM t WHERE id = {row}")
    return found


def _make(
    session: PgSession, name: str, shape: Sequence[Column], rows: Sequence[Sequence[str | None]], *, partitioned: bool
) -> None:
    listing = ", ".join(f"c{number} {column.type}" for number, column in enumerate(shape))
    by_parts = " PARTITION BY RANGE (id)" if partitioned else ""
    session.execute(f"CREATE TABLE {name} (id int, {listing}){by_parts}")
    if partitioned:
        session.execute(f"CREATE TABLE {name}_parts PARTITION OF {name} FOR VALUES FROM (0) TO (1000)")
    values = [
        sql.SQL("({}, {})").format(
            sql.Literal(number),
            sql.SQL(", ").join(
                sql.SQL("{}::{}").format(sql.Literal(value), sql.SQL(column.type))
                for value, column in zip(row, shape, strict=True)
            ),
        )
        for number, row in enumerate(rows)
    ]
    session.execute(sql.SQL(f"INSERT INTO {name} VALUES {{}}").format(sql.SQL(", ").join(values)).as_string(None))


@pytest.mark.slow
@pytest.mark.parametrize("number", range(5))
def test_random_tables_are_equal_after_dump_and_restore(server: Server, number: int) -> None:
    _dump_and_restore(server, number)


@pytest.mark.slow
def test_random_tables_are_equal_after_dump_and_restore_where_the_server_was_built_with_all(tls_server: Server) -> None:
    _dump_and_restore(tls_server, 5)


def _dump_and_restore(server: Server, number: int) -> None:
    with kinds_of(server) as login:
        with session_of(login) as session:
            there = known_types(session)
        _fill(login, there, number)
        with session_of(login) as session:
            schema, found = of_schema(session), of_tables([session], tables(session))
        with session_of(restored(server, login)) as copy:
            assert of_tables([copy], tables(copy)) == found
            assert not schema.as_restored().diff(of_schema(copy).as_restored()).changed


def _fill(login: Login, known: list[str], number: int) -> None:
    """Sixty random tables, the same for the same number."""
    names = (f"t{count}" for count in itertools.count())

    @seed(number)
    @settings(max_examples=60, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(data=st.data())
    def fill(data: st.DataObject) -> None:
        shape = data.draw(st.lists(columns(known), min_size=1, max_size=6))
        rows = data.draw(st.lists(st.tuples(*(column.values for column in shape)), min_size=1, max_size=6))
        with session_of(login) as session:
            _make(session, next(names), shape, rows, partitioned=data.draw(st.booleans()))

    fill()
