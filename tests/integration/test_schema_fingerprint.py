from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from psycopg import sql

from migrator.config.login import Login
from migrator.errors import StepFailed
from migrator.postgres import soundness, write_set
from migrator.postgres.connect import PgSession, connect
from migrator.postgres.schema_fingerprint import SchemaFingerprint, of_schema
from migrator.postgres.transactions import statement
from tests.conftest import Server, fresh_database
from tests.integration.everything import everything
from tests.integration.restored import restored


@contextmanager
def session_of(login: Login) -> Iterator[PgSession]:
    with connect(login, role="test", run_id="test") as session:
        yield session


@pytest.fixture(scope="module")
def shop(server: Server) -> Iterator[Login]:
    """A database with everything in it, by the superuser's login; every test leaves it as it was."""
    with fresh_database(server) as login:
        superuser = server.admin.to(login.database)
        with session_of(superuser) as session:
            session.execute(everything(server.major))
        yield superuser


@pytest.fixture
def session(shop: Login) -> Iterator[PgSession]:
    with session_of(shop) as session:
        session.execute("BEGIN")
        yield session
        session.execute("ROLLBACK")


def test_schema_is_the_same_after_dump_and_restore(server: Server, shop: Login) -> None:
    with session_of(shop) as before, session_of(restored(server, shop)) as after:
        one, other = of_schema(before), of_schema(after)
    assert one.diff(other).lines() == []
    assert one.digest == other.digest
    assert len(one.objects) > 150


def test_schema_is_the_same_after_dump_and_restore_on_an_older_server(server16: Server) -> None:
    with fresh_database(server16) as login:
        superuser = server16.admin.to(login.database)
        with session_of(superuser) as before:
            before.execute(everything(16))
            with session_of(restored(server16, login)) as after:
                assert of_schema(before).diff(of_schema(after)).lines() == []


def test_a_login_that_is_no_superuser_sees_the_same_but_for_the_options_of_user_mappings(
    server: Server, shop: Login
) -> None:
    with session_of(shop) as mighty, session_of(server.migrator.to(shop.database)) as plain:
        different = of_schema(mighty).diff(of_schema(plain))
    assert set(different.changed) == {'user mapping for app on "far away"'}
    assert not different.added
    assert not different.removed


