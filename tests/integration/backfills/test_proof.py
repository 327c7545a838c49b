"""A batch is committed when it is proven that its statement kept to its rows, and not otherwise."""

from __future__ import annotations

from contextlib import closing

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
