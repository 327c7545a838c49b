"""The server's counters know of every write to a table, by whomever, also of one that was rolled back."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from migrator.config.login import Login
from migrator.postgres import catalog, counters
from migrator.postgres.connect import PgSession, connect
from tests.conftest import Server
from tests.shop import conninfo

pytestmark = pytest.mark.slow

SETUP = """
CREATE TABLE a (id int PRIMARY KEY);
CREATE TABLE b (a int REFERENCES a ON DELETE CASCADE);
CREATE TABLE c (n int);
CREATE TABLE parts (n int) PARTITION BY LIST (n);
CREATE TABLE part_1 PARTITION OF parts FOR VALUES IN (1);
CREATE MATERIALIZED VIEW sums AS SELECT count(*) FROM a;
INSERT INTO a VALUES (1), (2);
INSERT INTO b VALUES (1), (2);
SELECT lo_from_bytea(4711, 'a manual');
"""
WRITES = {
    "SELECT * FROM a JOIN b ON true": set(),
    "SELECT * FROM a FOR UPDATE": set(),
    "ANALYZE; VACUUM": set(),
    "CREATE INDEX by_a ON b (a)": set(),
    "ALTER TABLE a ADD COLUMN x int": set(),
    "ALTER TABLE c RENAME TO d": set(),
    "UPDATE a SET id = id WHERE false": set(),
    "INSERT INTO c VALUES (1)": {"public.c"},
    "DELETE FROM a WHERE id = 1": {"public.a", "public.b"},
    "UPDATE b SET a = 2": {"public.b"},
    "BEGIN; INSERT INTO c VALUES (1); ROLLBACK": {"public.c"},
    "TRUNCATE c": {"public.c"},
    "COPY c FROM PROGRAM 'echo 1'": {"public.c"},
    "INSERT INTO parts VALUES (1)": {"public.part_1"},
    "REFRESH MATERIALIZED VIEW sums": {"public.sums"},
    "ALTER TABLE a ALTER id TYPE bigint": {"public.a"},
    "DROP TABLE c": {"public.c"},
    "CREATE TABLE made (n int)": {"public.made"},
    "SELECT lo_put(4711, 0, 'x')": {"pg_catalog.pg_largeobject"},
    "SELECT lo_unlink(4711)": {"pg_catalog.pg_largeobject", "pg_catalog.pg_largeobject_metadata"},
}


@pytest.fixture
def session(database: Login) -> Iterator[PgSession]:
    with connect(database, role="test", run_id="test") as session:
        yield session


def writes(server: Server, session: PgSession, text: str) -> None:
    """Somebody comes, does it and is gone: what his session has counted is with the server then."""
    [(name,)] = session.rows("SELECT current_database()")
    with psycopg.connect(conninfo(server.admin.to(str(name))), autocommit=True) as connection:
        for statement in text.split(";"):
            if statement.strip():
                connection.execute(statement.encode())
        pid = connection.info.backend_pid
    while session.rows(f"SELECT FROM pg_stat_activity WHERE pid = {pid}"):
        pass


@pytest.mark.parametrize("write", WRITES)
def test_what_was_written_is_named_and_nothing_else(server: Server, session: PgSession, write: str) -> None:
    writes(server, session, SETUP)
    before = counters.read(session)
    writes(server, session, write)
    assert counters.moved(before, counters.read(session)) == WRITES[write]


@pytest.mark.parametrize(
    "harm", ["SELECT pg_stat_reset()", "SELECT pg_stat_reset_single_table_counters('c'::regclass)"]
)
def test_counters_that_were_reset_tell_nothing(server: Server, session: PgSession, harm: str) -> None:
    writes(server, session, SETUP)
    before = counters.read(session)
    writes(server, session, harm)
    assert counters.moved(before, counters.read(session)) is None


def test_where_somebody_may_write_uncounted_they_tell_nothing(server: Server, session: PgSession) -> None:
    [(name,)] = session.rows("SELECT current_database()")
    writes(server, session, f"ALTER DATABASE {name} SET track_counts = off")
    before = counters.read(session)
    assert counters.moved(before, before) is None


def test_what_a_foreign_key_passes_on_is_followed(server: Server, session: PgSession) -> None:
    writes(
        server,
        session,
        SETUP + "ALTER TABLE b ADD UNIQUE (a); CREATE TABLE e (b int REFERENCES b (a) ON DELETE SET NULL)",
    )
    writes(server, session, "CREATE TABLE f (a int REFERENCES a)")
    assert catalog.cascades(session, {"public.a"}) == {"public.b", "public.e"}
    assert catalog.cascades(session, {"public.c"}) == frozenset()