# What is done -> what it adds (+), removes (-) and changes (~). Nothing else may differ.
CHANGES = {
    "CREATE TABLE shop.t (a int)": "+table shop.t +column shop.t.a",
    "DROP TABLE shop.numbered": "-table shop.numbered -column shop.numbered.n -sequence shop.numbers "
    "-grants on sequence shop.numbers",
    "ALTER TABLE shop.nothing OWNER TO app": "~table shop.nothing",
    "ALTER TABLE shop.nulls SET UNLOGGED": "~table shop.nulls",
    "ALTER TABLE shop.nothing SET (fillfactor = 80)": "~table shop.nothing",
    "ALTER TABLE shop.customers SET (toast.autovacuum_enabled = on)": "~table shop.customers",
    "ALTER TABLE shop.nothing REPLICA IDENTITY FULL": "~table shop.nothing",
    "ALTER TABLE shop.nothing ENABLE ROW LEVEL SECURITY": "~table shop.nothing",
    "ALTER TABLE shop.parent NO FORCE ROW LEVEL SECURITY": "~table shop.parent",
    "ALTER TABLE shop.nothing ADD COLUMN x int": "~table shop.nothing +column shop.nothing.x",
    "ALTER TABLE shop.child NO INHERIT shop.parent": "~table shop.child ~column shop.child.a ~column shop.child.b "
    "~column shop.child.late ~constraint parent_a_check on shop.child",
    "ALTER TABLE shop.orders ALTER note SET NOT NULL": "~column shop.orders.note",
    "ALTER TABLE shop.orders ALTER note SET DEFAULT 'x'": "~column shop.orders.note",
    "ALTER TABLE shop.orders ALTER note SET STATISTICS 5": "~column shop.orders.note",
    "ALTER TABLE shop.orders ALTER note SET STORAGE MAIN": "~column shop.orders.note",
    "ALTER TABLE shop.orders ALTER note SET COMPRESSION pglz": "~column shop.orders.note",
    "ALTER TABLE shop.orders ALTER note SET (n_distinct = 7)": "~column shop.orders.note",
    "ALTER TABLE shop.refers ALTER id TYPE bigint": "~column shop.refers.id",
    'ALTER TABLE "Odd ""schema"."odd \'table" ALTER "SELECT" TYPE text COLLATE "C"': "~column "
    '"Odd ""schema"."odd \'table"."SELECT"',
    "ALTER TABLE shop.customers ALTER id SET GENERATED ALWAYS": "~column shop.customers.id",
    "ALTER TABLE shop.customers ALTER id DROP IDENTITY": "~column shop.customers.id -sequence shop.customers_id_seq",
    "ALTER TABLE shop.customers ALTER doubled DROP EXPRESSION": "~column shop.customers.doubled",
    "ALTER TABLE shop.parts DETACH PARTITION shop.parts_2026": "~table shop.parts_2026 "
    "~index shop.parts_2026_pkey ~index shop.parts_2026_customer_idx "
    "+constraint own_name on shop.parts_2026 -trigger parted on shop.parts_2026",
    "CREATE INDEX extra ON shop.orders (customer)": "+index shop.extra",
    "DROP INDEX shop.sums_customer_idx": "-index shop.sums_customer_idx",
    "ALTER INDEX shop.orders_pkey SET (fillfactor = 50)": "~index shop.orders_pkey",
    "ALTER TABLE shop.orders CLUSTER ON orders_pkey": "~index shop.orders_pkey",
    "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'shop.orders_pkey'::regclass": "~index shop.orders_pkey",
    "ALTER TABLE shop.orders VALIDATE CONSTRAINT late": "~constraint late on shop.orders",
    "ALTER TABLE shop.orders ALTER CONSTRAINT orders_customer_fkey INITIALLY DEFERRED": "~constraint "
    "orders_customer_fkey on shop.orders",
    "ALTER TABLE shop.customers RENAME CONSTRAINT sensible TO s": "-constraint sensible on shop.customers "
    "+constraint s on shop.customers -comment on table constraint sensible on shop.customers "
    "+comment on table constraint s on shop.customers",
    "ALTER TABLE shop.orders DISABLE TRIGGER ALL": "~trigger checked on shop.orders "
    "+enforcement of orders_customer_fkey on shop.orders +enforcement of late on shop.orders",
    "ALTER TABLE shop.customers ENABLE REPLICA TRIGGER touched": "~trigger touched on shop.customers",
    "DROP TRIGGER touched ON shop.customers": "-trigger touched on shop.customers "
    "-comment on trigger touched on shop.customers",
    "ALTER TABLE shop.parts_2026 DISABLE TRIGGER parted": "~trigger parted on shop.parts_2026",
    "CREATE OR REPLACE RULE quiet AS ON DELETE TO shop.happy DO INSTEAD NOTHING": "~rule quiet on shop.happy",
    "ALTER POLICY own ON shop.customers TO PUBLIC": "~policy own on shop.customers",
    "ALTER POLICY own ON shop.customers WITH CHECK (true)": "~policy own on shop.customers",
    "CREATE OR REPLACE VIEW shop.invoking AS SELECT 2 AS a": "~view shop.invoking",
    "ALTER VIEW shop.happy RESET (security_barrier)": "~view shop.happy",
    "ALTER MATERIALIZED VIEW shop.empty SET (fillfactor = 20)": "~materialized view shop.empty",
    "CREATE OR REPLACE PROCEDURE shop.work(INOUT a int) LANGUAGE plpgsql AS $$ BEGIN a := 2; END $$": "~procedure "
    "shop.work(INOUT a integer)",
    "ALTER FUNCTION shop.secret() SECURITY INVOKER": "~function shop.secret()",
    "ALTER FUNCTION shop.secret() COST 5": "~function shop.secret()",
    "ALTER FUNCTION shop.secret() SET work_mem = '1MB'": "~function shop.secret()",
    "ALTER FUNCTION shop.secret() OWNER TO app": "~function shop.secret() ~grants on function shop.secret()",
    "GRANT EXECUTE ON FUNCTION shop.told() TO app": "+grants on function shop.told()",
    "CREATE OR REPLACE AGGREGATE shop.total(int) (sfunc = int4pl, stype = int, initcond = '1')": "~aggregate "
    "shop.total(integer)",
    "ALTER TYPE shop.mood RENAME VALUE 'sad' TO 'blue'": "~type shop.mood",
    "ALTER TYPE shop.mood ADD VALUE 'new' BEFORE 'sad'": "~type shop.mood",
    "ALTER TYPE shop.pair RENAME ATTRIBUTE a TO z CASCADE": "~type shop.pair -column shop.pair.a +column shop.pair.z "
    "~table shop.typed -column shop.typed.a +column shop.typed.z",
    "ALTER DOMAIN shop.grade SET DEFAULT 'mid'": "~domain shop.grade",
    "ALTER DOMAIN shop.grade DROP CONSTRAINT known": "-constraint known on domain shop.grade "
    "-comment on domain constraint known on shop.grade",
    "ALTER TYPE shop.span OWNER TO app": "~type shop.span",
    "ALTER COLLATION shop.german OWNER TO app": "~collation shop.german",
    "ALTER OPERATOR shop.=== (shop.mood, text) SET (RESTRICT = eqsel)": "~operator shop.===(shop.mood,text)",
    "ALTER OPERATOR FAMILY shop.ints USING btree ADD OPERATOR 1 > (int, bigint)": "~operator family shop.ints "
    "USING btree",
    "DROP CAST (shop.pair AS text)": "-cast shop.pair AS text",
    "ALTER CONVERSION shop.latin RENAME TO l": "-conversion shop.latin +conversion shop.l",
    "ALTER TEXT SEARCH DICTIONARY shop.words (accept = true)": "~text search dictionary shop.words",
    "ALTER TEXT SEARCH CONFIGURATION shop.search DROP MAPPING FOR word": "~text search configuration shop.search",
    "ALTER SEQUENCE shop.numbers INCREMENT -2": "~sequence shop.numbers",
    "ALTER SEQUENCE shop.numbers OWNED BY NONE": "~sequence shop.numbers",
    "ALTER STATISTICS shop.related SET STATISTICS 60": "~statistics shop.related",
    "ALTER EVENT TRIGGER telling DISABLE": "~event trigger telling",
    "ALTER PUBLICATION \"some\" SET (publish = 'insert')": '~publication "some"',
    'ALTER PUBLICATION "some" DROP TABLE shop.nothing': '-publication "some" of table shop.nothing',
    "ALTER PUBLICATION exact SET TABLE shop.customers (id, name) WHERE (id > 1)": "~publication exact of table "
    "shop.customers",
    "ALTER PUBLICATION exact SET TABLE shop.customers (id) WHERE (id BETWEEN 1 AND 2 AND name = 'a')": "~publication "
    "exact of table shop.customers",
    "ALTER FOREIGN DATA WRAPPER elsewhere OPTIONS (SET debug 'off')": "~foreign data wrapper elsewhere",
    "ALTER SERVER \"far away\" OPTIONS (SET port '2')": '~server "far away"',
    "ALTER USER MAPPING FOR app SERVER \"far away\" OPTIONS (SET password 'other')": "~user mapping for app on "
    '"far away"',
    "ALTER FOREIGN TABLE shop.far OPTIONS (SET table_name 'near')": "~foreign table shop.far",
    "REVOKE GRANT OPTION FOR INSERT ON shop.customers FROM app": "~grants on table shop.customers",
    "REVOKE UPDATE (note) ON shop.orders FROM PUBLIC": "-grants on table column shop.orders.note",
    "REVOKE SELECT ON pg_catalog.pg_authid FROM app": "-grants on table pg_catalog.pg_authid",
    "GRANT CREATE ON SCHEMA public TO app": "+grants on schema public",
    "GRANT SELECT ON shop.typed TO app; REVOKE SELECT ON shop.typed FROM app": "",
    "ALTER DEFAULT PRIVILEGES FOR ROLE migrator IN SCHEMA shop REVOKE SELECT ON TABLES FROM app": "-default "
    "privileges of migrator on tables in schema shop",
    "COMMENT ON TABLE shop.customers IS 'who buys '": "~comment on table shop.customers",
    "COMMENT ON SCHEMA public IS NULL": "-comment on schema public",
    "COMMENT ON LARGE OBJECT 424242 IS 'larger'": "~comment on large object 424242",
    "ALTER LARGE OBJECT 424242 OWNER TO app": "~large objects",
    "ALTER SCHEMA shop OWNER TO app": "~schema shop ~grants on schema shop",
    "CREATE ACCESS METHOD heap3 TYPE TABLE HANDLER heap_tableam_handler": "+access method heap3",
    "INSERT INTO shop.parent VALUES (1, 2, 3)": "",
    "SELECT setval('shop.numbers', -9)": "",
    "ANALYZE shop.orders": "",
    "CREATE TEMP TABLE t (a int PRIMARY KEY); COMMENT ON CONSTRAINT t_pkey ON t IS 'x'": "",
}


