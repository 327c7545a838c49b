"""The ledger's statements are carried out as whoever runs migrator, so nobody else writes them."""

from __future__ import annotations

import pytest

from migrator.backfills.ledger import State
from migrator.config.login import Login
from migrator.errors import Refused
from tests.conftest import Server
from tests.integration.backfills.stage import CUSTOMERS, Stage, backfill

GENEROUS = "alter default privileges grant select, insert, update, delete, trigger on tables to app, public"
WRITES = "select has_table_privilege('app', '{}', 'INSERT, UPDATE, DELETE, TRIGGER')"


@pytest.fixture
def stage(database: Login) -> Stage:
    found = Stage(login=database)
    found.execute(CUSTOMERS.format(rows=5))
    return found


def test_default_privileges_do_not_let_the_application_write_the_ledger(stage: Stage) -> None:
    stage.execute(GENEROUS)
    stage.move(backfill())
    for table in ("migrator_backfills", "migrator_backfill_ranges"):
        assert stage.value(WRITES.format(table)) == "f"
        assert stage.value(f"select has_table_privilege('app', '{table}', 'SELECT')") == "t"
    stage.undo(backfill())
    assert stage.entry().state is State.UNDONE


def test_a_ledger_that_others_may_write_is_refused(stage: Stage) -> None:
    stage.move(backfill())
    for table, right, who in (
        ("migrator_backfills", "update", "app"),
        ("migrator_backfills", "insert", "PUBLIC"),
        ("migrator_backfills", "update (state)", "app"),
        ("migrator_backfill_ranges", "trigger", "app"),
    ):
        stage.execute(f"grant {right} on {table} to {who}")
        with pytest.raises(Refused) as refused:
            stage.entry()
        assert f'"public"."{table}" may be written by {who}' in refused.value.message
        remedy = f'REVOKE INSERT, UPDATE, DELETE, TRUNCATE, TRIGGER ON TABLE "public"."{table}" FROM {who};'
        assert remedy in str(refused.value.hint)
        stage.execute(remedy)
        assert stage.entry().state is State.MOVED


def test_a_ledger_of_somebody_else_is_refused(stage: Stage, server: Server) -> None:
    stage.execute("grant create on schema public to app")
    app = Stage(login=server.app.to(stage.login.database))
    app.execute("create table migrator_backfills (name text); create table migrator_backfill_ranges (name text)")
    app.execute("grant all on migrator_backfills, migrator_backfill_ranges to public")
    with pytest.raises(Refused, match="belongs to app"):
        stage.move(backfill())


def test_a_trigger_of_somebody_else_on_the_ledger_is_refused(stage: Stage, server: Server) -> None:
    stage.move(backfill())
    stage.execute("grant create on schema public to app; grant trigger on migrator_backfills to app")
    app = Stage(login=server.app.to(stage.login.database))
    app.execute(
        "create function mine() returns trigger language plpgsql as $$ begin return new; end $$;"
        "create trigger mine before update on migrator_backfills for each row execute function mine()"
    )
    stage.execute("revoke trigger on migrator_backfills from app")
    with pytest.raises(Refused, match="has a trigger with code of somebody else's, mine"):
        stage.entry()


def test_whoever_may_only_read_it_reads_it(stage: Stage, server: Server) -> None:
    stage.move(backfill())
    stage.execute("grant select on migrator_backfills, migrator_backfill_ranges to app")
    assert stage.entry().state is State.MOVED
    assert Stage(login=server.app.to(stage.login.database)).entry().state is State.MOVED


def test_a_definition_that_is_not_what_began_is_refused(stage: Stage) -> None:
    stage.move(backfill())
    assert stage.entry().backfill().undo_statement == backfill().undo_statement
    stage.execute("""update migrator_backfills set definition = definition || '{"undo": "delete from customer"}'""")
    with pytest.raises(Refused, match="is not what its checksum says"):
        stage.entry().backfill()
    stage.execute("update migrator_backfills set definition = '{}'")
    with pytest.raises(Refused, match="is not what its checksum says"):
        stage.entry().backfill()
