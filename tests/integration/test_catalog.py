from __future__ import annotations

from migrator.config.login import Login
from migrator.postgres.catalog import Relation, scan_estimate_s, tables, unreadable
from migrator.postgres.connect import PgSession, connect
from tests.conftest import Server


def session_of(login: Login) -> PgSession:
    return connect(login, role="test", run_id="test")


def test_what_holds_rows_is_listed_by_name(database: Login) -> None:
    with session_of(database) as session:
        session.execute(
            """CREATE SCHEMA "Odd ""schema"; CREATE TABLE "Odd ""schema"."select" (a text);
            CREATE TABLE top (a int, b int) PARTITION BY LIST (a);
            CREATE TABLE middle PARTITION OF top FOR VALUES IN (1) PARTITION BY LIST (b);
            CREATE TABLE leaf PARTITION OF middle FOR VALUES IN (1);
            CREATE TABLE heir () INHERITS ("Odd ""schema"."select");
            CREATE MATERIALIZED VIEW m AS SELECT 1 AS a; CREATE MATERIALIZED VIEW none AS SELECT 1 AS a WITH NO DATA;
            CREATE VIEW v AS SELECT 1 AS a; CREATE SEQUENCE s; CREATE TEMP TABLE passing (a int);
            INSERT INTO heir SELECT repeat(md5(i::text), 100) FROM generate_series(1, 100) i"""
        )
        found = {table.qualified: table for table in tables(session)}
        assert list(found) == [
            '"Odd ""schema"."select"',
            "public.heir",
            "public.leaf",
            "public.m",
            'public."none"',
        ]
        odd = found['"Odd ""schema"."select"']
        assert (odd.schema, odd.name, odd.kind, odd.parent) == ('Odd "schema', "select", "r", None)
        assert found["public.leaf"].parent == "public.middle"
        assert found["public.heir"].parent is None
        assert (found["public.m"].kind, found["public.m"].populated, found['public."none"'].populated) == (
            "m",
            True,
            False,
        )
        assert found["public.heir"].pages_bytes > 0


def test_size_is_known_before_and_after_the_first_analyze(database: Login) -> None:
    with session_of(database) as session:
        session.execute("CREATE TABLE t AS SELECT repeat('x', 500) AS a FROM generate_series(1, 1000)")
        [new] = tables(session)
        session.execute("ANALYZE")
        [known] = tables(session)
    assert new.pages_bytes >= known.pages_bytes > 500_000


def test_tables_that_cannot_be_read_in_full_are_named_with_the_reason(server: Server, database: Login) -> None:
    with session_of(database) as session, session_of(server.app.to(database.database)) as app:
        session.execute(
            """CREATE SCHEMA closed; CREATE TABLE closed.t (a int); GRANT SELECT ON closed.t TO app;
            CREATE TABLE mine (a int); CREATE TABLE shared (a int); GRANT SELECT ON shared TO app;
            CREATE TABLE filtered (a int); GRANT SELECT ON filtered TO app;
            ALTER TABLE filtered ENABLE ROW LEVEL SECURITY"""
        )
        assert unreadable(session, tables(session)) == {}
        assert unreadable(app, tables(app)) == {
            "closed.t": "no USAGE privilege on its schema",
            "public.mine": "no SELECT privilege",
            "public.filtered": "row level security hides rows from this login",
        }
        session.execute("ALTER TABLE filtered FORCE ROW LEVEL SECURITY")
        assert list(unreadable(session, tables(session))) == ["public.filtered"]


def test_estimate_grows_with_size_and_number() -> None:
    small = Relation(schema="s", name="a", oid=1, kind="r", qualified="s.a", pages_bytes=10**6)
    big = Relation(schema="s", name="b", oid=2, kind="r", qualified="s.b", pages_bytes=10**9)
    assert 0 < scan_estimate_s([small]) < scan_estimate_s([small, small]) < scan_estimate_s([big]) < 60
    assert scan_estimate_s([]) == 0