@pytest.mark.parametrize("change", CHANGES)
def test_every_single_change_is_seen_and_named(server: Server, session: PgSession, change: str) -> None:
    expected = CHANGES[change]
    if server.major >= 18 and "SET NOT NULL" in change:
        expected += " +constraint orders_note_not_null on shop.orders"  # they are constraints from 18 on
    if server.major >= 18 and "NO INHERIT" in change:
        expected += " ~constraint child_b_not_null on shop.child"
    before = of_schema(session)
    session.execute(change)
    different = before.diff(of_schema(session))
    found = (
        {f"+{name}" for name in different.added}
        | {f"-{name}" for name in different.removed}
        | {f"~{name}" for name in different.changed}
    )
    assert found == set(filter(None, re.split(r" (?=[+~-][a-z])", expected)))


def test_search_path_and_settings_do_not_matter_and_are_as_before(session: PgSession) -> None:
    expected = of_schema(session).objects
    session.execute('SET search_path = shop, "Odd ""schema", public; SET LOCAL quote_all_identifiers = on')
    assert of_schema(session).objects == expected
    assert session.rows("SHOW search_path") == [('shop, "Odd ""schema", public',)]
    assert session.rows("SHOW quote_all_identifiers") == [("on",)]


def test_no_lock_outlives_the_reading(session: PgSession) -> None:
    of_schema(session)
    locks = "SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'relation' AND relation >= 16384"
    assert session.rows(locks) == [("0",)]
    assert write_set.read(session) == frozenset()


