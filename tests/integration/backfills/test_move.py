"""Rows are moved in batches, whatever their keys are."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from migrator.backfills import batch, inspection, ledger, ledger_tables, lock, mover, ranges, verifying
from migrator.backfills.keys import Bounds
from migrator.backfills.ledger import State
from migrator.config.login import Login
from migrator.errors import Interrupted, Locked, MigrationFailed, Refused
from migrator.postgres.transactions import Deadline, transaction
from tests.integration.backfills.stage import CUSTOMERS, Stage, backfill


@pytest.fixture
def stage(database: Login) -> Stage:
    return Stage(login=database)


def test_every_row_is_moved_once_and_proven(stage: Stage) -> None:
    stage.execute(CUSTOMERS.format(rows=1000))
    split = backfill()
    moved = stage.move(split)
    assert (moved.rows, moved.written) == (1000, frozenset({"public.customer"}))
    assert stage.entry().state is State.MOVED
    verdict = stage.verify(split)
    assert (verdict.violations, verdict.sample) == (0, ())
    assert stage.entry().state is State.VERIFIED
    assert stage.move(split).rows == 0
    assert stage.entry().written == {"public.customer"}, "also where no process is left that saw it"
    assert (stage.entry().rows_done, stage.entry().state) == (1000, State.VERIFIED)
    assert stage.undo(split).rows == 1000
    assert stage.entry().state is State.UNDONE
    assert stage.value("select count(first_name) from customer") == "0"
    assert stage.move(split).rows == 1000


_FAST = {"composite", "gaps and skew", "an enum in partitions"}
KEYS = {
    "text": (
        "CREATE TABLE item (code text PRIMARY KEY, n int, done int);"
        "INSERT INTO item SELECT CASE n % 3 WHEN 0 THEN '' WHEN 1 THEN 'Ä''\"\\%s{}' ELSE 'z,' END || n, n"
        " FROM generate_series(1, 700) n",
        ["code"],
        "t.code = b.code",
    ),
    "uuid": (
        "CREATE TABLE item (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), n int, done int);"
        "INSERT INTO item (n) SELECT n FROM generate_series(1, 700) n",
        ["id"],
        "t.id = b.id",
    ),
    "composite": (
        "CREATE TABLE item (tenant int, moment timestamptz, kind char(4), n int, done int,"
        " PRIMARY KEY (tenant, moment, kind));"
        "INSERT INTO item SELECT CASE WHEN n < 600 THEN 7 ELSE n END, timestamptz '2020-02-29' + n / 5 * interval"
        " '1.000001 s', 'k' || n % 5, n FROM generate_series(1, 700) n",
        ["tenant", "moment", "kind"],
        "(t.tenant, t.moment, t.kind) = (b.tenant, b.moment, b.kind)",
    ),
    "gaps and skew": (
        "CREATE TABLE item (id numeric PRIMARY KEY, n int, done int);"
        "INSERT INTO item SELECT CASE WHEN n < 500 THEN n * 0.001 ELSE n * -1e30 END, n FROM generate_series(1, 700) n",
        ["id"],
        "t.id = b.id",
    ),
    "a column in capitals, falling": (
        'CREATE TABLE item ("Id" bigint NOT NULL, n int, done int); CREATE UNIQUE INDEX ON item ("Id" DESC);'
        "INSERT INTO item SELECT n * 10000000000, n FROM generate_series(-350, 349) n",
        ["Id"],
        't."Id" = b."Id"',
    ),
    "an enum in partitions": (
        "CREATE TYPE size AS ENUM ('small', 'large');"
        "CREATE TABLE item (s size, id int, n int, done int, PRIMARY KEY (id, s)) PARTITION BY LIST (s);"
        "CREATE TABLE item_small PARTITION OF item FOR VALUES IN ('small');"
        "CREATE TABLE item_large PARTITION OF item FOR VALUES IN ('large');"
        "INSERT INTO item SELECT (ARRAY['small', 'large'])[1 + n % 2]::size, n / 2, n FROM generate_series(0, 699) n",
        ["id", "s"],
        "t.id = b.id and t.s = b.s",
    ),
}


@pytest.mark.parametrize(
    "kind", [kind if kind in _FAST else pytest.param(kind, marks=pytest.mark.slow) for kind in KEYS]
)
def test_each_row_is_moved_exactly_once(stage: Stage, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("migrator.backfills.ranges._SMALL_BYTES", 0)
    monkeypatch.setattr("migrator.backfills.pace.LARGEST", 40)
    table, key, same = KEYS[kind]
    stage.execute(table)
    counting = backfill(
        table="item",
        key=key,
        where=None,
        statement=f"update item t set done = coalesce(done, 0) + 1 from batch b where {same}",
        verify="select n from item where done is distinct from 1",
        undo=f"update item t set done = nullif(done - 1, 0) from batch b where {same}",
        batch_rows=23,
        jobs=2,
    )
    assert stage.move(counting).rows == 700
    assert stage.rows("select done, count(*)::text from item group by 1") == [("1", "700")]
    assert stage.entry().batches > 3
    assert stage.undo(counting).rows == 700
    assert stage.rows("select done, count(*)::text from item group by 1") == [(None, "700")]


def test_rows_that_where_leaves_out_are_walked_past(stage: Stage) -> None:
    stage.execute(CUSTOMERS.format(rows=1000))
    stage.execute("update customer set name = null where id % 7 <> 0")
    moved = stage.move(backfill(batch_rows=10))
    assert moved.rows == int(stage.value("select count(*) from customer where name is not null") or 0)
    assert stage.entry().rows_walked == 1000
    assert stage.progress[-1].rows == 1000


@pytest.mark.parametrize("undo_where", [None, "true"])
def test_rows_that_where_leaves_out_are_not_taken_back(stage: Stage, undo_where: str | None) -> None:
    stage.execute(CUSTOMERS.format(rows=300))
    stage.execute("update customer set name = null, first_name = 'kept' where id <= 30")
    split = backfill(undo_where=undo_where)
    assert stage.move(split).rows == 290
    assert stage.undo(split).rows == (290 if undo_where is None else 300)
    assert stage.value("select count(first_name) from customer") == ("10" if undo_where is None else "0")


@pytest.mark.parametrize(
    "statement",
    [
        "with old as (select c.id, c.name from customer c join batch using (id))"
        " update customer c set first_name = split_part(old.name, ' ', 1) from old where c.id = old.id",
        "-- of batch\nwith recursive n(i) as (select 1 union all select i + 1 from n where i < 3)"
        " update customer set first_name = split_part(name, ' ', (select min(i) from n))"
        " where id in (select id from batch); -- the end",
        "merge into customer c using batch b on c.id = b.id"
        " when matched then update set first_name = split_part(name, ' ', 1)",
        "update customer set first_name = split_part(name, ' ', 1) "
        " where id = any(select id from batch) and name like '%'",
    ],
)
def test_a_statement_may_have_any_form(stage: Stage, statement: str) -> None:
    stage.execute(CUSTOMERS.format(rows=300))
    split = backfill(statement=statement)
    assert stage.move(split).rows == 300
    assert stage.verify(split).violations == 0


def test_rows_are_copied_to_another_table(stage: Stage) -> None:
    stage.execute(CUSTOMERS.format(rows=500))
    stage.execute("create table person (id bigint primary key, name text) partition by range (id)")
    stage.execute("create table person_1 partition of person for values from (0) to (700)")
    stage.execute("create table person_2 partition of person for values from (700) to (9999)")
    copy = backfill(
        statement="insert into person select c.id, c.name from customer c join batch using (id)",
        verify="(select id, name from customer except select id, name from person) union all"
        " (select id, name from person except select id, name from customer)",
        undo="delete from person p using batch b where p.id = b.id",
    )
    moved = stage.move(copy)
    assert (moved.rows, moved.written) == (500, {"public.person", "public.person_1", "public.person_2"})
    assert stage.verify(copy).violations == 0
    stage.undo(copy)
    assert stage.value("select count(*) from person") == "0"


def test_a_function_is_called_in_the_transaction_of_the_batch(stage: Stage, tmp_path: Path) -> None:
    stage.execute(CUSTOMERS.format(rows=250))
    stage.write(
        tmp_path,
        "names.py",
        "def split(connection, keys):\n"
        "    ids = [key[0] for key in keys]\n"
        "    with connection.transaction(), connection.cursor() as cursor:\n"
        "        cursor.execute(\"update customer set first_name = split_part(name, ' ', 1)\"\n"
        "                       ' where id = any(%s)', [ids])\n"
        "def ends(connection, keys):\n    connection.execute('commit')\n"
        "def commits(connection, keys):\n    connection.commit()\n"
        "def fails(connection, keys):\n    raise ValueError('no such name')\n",
    )
    split = backfill(statement=None, python="names:split", file=tmp_path / "a.backfill.toml")
    for name, said in (
        ("commits", "not yours to end"),
        ("fails", "ValueError: no such name"),
        ("ends", "ended the tr"),
    ):
        wrong = backfill(name=name, statement=None, python=f"names:{name}", file=split.file, jobs=1)
        with pytest.raises(MigrationFailed, match=said):
            stage.move(wrong)
    assert stage.move(split).rows == 250
    assert stage.verify(split).violations == 0


ENDINGS = {
    "and returns": "pass",
    "and fails": "raise ValueError('too late')",
    "and its next statement fails": "connection.execute('begin'); connection.execute('select 1 / 0')",
    "and gives way to others": "connection.execute('begin'); connection.execute(GIVES_WAY)",
    "and begins another": "connection.execute('begin')",
}


@pytest.mark.parametrize(
    "ending",
    [kind if kind == "and gives way to others" else pytest.param(kind, marks=pytest.mark.slow) for kind in ENDINGS],
)
def test_rows_of_a_function_that_ends_the_transaction_are_met_again(stage: Stage, tmp_path: Path, ending: str) -> None:
    stage.execute(CUSTOMERS.format(rows=100))
    stage.execute("create table careless (is_so bool); insert into careless values (true)")
    stage.write(
        tmp_path,
        "names.py",
        "GIVES_WAY = \"do $$ begin raise exception using errcode = 'lock_not_available'; end $$\"\n"
        "UPDATE = \"update customer set first_name = split_part(name, ' ', 1) where id = any(%s)\"\n"
        "def split(connection, keys):\n"
        "    ids = [key[0] for key in keys]\n"
        "    if connection.execute('update careless set is_so = false where is_so').rowcount:\n"
        "        connection.execute(UPDATE, [ids[:10]])\n"
        "        connection.execute('commit')\n"
        f"        {ENDINGS[ending]}\n"
        "        return\n"
        "    connection.execute(UPDATE, [ids])\n",
    )
    split = backfill(statement=None, python="names:split", file=tmp_path / "a.backfill.toml", jobs=1)
    with pytest.raises(
        MigrationFailed, match=r"counts as not done: .* rows from \(3\) to \(300\) may be in the"
    ) as said:
        stage.move(split)
    assert "makes a savepoint" in (said.value.hint or "")
    assert stage.value("select count(first_name) from customer") == "10"
    assert (stage.entry().rows_done, stage.entry().rows_walked) == (0, 0)
    assert stage.move(split).rows == 100
    assert stage.verify(split).violations == 0


def test_inside_all_is_in_the_transaction_that_is_open(stage: Stage) -> None:
    stage.execute(CUSTOMERS.format(rows=300))
    split = backfill(inside=True, batch_rows=50)
    with closing(stage.session()) as session:
        session.execute("begin isolation level repeatable read; update customer set name = name || ' x'")
        moved = mover.move_inside(split, session, None, run_id="test")
        assert moved.rows == 300
        assert stage.value("select count(first_name) from customer") == "0"
        assert verifying.ask(session, split).violations == 0
        session.execute("rollback")
        assert ledger.read(session) == {}
        session.execute("begin")
        mover.move_inside(split, session, None, run_id="test")
        session.execute("commit")
    assert stage.verify(split).violations == 0
    assert stage.entry().state is State.VERIFIED


def test_violations_are_shown(stage: Stage) -> None:
    stage.execute(CUSTOMERS.format(rows=50))
    split = backfill()
    stage.move(split)
    stage.execute("update customer set first_name = 'x' where id <= 36")
    verdict = stage.verify(split)
    assert (verdict.violations, len(verdict.sample), verdict.sample[0]) == (12, 10, "(3)")
    assert stage.entry().state is State.MOVED


def test_a_changed_file_is_refused_and_another_pace_is_not(stage: Stage) -> None:
    stage.execute(CUSTOMERS.format(rows=50))
    stage.move(backfill())
    assert stage.move(backfill(jobs=1, batch_rows=7)).rows == 0
    with pytest.raises(Refused, match="was changed since \\(where\\)"):
        stage.move(backfill(where="id > 7"))


@pytest.mark.parametrize("back", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_ledger_without_a_column_that_came_later_is_read_and_carried_on(stage: Stage, back: bool) -> None:
    stage.execute(CUSTOMERS.format(rows=50))
    stage.move(backfill())
    stage.execute("alter table migrator_backfill_ranges drop column written")
    assert stage.entry().written == frozenset()
    if back:
        assert stage.undo(backfill()).rows == 50
        return
    stage.execute("update migrator_backfills set state = 'running'")
    stage.execute("update migrator_backfill_ranges set done = false, cursor = null")
    assert stage.move(backfill()).rows == 50
    assert stage.entry().written == {"public.customer"}


def test_only_one_at_a_time(stage: Stage) -> None:
    stage.execute(CUSTOMERS.format(rows=50))
    with closing(stage.session()) as other:
        lock.take(other, "split-name")
        with pytest.raises(Locked, match="mig:other:test"):
            stage.move(backfill())
        assert lock.at_work(other, "split-name") is None  # by somebody else
        with closing(stage.session()) as looking:
            at_work = lock.at_work(looking, "split-name")
            assert at_work is not None
            assert at_work.pid == other.pid


def test_what_check_raises_ends_it_and_it_is_carried_on(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("migrator.backfills.pace.LARGEST", 20)
    stage.execute(CUSTOMERS.format(rows=2000))

    def stop() -> None:
        if stage.progress:
            raise Interrupted("told to stop")

    slow = backfill(pause_s=0.05, batch_rows=10)
    with pytest.raises(Interrupted):
        stage.move(slow, check=stop)
    begun = stage.entry()
    assert begun.state is State.RUNNING
    assert 0 < begun.rows_done < 2000
    moved = stage.move(backfill())
    assert moved.rows == 2000 - begun.rows_done
    assert stage.verify(backfill()).violations == 0


def test_no_batch_begins_while_somebody_waits_to_pause(stage: Stage) -> None:
    """Two workers whose batches overlap would never leave the row of the ledger alone."""
    stage.execute(CUSTOMERS.format(rows=100))
    split = backfill()
    with closing(stage.session()) as one, closing(stage.session()) as other, closing(stage.session()) as person:
        one.execute("begin")
        found = inspection.look_inside(one, split)
        entry = ledger.begin(one, None, split, table="public.customer", run_id="test")
        ranges.note(one, ledger_tables.required(one, None), entry.name, [Bounds()])
        one.execute("commit; begin")
        assert lock.may_begin(one, split.name), "a batch is under way"
        table = mover.required(found.table, split)
        deed = mover.deed_of(split, table, ledger_tables.required(other, None), phase="move")

        def next_batch() -> object:
            return batch.one(other, deed, 10, batch.proof_of(deed), lock_timeout_s=5.0, limit_s=60.0)

        def pause() -> ledger.Entry:
            with transaction(person, lock_timeout_s=60.0):
                return ledger.pause(person, None, split.name, "a test")

        assert next_batch() is not batch.NOT_YET
        with ThreadPoolExecutor(1) as pool:
            paused = pool.submit(pause)
            until = Deadline(60.0)
            waiting = (
                "select count(*) from pg_locks join pg_database d on d.oid = database"
                " where locktype = 'advisory' and not granted and datname = current_database()"
            )
            while stage.value(waiting) == "0":
                assert not until.passed
                until.pause()
            assert next_batch() is batch.NOT_YET
            one.execute("rollback")
            assert paused.result(60.0).state is State.PAUSED
        assert next_batch() is batch.NOTHING
    assert stage.entry().rows_done == 10


@pytest.mark.slow
def test_an_older_server_walks_by_its_index_too(database16: Login, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("migrator.backfills.ranges._SMALL_BYTES", 0)
    stage = Stage(login=database16)
    stage.execute(
        "create table item (tenant int, id uuid default gen_random_uuid(), content text, copied text,"
        " primary key (tenant, id));"
        "insert into item (tenant, content) select n % 3, 'row ' || n from generate_series(1, 20000) n"
    )
    copying = backfill(
        table="item",
        key=["tenant", "id"],
        where="content like 'row %'",
        statement="update item t set copied = content from batch b where (t.tenant, t.id) = (b.tenant, b.id)",
        verify="select id from item where copied is distinct from content",
        undo="update item t set copied = null from batch b where (t.tenant, t.id) = (b.tenant, b.id)",
        batch_rows=1000,
    )
    assert stage.move(copying).rows == 20000
    assert stage.verify(copying).violations == 0
    assert stage.undo(copying).rows == 20000
