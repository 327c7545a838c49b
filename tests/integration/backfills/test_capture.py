"""Whatever others write while a backfill is under way is carried along, in their own transactions."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from migrator.backfills import capture, capture_function
from migrator.backfills.batch import SETTING
from migrator.backfills.definition import Backfill
from migrator.config.login import Login
from migrator.errors import Refused, StepFailed
from migrator.postgres import connect as connecting
from migrator.postgres.connect import PgSession, connect
from migrator.postgres.transactions import transaction
from tests.conftest import Server
from tests.integration.backfills.emptied import database, one_database
from tests.shop import conninfo

__all__ = ["database", "one_database"]

SPLIT = "update customer c set first_name = split_part(c.name, ' ', 1) from batch b where c.id = b.id"
NOT_SPLIT = "select id from customer where first_name is distinct from split_part(name, ' ', 1)"
COPY = """insert into copy (id, name) select c.id, c.name from customer c join batch b on b.id = c.id
on conflict (id) do update set name = excluded.name"""
UNCOPY = "delete from copy c using batch b where c.id = b.id"
DIFFERENT = "(table customer except table copy) union all (table copy except table customer)"


@pytest.fixture
def session(database: Login) -> Iterator[PgSession]:
    with closing(connect(database, role="test", run_id="test")) as made:
        yield made


def backfill(**fields: object) -> Backfill:
    given: dict[str, object] = {
        "name": "split-name",
        "statement": SPLIT,
        "after": "1::ann",
        "table": "customer",
        "key": ["id"],
        "verify": "select id from customer where false",
        "capture": "trigger",
        "file": Path("split-name.backfill.toml"),
    }
    return Backfill.model_validate({**given, **fields})


COPYING = {"name": "copy", "statement": COPY, "on_delete": UNCOPY}


def install(session: PgSession, wanted: Backfill) -> None:
    capture.install(session, wanted, lock_timeout_s=0.5, patience_s=5)


def remove(session: PgSession, name: str = "split-name") -> None:
    capture.remove(session, name, lock_timeout_s=0.5, patience_s=5)


def people(session: PgSession) -> None:
    session.execute("create table customer (id int primary key, name text, first_name text)")


def pairs(session: PgSession) -> None:
    session.execute("create table customer (id int primary key, name text); create table copy (like customer)")
    session.execute("alter table copy add primary key (id)")


@pytest.mark.parametrize(
    "write",
    [
        "insert into customer values (9, 'Ada L')",
        "update customer set name = 'Ada L'",
        "update customer set id = id + 100, name = 'Ada L'",
        "insert into customer values (1, 'x') on conflict (id) do update set name = 'Ada L'",
        "update customer set first_name = 'spoilt'",
        "set session_replication_role = replica; insert into customer values (9, 'Ada L')",
        "create temp table customer (id int, name text, first_name text); insert into public.customer values (9, 'A')",
        "set search_path = pg_temp; update public.customer set name = 'Ada L'",
        "begin; savepoint s; update customer set name = 'x'; rollback to s; update customer set name = 'y z'; commit",
        "set transaction_isolation = serializable; update customer set name = 'Ada L'",
        "alter table customer add column later int; update customer set later = 1, first_name = 'spoilt'",
    ],
)
def test_write_is_caught(session: PgSession, superuser_database: Login, write: str) -> None:
    people(session)
    session.execute(f"insert into customer select n, n || ' x' from generate_series(1, 3) n; {_split_by_hand()}")
    install(session, backfill())
    with closing(connect(superuser_database, role="test", run_id="application")) as writer:
        writer.execute(write)
    assert session.rows(NOT_SPLIT) == []


def _split_by_hand() -> str:
    return f"with batch as (select id from customer) {SPLIT}"


def test_copy_in_is_caught(session: PgSession) -> None:
    people(session)
    install(session, backfill())
    with session.conn.cursor() as cursor, cursor.copy("copy customer (id, name) from stdin") as copying:
        copying.write("1\tAda L\n2\tBo M\n")
    assert session.rows("select first_name from customer order by id") == [("Ada",), ("Bo",)]


@pytest.mark.parametrize(
    "write",
    [
        "insert into customer values (9, 'i')",
        "update customer set name = 'changed' where id <= 2",
        "delete from customer where id = 1",
        "update customer set id = id + 10",
        "update customer set id = 4 - id",
        "begin; update customer set id = 7 where id = 1; delete from customer where id = 7; commit",
        "begin; delete from customer where id = 1; insert into customer values (1, 'again'); commit",
        "with gone as (delete from customer returning *) insert into customer select id + 10, name from gone",
        "truncate customer",
        "set session_replication_role = replica; delete from customer",
    ],
)
def test_counterpart_in_another_table_follows(session: PgSession, superuser_database: Login, write: str) -> None:
    pairs(session)
    session.execute("alter table customer drop constraint customer_pkey, add primary key (id) deferrable")
    session.execute(
        "insert into customer select n, 'c' || n from generate_series(1, 3) n; insert into copy table customer"
    )
    install(session, backfill(**COPYING))
    with closing(connect(superuser_database, role="test", run_id="application")) as writer:
        writer.execute(write)
    assert session.rows(DIFFERENT) == []


def test_row_that_where_lets_go_is_treated_as_deleted(session: PgSession) -> None:
    pairs(session)
    install(session, backfill(**COPYING, where="name <> 'secret' -- whose else"))
    session.execute("insert into customer values (1, 'a'), (2, 'secret'), (3, 'c')")
    assert session.rows("select id from copy order by id") == [("1",), ("3",)]
    session.execute("update customer set name = 'secret' where id = 1; update customer set name = 'b' where id = 2")
    assert session.rows("select id from copy order by id") == [("2",), ("3",)]


def test_row_that_a_column_of_where_lets_in_is_caught(session: PgSession) -> None:
    pairs(session)
    session.execute("alter table customer add column note text")
    install(session, backfill(**COPYING, where="name <> 'secret'", columns=["note"]))
    session.execute("insert into customer values (2, 'secret'); update customer set name = 'b' where id = 2")
    assert session.rows("select id from copy") == [("2",)]


def test_cascade_from_a_parent_is_caught(session: PgSession) -> None:
    pairs(session)
    session.execute("create table parent (id int primary key); insert into parent values (1), (2)")
    session.execute("alter table customer add foreign key (id) references parent on delete cascade on update cascade")
    install(session, backfill(**COPYING))
    session.execute("insert into customer values (1, 'a'), (2, 'b')")
    session.execute("delete from parent where id = 1; update parent set id = 5 where id = 2")
    assert session.rows("table copy") == [("5", "b")]


def test_partitioned_table_is_caught_wherever_it_is_written(server16: Server, database16: Login) -> None:
    _partitions(database16)


def test_partitioned_table_is_caught_on_the_newest_server(database: Login) -> None:
    _partitions(database)


def _partitions(login: Login) -> None:
    with closing(connect(login, role="test", run_id="test")) as session:
        session.execute(
            "create table customer (id int, name text, primary key (id)) partition by range (id);"
            "create table low partition of customer for values from (0) to (10);"
            "create table high partition of customer for values from (10) to (20);"
            "create table copy (id int primary key, name text)"
        )
        install(session, backfill(**COPYING))
        assert capture.is_installed(session, backfill(**COPYING))
        session.execute("create table later partition of customer for values from (20) to (30)")
        assert capture.is_installed(session, backfill(**COPYING))
        session.execute(
            "insert into customer values (1, 'a'), (2, 'b'), (11, 'k'); insert into low values (3, 'c');"
            "update customer set id = 12 where id = 2; update low set name = 'changed' where id = 1;"
            "insert into later values (21, 'u'); update customer set id = 4 where id = 11; delete from low where id = 3"
        )
        assert session.rows(DIFFERENT) == []
        assert session.rows("select id from copy order by id") == [("1",), ("4",), ("12",), ("21",)]
        remove(session, "copy")
        session.execute("insert into customer values (5, 'e')")
        assert session.rows(DIFFERENT) == [("5", "e")]


def test_row_that_another_trigger_changes_meanwhile_has_its_turn(session: PgSession) -> None:
    people(session)
    session.execute(
        "alter table customer add column parent int;"
        "create function up() returns trigger language plpgsql as"
        " 'begin update customer set name = ''P '' || new.first_name where id = new.parent; return null; end';"
        "create trigger zz after update of first_name on customer for each row execute function up()"
    )
    install(session, backfill())
    session.execute(
        "insert into customer (id, name) values (1, 'root x'); insert into customer values (2, 'b x', null, 1)"
    )
    assert session.rows(NOT_SPLIT) == []
    assert session.rows("select name from customer where id = 1") == [("P b",)]


def test_two_captures_of_one_table_do_not_hinder_each_other(session: PgSession) -> None:
    people(session)
    session.execute("create table copy (id int primary key, name text)")
    install(session, backfill(columns=["name"]))
    install(session, backfill(**COPYING, columns=["name"]))
    session.execute("insert into customer values (1, 'a b'); update customer set name = 'c d', id = 2")
    assert session.rows("table customer") == [("2", "c d", "c")]
    assert session.rows("table copy") == [("2", "c d")]


def test_only_named_columns_call_for_the_statement(session: PgSession) -> None:
    people(session)
    install(session, backfill(columns=["name"]))
    session.execute("insert into customer values (1, 'a b'); update customer set first_name = 'kept'")
    assert session.rows("table customer") == [("1", "a b", "kept")]
    session.execute("update customer set name = 'c d'")
    assert session.rows("table customer") == [("1", "c d", "c")]


def test_batches_do_not_call_it(session: PgSession) -> None:
    people(session)
    install(session, backfill())
    with transaction(session):
        session.execute(f"select set_config('{SETTING}', 'split-name', true)")
        session.execute("insert into customer values (1, 'a b')")
    assert session.rows("table customer") == [("1", "a b", None)]
    session.execute("insert into customer values (2, 'a b')")
    assert session.rows("select first_name from customer where id = 2") == [("a",)]


def test_names_are_anybodys(session: PgSession) -> None:
    table, key, other = 'T "quoted" %s {0} $$ é' + "x" * 36, "k '\";{}", "Found"
    assert len(table.encode()) <= 63

    def quoted(name: str) -> str:
        return '"' + name.replace('"', '""') + '"'

    session.execute(
        f"create schema {quoted('S ' + chr(39))}; set search_path = {quoted('S ' + chr(39))};"
        f"create table {quoted(table)} ({quoted(key)} text, {quoted(other)} uuid, tg_op text, new text,"
        f" primary key ({quoted(key)}, {quoted(other)}))"
    )
    wanted = backfill(
        name="n" * 60,
        table=quoted(table),
        key=[key, other],
        statement=f"update {quoted(table)} t set new = tg_op || ' %s {{}} \\ $1' from batch b"
        f" where (t.{quoted(key)}, t.{quoted(other)}) = (b.{quoted(key)}, b.{quoted(other)})",
    )
    install(session, wanted)
    assert capture.is_installed(session, wanted)
    session.execute(f"insert into {quoted(table)} values ('a''b', gen_random_uuid(), 'op')")
    assert session.rows(f"select new from {quoted(table)}") == [("op %s {} \\ $1",)]
    remove(session, wanted.name)
    assert session.rows("select proname from pg_proc where proname like 'migrator%'") == []


def test_writer_needs_no_right_but_to_write(server: Server, session: PgSession, database: Login) -> None:
    pairs(session)
    session.execute("grant insert, update, delete, select on customer to app")
    install(session, backfill(**COPYING))
    with closing(connect(server.app.to(database.database), role="x", run_id="application")) as app:
        app.execute("insert into customer values (1, 'a'), (2, 'b'); delete from customer where id = 1")
        with pytest.raises(StepFailed, match="permission denied"):
            app.execute(
                "create temp table t (id int); create trigger x after insert on t for each row"
                ' execute function public."migrator_backfill_copy"()'
            )
    assert session.rows("table copy") == [("2", "b")]


def test_values_are_printed_as_in_batches(session: PgSession) -> None:
    session.execute("create table customer (id int primary key, at timestamptz, name text)")
    install(session, backfill(statement="update customer c set name = c.at::text from batch b where c.id = b.id"))
    session.execute(
        "set timezone = 'Asia/Tokyo'; set datestyle = german; insert into customer values (1, '2026-01-01')"
    )
    assert session.rows("select name from customer") == [("2025-12-31 15:00:00+00",)]
    session.execute("set datestyle = iso; set timezone = utc")
    for name, value in capture_function.PRINTED_AS:
        assert (name, value) in {(known, said) for known, said, _ in connecting._SETTINGS}


def test_column_that_it_reads_cannot_be_dropped_under_it(session: PgSession) -> None:
    people(session)
    install(session, backfill())
    with pytest.raises(StepFailed, match="cannot drop column name"):
        session.execute("alter table customer drop column name")
    remove(session)
    session.execute("alter table customer drop column name")


@pytest.mark.parametrize("columns", [[], ["name"]])
def test_it_is_restored_as_it_was_dumped(session: PgSession, columns: list[str]) -> None:
    people(session)
    install(session, backfill(columns=columns))
    definitions = session.rows("select pg_get_triggerdef(oid) from pg_trigger where tgname like 'migrator%' order by 1")
    assert len(definitions) == 2
    session.execute('drop trigger "migrator_backfill_split-name" on customer')
    session.execute('drop trigger "migrator_backfill_split-name:update" on customer')
    session.execute("; ".join(str(text) for (text,) in definitions))
    session.execute("insert into customer values (1, 'a b'); update customer set name = 'c d'")
    assert session.rows(NOT_SPLIT) == []


def test_install_waits_for_those_in_the_middle_of_a_write(session: PgSession, database: Login) -> None:
    people(session)
    with psycopg.connect(conninfo(database)) as writer:
        writer.execute("insert into customer values (1, 'a b')")
        with pytest.raises(StepFailed, match=rf"pid {writer.info.backend_pid}, user migrator") as caught:
            capture.install(session, backfill(), lock_timeout_s=0.05, patience_s=0.2)
        assert caught.value.code == "table_busy"
        assert capture.read(session, "split-name") is None
        thread = threading.Thread(target=lambda: install(session, backfill()))
        thread.start()
        writer.commit()
        thread.join(30)
    assert capture.is_installed(session, backfill())


def test_install_and_remove_may_be_repeated(session: PgSession) -> None:
    people(session)
    for _ in range(2):
        install(session, backfill())
        assert capture.is_installed(session, backfill())
    assert not capture.is_installed(session, backfill(where="id > 3"))
    install(session, backfill(where="id > 3"))
    assert capture.is_installed(session, backfill(where="id > 3"))
    session.execute("alter table customer rename to client")
    for _ in range(2):
        remove(session)
        assert capture.read(session, "split-name") is None
    session.execute("insert into client values (1, 'a b')")


def test_capture_that_somebody_switched_off_is_told_and_put_right(session: PgSession) -> None:
    people(session)
    install(session, backfill())
    session.execute("alter table customer disable trigger user")
    assert not capture.is_installed(session, backfill())
    install(session, backfill())
    assert capture.is_installed(session, backfill())


def test_table_that_is_gone_leaves_nothing_that_cannot_be_removed(session: PgSession) -> None:
    people(session)
    install(session, backfill())
    session.execute("drop table customer")
    found = capture.read(session, "split-name")
    assert found is not None
    assert (found.table, found.complete) == (None, False)
    remove(session)
    assert capture.read(session, "split-name") is None


def test_removal_within_a_transaction_is_undone_with_it(session: PgSession) -> None:
    people(session)
    install(session, backfill())
    session.execute("begin")
    capture.remove_here(session, "split-name")
    assert capture.read(session, "split-name") is None
    session.execute("rollback")
    assert capture.is_installed(session, backfill())


def test_turned_back_only_deletions_are_caught(session: PgSession) -> None:
    pairs(session)
    install(session, backfill(**COPYING))
    session.execute("insert into customer values (1, 'a'), (2, 'b')")
    for _ in range(2):
        capture.turn_back(session, backfill(**COPYING), lock_timeout_s=0.5)
    assert not capture.is_installed(session, backfill(**COPYING))
    session.execute(
        "insert into customer values (3, 'c'); update customer set name = 'x'; delete from customer where id = 1"
    )
    assert session.rows("table copy") == [("2", "b")]
    install(session, backfill(**COPYING))
    session.execute("update customer set name = 'y'")
    assert session.rows(DIFFERENT) == []


def test_turned_back_it_is_gone_where_nothing_is_to_be_deleted(session: PgSession) -> None:
    people(session)
    install(session, backfill())
    capture.turn_back(session, backfill(), lock_timeout_s=0.5)
    assert capture.read(session, "split-name") is None


@pytest.mark.parametrize(
    ("prepare", "fields", "why"),
    [
        ("select 1", {"table": "nowhere"}, "there is no table nowhere"),
        ("create view v as select 1 as id", {"table": "v"}, "v is no table"),
        ("create table heir () inherits (customer)", {}, "child tables"),
        ("select 1", {"columns": ["nothing"]}, "no column nothing"),
        ("alter table customer enable row level security, force row level security", {}, "row-level security"),
        ("select 1", {"statement": "update nowhere set a = 1 from batch"}, "nowhere"),
        ("select 1", {"on_delete": "delete from nowhere using batch"}, "The on_delete of"),
    ],
)
def test_what_cannot_be_caught_is_refused(
    session: PgSession, prepare: str, fields: dict[str, object], why: str
) -> None:
    people(session)
    session.execute(prepare)
    with pytest.raises(Refused, match=why) as caught:
        install(session, backfill(**fields))
    assert caught.value.hint
    assert session.rows("select proname from pg_proc where proname like 'migrator%'") == []


def test_login_without_rights_is_told_what_it_lacks(server: Server, session: PgSession, database: Login) -> None:
    with closing(connect(server.admin.to(database.database), role="test", run_id="test")) as admin:
        people(admin)
        with pytest.raises(Refused, match="belongs to postgres"):
            install(session, backfill())
        admin.execute("alter table customer owner to app; create table copy (id int primary key, name text)")
        with pytest.raises(Refused, match="permission denied for table copy") as caught:
            install(admin, backfill(**COPYING))
        assert "app" in (caught.value.hint or "")
        admin.execute("grant all on copy to app")
        install(admin, backfill(**COPYING))
        [(owner,)] = admin.rows("select proowner::regrole from pg_proc where proname like 'migrator%'")
        assert owner == "app"  # no function of a superuser's that others can call upon


@pytest.mark.parametrize("first", ["batch", "writer"])
@pytest.mark.parametrize(
    "write", ["update customer set name = 'new'", "delete from customer", "update customer set id = 5"]
)
def test_batch_and_writer_at_once_end_equal(session: PgSession, database: Login, first: str, write: str) -> None:
    pairs(session)
    session.execute("insert into customer values (1, 'old')")
    install(session, backfill(**COPYING))
    with psycopg.connect(conninfo(database)) as batch, psycopg.connect(conninfo(database)) as writer:

        def move() -> None:
            batch.execute(f"select set_config('{SETTING}', 'copy', true)".encode())
            keys = batch.execute("select id from customer where id < 3 for no key update").fetchall()
            numbers = ",".join(str(key) for (key,) in keys) or "null"
            batch.execute(f"with batch as (select unnest(array[{numbers}]::int[]) as id) {COPY}".encode())

        def change() -> None:
            writer.execute(write.encode())

        ahead, behind = (move, change) if first == "batch" else (change, move)
        ahead()
        thread = threading.Thread(target=behind)
        thread.start()
        waiting = "select count(*) from pg_locks where not granted"
        while session.rows(waiting) == [("0",)] and thread.is_alive():
            pass
        (batch if first == "batch" else writer).commit()
        thread.join(30)
        (writer if first == "batch" else batch).commit()
    assert session.rows(DIFFERENT) == []


def test_schema_that_anybody_may_write_is_refused(session: PgSession) -> None:
    people(session)
    session.execute("grant create on schema public to public")
    with pytest.raises(Refused, match="PUBLIC may create functions in the schema public"):
        capture.install(session, backfill(), lock_timeout_s=5.0)
    session.execute("revoke create on schema public from public")
    capture.install(session, backfill(), lock_timeout_s=5.0)
