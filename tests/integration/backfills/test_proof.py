"""A batch is committed when it is proven that its statement kept to its rows, and not otherwise."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from migrator.config.login import Login
from migrator.errors import MigrationFailed
from tests.conftest import Server
from tests.integration.backfills.stage import CUSTOMERS, Stage, backfill


@pytest.fixture
def stage(database: Login) -> Stage:
    found = Stage(login=database)
    found.execute(CUSTOMERS.format(rows=300))
    return found


@pytest.mark.parametrize(
    ("scanned_bytes", "said"),
    [(1_000_000, "such as the one with id"), pytest.param(0, "10 more than the batch has", marks=pytest.mark.slow)],
)
@pytest.mark.parametrize("where", [None, pytest.param("id > 9", marks=pytest.mark.slow)])
def test_as_many_rows_of_another_batch_are_not_taken_for_its_own_however_late(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, scanned_bytes: int, said: str, where: str | None
) -> None:
    monkeypatch.setattr("migrator.backfills.pace.LARGEST", 20)
    monkeypatch.setattr("migrator.backfills.proof._SCANNED_BYTES", scanned_bytes)
    statement = (
        "update customer c set first_name = 'x' from batch b"
        " where c.id = case when b.id > 540 and b.id % 2 = 0 then b.id - 540 else b.id end"
    )
    with pytest.raises(MigrationFailed, match=f"not in its batch, {said}"):
        stage.move(backfill(statement=statement, undo=None, where=where, batch_rows=20, jobs=1))
    entry = stage.entry()
    assert entry.rows_walked == 180, "nine batches, more than are looked at when nothing was counted"
    assert stage.value("select count(first_name) from customer") == str(entry.rows_done)


@pytest.mark.slow
def test_where_the_server_counts_no_rows_they_are_looked_for_or_it_is_refused(
    stage: Stage, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(server.session()) as admin:
        admin.execute(f'alter database "{stage.login.database}" set track_counts = off')
    assert stage.move(backfill()).rows == 300
    statement = "update customer c set first_name = 'x' from batch b where c.id = b.id + 3"
    with pytest.raises(MigrationFailed, match="not in its batch, such as the one with id"):
        stage.move(backfill(name="next", statement=statement))
    monkeypatch.setattr("migrator.backfills.proof._SCANNED_BYTES", 0)
    with pytest.raises(MigrationFailed, match="track_counts is off"):
        stage.move(backfill(name="large"))


def test_a_statement_that_puts_rows_into_the_table_that_is_walked_through_is_refused(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would meet them in their turn, and never come to an end."""
    monkeypatch.setattr("migrator.backfills.pace.LARGEST", 20)
    statement = (
        "insert into customer (id, name) select c.id + 1000, c.name from customer c join batch using (id)"
        " where c.id > 540 on conflict (id) do update set first_name = 'x'"
    )
    with pytest.raises(MigrationFailed, match=r"puts rows into \"public\"\.\"customer\".* \(20 in a batch\)") as caught:
        stage.move(backfill(statement=statement, undo=None, batch_rows=20, jobs=1))
    assert caught.value.code == "backfill_inserts"
    assert stage.value("select count(*) from customer") == "300"
    assert stage.entry().rows_walked == 180


@pytest.mark.slow
def test_a_statement_that_moves_rows_to_another_partition_changes_their_key(stage: Stage) -> None:
    stage.execute(
        "create table item (id int, s text, primary key (id, s)) partition by list (s);"
        "create table item_a partition of item for values in ('a');"
        "create table item_b partition of item for values in ('b');"
        "insert into item select n, 'a' from generate_series(1, 100) n"
    )
    moving = backfill(
        table="item",
        key=["id", "s"],
        where=None,
        statement="update item t set s = 'b' from batch b where (t.id, t.s) = (b.id, b.s)",
        verify="select id from item where s = 'a'",
        undo=None,
    )
    with pytest.raises(MigrationFailed, match="puts rows into"):
        stage.move(moving)
    assert stage.value("select count(*) from item_a") == "100"


NOTHING = {
    "one that writes nothing": "update customer c set first_name = 'x' from batch b where c.id = -b.id",
    "a function that writes nothing": None,
}


@pytest.mark.parametrize("kind", [next(iter(NOTHING)), pytest.param([*NOTHING][1], marks=pytest.mark.slow)])
def test_a_statement_that_writes_nothing_is_refused_where_verify_would_not_tell(
    stage: Stage, tmp_path: Path, kind: str
) -> None:
    stage.write(tmp_path, "names.py", "def nothing(connection, keys):\n    pass\n")
    deaf = "select id from customer where first_name <> split_part(name, ' ', 1)"
    idle = backfill(
        statement=NOTHING[kind],
        python=None if NOTHING[kind] else "names:nothing",
        file=tmp_path / "a.backfill.toml",
        verify=deaf,
    )
    with pytest.raises(
        MigrationFailed, match="wrote nothing at all for the first 100 rows, and verify found"
    ) as caught:
        stage.move(idle)
    assert caught.value.code == "backfill_writes_nothing"
    assert stage.entry().rows_done == 0


def test_a_verify_that_tells_nothing_is_told_with_what_was_written(stage: Stage) -> None:
    deaf = backfill(verify="select id from customer where first_name <> split_part(name, ' ', 1)")
    moved = stage.move(deaf)
    assert (moved.rows, moved.writes, moved.tells_nothing) == (300, 300, True)
    half = backfill(
        name="half",
        statement="update customer c set first_name = 'x' from batch b where c.id = b.id and c.id % 2 = 0",
        verify="select id from customer where first_name <> 'x' and id % 2 = 0",
        jobs=1,
    )
    moved = stage.move(half)
    assert (moved.rows, moved.writes, moved.tells_nothing) == (300, 150, False)