def test_uncommitted_changes_are_seen_by_their_own_transaction_only(shop: Login, session: PgSession) -> None:
    session.execute("CREATE TABLE shop.t (a int)")
    with session_of(shop) as other:
        different = of_schema(other).diff(of_schema(session))
    assert set(different.added) == {"table shop.t", "column shop.t.a"}


def test_reading_outside_a_transaction_leaves_none_behind(shop: Login) -> None:
    with session_of(shop) as session:
        of_schema(session)
        assert session.conn.info.transaction_status.name == "IDLE"


def test_an_error_in_the_transaction_is_not_hidden(session: PgSession) -> None:
    with pytest.raises(StepFailed):
        session.execute("SELECT 1/0")
    with pytest.raises(StepFailed, match="25P02"):
        of_schema(session)


def test_what_a_dump_leaves_out_can_be_left_out(server: Server, database: Login, superuser_database: Login) -> None:
    with session_of(database) as session, session_of(superuser_database) as superuser:
        session.execute("CREATE TABLE t (a int PRIMARY KEY, b int REFERENCES t); CREATE INDEX broken ON t (b)")
        superuser.execute("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'broken'::regclass")
        superuser.execute("ALTER TABLE t DISABLE TRIGGER ALL")
        before = of_schema(session)
        with session_of(restored(server, database)) as copy:
            after = of_schema(copy)
    assert before.diff(after)
    assert before.as_restored().diff(after.as_restored()).lines() == []


def test_what_is_not_sound_is_named(server: Server, session: PgSession) -> None:
    before = soundness.unsound(session)
    assert "constraint late on shop.orders is not validated" in before
    assert not any("small" in sentence for sentence in before)  # NOT ENFORCED is never validated, on purpose
    session.execute(
        """ALTER TABLE shop.orders VALIDATE CONSTRAINT late;
        UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'shop."orders by note"'::regclass;
        ALTER DOMAIN shop.percent ADD CONSTRAINT "later on" CHECK (VALUE < 90) NOT VALID"""
    )
    after = soundness.unsound(session)
    assert before - after == {"constraint late on shop.orders is not validated"}
    assert after - before == {
        'index shop."orders by note" is invalid',
        'constraint "later on" on domain shop.percent is not validated',
    }


def test_names_with_everything_in_them(database: Login) -> None:
    names = ["it's", 'a "quote"', "new\nline", "back\\slash", "AND", "(", "ünï", "x" * 63, "{}", "%s", "a.b", "$1", "?"]
    with session_of(database) as session:
        empty = of_schema(session)
        for name in names:
            quoted = sql.Identifier(name)
            session.execute(
                statement(
                    "CREATE SCHEMA {0}; CREATE TABLE {0}.{0} ({0} int CONSTRAINT {0} CHECK ({0} > 0) DEFAULT 1); "
                    "COMMENT ON TABLE {0}.{0} IS {1}",
                    quoted,
                    sql.Literal(name),
                )
            )
            now = of_schema(session)
            assert len(empty.diff(now).added) == 5, empty.diff(now).lines()
            assert not any("\n" in name + line for name, line in now.objects.items())
            empty = now


def test_a_diff_reads_like_one() -> None:
    one = SchemaFingerprint(objects={"table a": "x", "table b": "y", "table c": "z"})
    other = SchemaFingerprint(objects={"table a": "x", "table b": "Y", "table d": "z"})
    assert one.diff(other).lines() == ["- table b: y", "+ table b: Y", "- table c: z", "+ table d: z"]
    assert not one.diff(one)
