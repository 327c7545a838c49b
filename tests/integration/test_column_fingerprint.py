from __future__ import annotations

import pytest

from migrator.config.login import Login
from migrator.postgres import catalog, column_fingerprint
from migrator.postgres.column_fingerprint import ColumnSketch
from tests.conftest import Server


def sketches(server: Server, login: Login) -> dict[str, ColumnSketch]:
    with server.session(login) as session:
        [relation] = catalog.tables(session)
        return column_fingerprint.of_table(session, relation)


def change(server: Server, login: Login, text: str) -> None:
    with server.session(login) as session:
        session.execute(text)


@pytest.fixture
def table(server: Server, database: Login) -> Login:
    change(
        server,
        database,
        """
        create table t (id int primary key, note text, price numeric, gone text, "Odd" int[]);
        insert into t select n, case when n % 4 = 0 then null else 'note ' || n end, n / 3.0, null, array[n]
        from generate_series(1, 1000) n
        """,
    )
    return database


@pytest.mark.parametrize(
    ("done", "column", "lost"),
    [
        ("update t set note = null", "note", 750),
        ("update t set note = null where id = 7", "note", 1),
        ("update t set note = 'same'", "note", None),
        ("update t set price = price + 1 where id <= 10", "price", None),
        ("delete from t", "Odd", 1000),
        ("update t set gone = 'new'", "gone", 0),
        ("update t set id = -id where id > 990", "note", 0),
    ],
)
def test_it_counts_the_values_that_are_gone(
    server: Server, table: Login, done: str, column: str, lost: int | None
) -> None:
    before = sketches(server, table)
    change(server, table, done)
    found = before[column].lost_in(sketches(server, table)[column])
    if lost is None:  # some of the new values fell into the buckets of old ones
        assert 0 < found <= 750
    else:
        assert found == lost


def test_equal_values_in_another_order_are_equal(server: Server, table: Login) -> None:
    before = sketches(server, table)
    change(
        server, table, "create table u as select * from t order by id desc; truncate t; insert into t select * from u"
    )
    change(server, table, "drop table u")
    assert sketches(server, table) == before
    assert {name: sketch.filled for name, sketch in before.items()} == {
        "id": 1000,
        "note": 750,
        "price": 1000,
        "gone": 0,
        "Odd": 1000,
    }
