"""What cannot be done rightly is refused, with the place and the remedy, and nothing is left of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from migrator.backfills import mover, undoing
from migrator.backfills.ledger import State
from migrator.config.login import Login
from migrator.errors import MigrationFailed, Refused
from migrator.postgres.connect import PgSession
from tests.conftest import Server, fresh_database
from tests.integration.backfills.stage import CUSTOMERS, Stage, backfill

FILE = Path("changelogs/split.backfill.toml")


@pytest.fixture
def stage(database: Login) -> Stage:
    return furnished(database)


@pytest.fixture(scope="module")
def untouched(server: Server) -> Iterator[Stage]:
    """One for all tests that end before anything is written."""
    with fresh_database(server) as login:
        yield furnished(login)


def furnished(database: Login) -> Stage:
    found = Stage(login=database)
    found.execute(CUSTOMERS.format(rows=300))
    found.execute(
        """
        alter table customer add tenant int not null default 1, add code text, add email text not null default 'x';
        create index on customer (tenant);
        create unique index on customer (code);
        create unique index on customer (email, id) where id > 0;
        create unique index on customer (tenant, id);
        create view customers as select * from customer;
        create table parent (id int primary key, name text, first_name text);
        create table child () inherits (parent);
        """
    )
    return found


@pytest.mark.parametrize(
    ("changes", "code", "said", "remedy"),
    [
        ({"table": "custmer"}, "table_gone", "there is no table custmer", "Correct the name"),
        ({"table": "no; drop table"}, "table_gone", "there is no table", "Correct"),
        ({"table": "customers"}, "not_a_table", "customers is a view", "Name the table"),
        ({"table": "parent"}, "not_a_table", "children that inherit", "Name the table"),
        ({"key": ["idd"]}, "key_column", "has no column idd", "did you mean 'id'?"),
        ({"key": ["tenant"]}, "key_not_unique", "(tenant) of customer is not unique", "Unique in customer: (id)"),
        ({"key": ["code"]}, "key_nullable", "code of customer may be null", "alter column code set not null"),
        ({"key": ["email", "id"]}, "key_not_unique", "no valid unique index", "(tenant, id)"),
        ({"key": ["id", "tenant"]}, "key_not_unique", "not in the order", "in its order: tenant, id."),
        (
            {"statement": "update customer set first_name = 'x'"},
            "no_batch",
            "does not use the relation batch",
            "batch b",
        ),
        ({"statement": "update customer set first_name = 'batch' -- batch"}, "no_batch", "does not use", "batch b"),
        ({"statement": "delete from batch; drop table customer"}, "statement", "more than one statement", "one"),
        ({"statement": "truncate batch"}, "statement", "begins with TRUNCATE", "one statement"),
        ({"statement": "update customer c set frist = 1 from batch b where c.id = b.id"}, "statement", "frist", ""),
        (
            {"statement": "update customer set first_name = 'x' where (select count(*) from batch) = 0"},
            "ignores_batch",
            "changes rows that are in no batch",
            "Join",
        ),
        ({"verify": "update customer set first_name = null"}, "verify", "begins with UPDATE", "query"),
        ({"verify": "select nothing from customer"}, "verify", 'column "nothing" does not exist', ""),
        ({"where": "nam = 1"}, "where", 'column "nam" does not exist', ""),
        ({"where": "id > 1) or (true"}, "where", "syntax", ""),
        ({"undo": "update customer set first_name = null"}, "no_batch", "undo: does not use", "batch b"),
        ({"statement": None, "python": "nowhere_at_all:f"}, "python", "nowhere_at_all cannot be imported", "module:"),
        ({"statement": None, "python": "json:nothing"}, "python", "json has no function nothing", "module:function"),
    ],
)
def test_it_is_refused_before_anything_is_written(
    untouched: Stage, changes: dict[str, object], code: str, said: str, remedy: str
) -> None:
    with pytest.raises(Refused) as caught:
        untouched.move(backfill(file=FILE, **changes))
    error = caught.value
    assert error.code == code
    assert said in error.message
    assert error.message.startswith(f"{FILE}: ")
    assert remedy in (error.hint or "")
    assert error.place is not None
    assert error.place.file == str(FILE)
    assert untouched.rows("select count(first_name), to_regclass('migrator_backfills') from customer") == [("0", None)]


OTHER_ROWS = {
    "the next row": "update customer c set first_name = 'x' from batch b where c.id = b.id + 3",
    "a whole span": "update customer set first_name = 'x' where id between (select min(id) from batch)"
    " and (select max(id) from batch) + 300",
    "all rows": "update customer set first_name = 'x' from batch",
    "rows that were deleted": "delete from customer c using batch b where c.id = b.id + 300",
    "one row too many": "update customer c set first_name = 'x' from batch b where c.id = b.id or c.id = 900",
}


@pytest.mark.parametrize("kind", OTHER_ROWS)
def test_a_statement_that_changes_rows_of_another_batch_is_refused_before_its_commit(stage: Stage, kind: str) -> None:
    with pytest.raises(MigrationFailed, match=r"not in its batch, (such as the one with id|20 deleted)") as caught:
        stage.move(backfill(statement=OTHER_ROWS[kind], undo=None, batch_rows=20, jobs=1, file=FILE))
    assert caught.value.code == "backfill_other_rows"
    assert caught.value.place.file == str(FILE)
    assert stage.rows("select count(*)::text, count(first_name)::text from customer") == [("300", "0")]
    assert stage.entry().rows_done == 0


def test_triggers_that_write_a_row_again_are_none_of_it(stage: Stage) -> None:
    stage.execute(
        """
        create function again() returns trigger language plpgsql as $$ begin
            update customer set email = 'again' where id = new.id and email <> 'again'; return null; end $$;
        create trigger again after update on customer for each row execute function again()
        """
    )
    assert stage.move(backfill()).rows == 300


def test_a_statement_that_changes_the_key_is_refused(stage: Stage) -> None:
    statement = "update customer c set id = c.id + 100000 from batch b where c.id = b.id"
    with pytest.raises(MigrationFailed, match="changes the key of its rows"):
        stage.move(backfill(statement=statement))
    assert stage.value("select max(id) from customer") == "900"


def test_rows_that_are_taken_away_cannot_be_walked_through_again(stage: Stage) -> None:
    statement = "delete from customer c using batch b where c.id = b.id"
    with pytest.raises(MigrationFailed, match="undo would have none to walk through"):
        stage.move(backfill(statement=statement))
    assert stage.move(backfill(name="gone", statement=statement, undo="restore")).rows == 300
    with pytest.raises(Refused, match="no statement that takes it back"):
        stage.undo(backfill(name="gone", statement=statement, undo="restore"))


@pytest.mark.parametrize(
    ("changes", "said", "remedy"),
    [
        ({"capture": "trigger", "undo_where": "true"}, "the trigger would not catch", "Name in `where` only what"),
        ({}, "an undo would not find them", "undo_where"),
        ({"undo_where": "first_name is not null"}, None, None),
        ({"undo": "restore"}, None, None),
        ({"where": "first_name is null or customer.id > 100 -- others"}, "33 rows of a batch", "undo_where"),
    ],
)
def test_a_condition_that_the_move_makes_false_is_refused(
    stage: Stage, changes: dict[str, object], said: str | None, remedy: str | None
) -> None:
    where_it_writes = backfill(**{"where": "first_name is null", "file": FILE, **changes})
    if said is None or remedy is None:
        assert stage.move(where_it_writes).rows == 300
        return
    with pytest.raises(MigrationFailed, match="where names what the statement writes") as caught:
        stage.move(where_it_writes)
    assert said in caught.value.message
    assert remedy in (caught.value.hint or "")
    assert (caught.value.code, caught.value.place.file) == ("backfill_where", str(FILE))
    assert stage.value("select count(first_name) from customer") == "0"


def test_another_table_of_the_same_name_is_left_alone(stage: Stage) -> None:
    """As a login finds it whose search path has another schema first."""

    def elsewhere(role: str) -> PgSession:
        session = stage.work.connect(role)
        session.execute("set search_path = other, public")
        return session

    split, work = backfill(file=FILE), replace(stage.work, connect=elsewhere)
    stage.move(split)
    stage.verify(split)
    stage.execute("create schema other; create table other.customer (like customer including all)")
    stage.execute("insert into other.customer select * from customer")
    for deed in (mover.move, undoing.undo):
        with pytest.raises(Refused, match=r'has begun on "public"\."customer"') as caught:
            deed(split, work, on_progress=stage.progress.append, check=lambda: None)
        assert caught.value.code == "backfill_another_table"
        assert "search_path" in (caught.value.hint or "")
    with closing(elsewhere("backfill")) as session, pytest.raises(Refused, match="has begun on"):
        undoing.refuse_loss(session, split, None)
    assert stage.value("select count(first_name) from other.customer") == "300"
    assert stage.entry().state is State.VERIFIED


def test_a_statement_that_fails_names_the_rows_and_those_before_stay(stage: Stage) -> None:
    statement = "update customer c set first_name = (1 / (c.id - 600))::text from batch b where c.id = b.id"
    with pytest.raises(
        MigrationFailed, match=r"failed at rows with id above \d+ up to \d+: .*division by zero"
    ) as caught:
        stage.move(backfill(statement=statement, jobs=1, batch_rows=20))
    assert caught.value.place.sqlstate == "22012"
    assert 0 < int(stage.value("select count(first_name) from customer") or 0) < 200
