from __future__ import annotations

from collections.abc import Iterator

import pytest

from migrator.config.login import Login
from migrator.postgres import write_set
from migrator.postgres.connect import PgSession, connect
from migrator.postgres.write_set import Counts

SHOP = """
CREATE TABLE customers (id int PRIMARY KEY, name text);
CREATE TABLE orders (id int PRIMARY KEY, customer int REFERENCES customers ON DELETE CASCADE);
CREATE TABLE audit (what text);
CREATE TABLE untouched (a int);
CREATE SEQUENCE numbers;
CREATE TABLE parts (a int) PARTITION BY LIST (a);
CREATE TABLE part_1 PARTITION OF parts FOR VALUES IN (1);
CREATE TABLE part_2 PARTITION OF parts FOR VALUES IN (2);
CREATE TABLE "Odd ""name" (a int);
CREATE MATERIALIZED VIEW sums AS SELECT count(*) FROM orders;
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN INSERT INTO audit VALUES (TG_TABLE_NAME); RETURN NULL; END $$;
CREATE TRIGGER note AFTER DELETE ON orders FOR EACH ROW EXECUTE FUNCTION note();
INSERT INTO customers VALUES (1, 'a'), (2, 'b');
INSERT INTO orders VALUES (1, 1), (2, 1), (3, 2);
"""


@pytest.fixture
def session(database: Login) -> Iterator[PgSession]:
    with connect(database, role="test", run_id="test") as session:
        session.execute(SHOP)
        session.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        yield session


WRITES = {
    "SELECT * FROM customers JOIN orders ON true": set(),
    "SELECT * FROM customers FOR UPDATE": set(),
    "SELECT nextval('numbers')": set(),
    "DELETE FROM customers WHERE id = 1": {"public.customers", "public.orders", "public.audit"},
    "SAVEPOINT s; INSERT INTO audit VALUES ('x'); ROLLBACK TO s": set(),
    "INSERT INTO parts VALUES (2)": {"public.parts", "public.part_2"},
    'INSERT INTO "Odd ""name" VALUES (1)': {'public."Odd ""name"'},
    "CREATE TABLE made (a int)": {"public.made"},
    "TRUNCATE audit": {"public.audit"},
    "REFRESH MATERIALIZED VIEW sums": {"public.sums"},
    "ALTER TABLE customers ALTER name TYPE varchar(9)": {"public.customers"},
    "CREATE TEMP TABLE t AS SELECT 1": set(),
    "SELECT lo_create(0)": {"pg_catalog.pg_largeobject"},
    "WITH w AS (INSERT INTO audit VALUES ('w')) SELECT 1": {"public.audit"},
    "SET search_path = pg_catalog; UPDATE public.audit SET what = 'x' WHERE false": {"public.audit"},
}


@pytest.mark.parametrize("write", WRITES)
def test_what_was_written_is_named_and_nothing_else(session: PgSession, write: str) -> None:
    session.execute(write)
    found = write_set.read(session)
    if "lo_create" in write:  # an empty large object has no page yet
        session.execute("SELECT lo_put((SELECT max(oid) FROM pg_largeobject_metadata), 0, 'x')")
        found = write_set.read(session)
    assert found == WRITES[write]


def test_a_partition_that_another_session_made_meanwhile_is_named(database: Login, session: PgSession) -> None:
    session.rows("SELECT 1")  # its snapshot is taken
    with connect(database, role="test", run_id="test") as other:
        other.execute("CREATE TABLE part_3 PARTITION OF parts FOR VALUES IN (3)")
    session.execute("INSERT INTO parts VALUES (3)")
    assert write_set.read(session) == {"public.parts", "public.part_3"}


def test_nothing_is_left_to_name_after_the_commit(session: PgSession) -> None:
    session.execute("INSERT INTO audit VALUES ('x')")
    session.execute("COMMIT")
    assert write_set.read(session) == frozenset()


def test_rows_are_counted_by_table_from_a_baseline_on(session: PgSession) -> None:
    session.execute("INSERT INTO audit VALUES ('earlier')")
    before = write_set.counts(session)
    session.execute("DELETE FROM customers WHERE id = 1; UPDATE customers SET name = 'x'; INSERT INTO parts VALUES (1)")
    assert write_set.since(before, write_set.counts(session)) == {
        "public.customers": Counts(updated=1, deleted=1),
        "public.orders": Counts(deleted=2),
        "public.audit": Counts(inserted=2),
        "public.part_1": Counts(inserted=1),
    }
