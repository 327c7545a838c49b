from __future__ import annotations

from collections.abc import Iterator

import pytest

from migrator.config.login import Login
from migrator.errors import StepFailed
from migrator.liquibase import ledger
from migrator.liquibase.ledger import LedgerRow
from migrator.postgres.connect import PgSession, connect
from tests.integration.liquibase_fixtures import Project

pytest_plugins = ("tests.integration.liquibase_fixtures",)

TABLE = """CREATE TABLE {} (id varchar(255) NOT NULL, author varchar(255) NOT NULL, filename varchar(255) NOT NULL,
dateexecuted timestamp NOT NULL, orderexecuted int NOT NULL, exectype varchar(10) NOT NULL, md5sum varchar(35),
description varchar(255), comments varchar(255), tag varchar(255), liquibase varchar(20), contexts varchar(255),
labels varchar(255), deployment_id varchar(10))"""
INSERT = "INSERT INTO {} VALUES ('{}', 'ann', 'a.sql', '2026-01-02 03:04:05.678', {}, 'EXECUTED', '9:x')"


@pytest.fixture
def session(database: Login) -> Iterator[PgSession]:
    with connect(database, role="test", run_id="test") as opened:
        yield opened


def fill(session: PgSession, name: str, count: int) -> None:
    session.execute(TABLE.format(name))
    for number in range(count):
        session.execute(INSERT.format(name, number, number))


def test_no_table_is_none_and_an_empty_one_is_empty(session: PgSession) -> None:
    assert ledger.read(session) is None
    assert ledger.lock_holder(session) is None
    ledger.release(session)
    fill(session, "databasechangelog", 0)
    assert ledger.read(session) == []


def test_rows_come_in_the_order_of_execution_with_all_columns(session: PgSession) -> None:
    fill(session, "databasechangelog", 11)
    rows = ledger.read(session)
    assert rows is not None
    assert [row.key for row in rows] == [("a.sql", str(number), "ann") for number in range(11)]
    assert tuple(rows[0].columns) == ledger.COLUMNS
    assert rows[0].columns["dateexecuted"] == "2026-01-02 03:04:05.678"
    assert rows[0].columns["tag"] is None


def test_ledger_is_put_back_exactly(session: PgSession) -> None:
    fill(session, "databasechangelog", 4)
    before = ledger.read(session)
    assert before is not None
    session.execute(
        "DELETE FROM databasechangelog WHERE id = '0'; UPDATE databasechangelog SET tag = 'x' WHERE id = '1';"
        "UPDATE databasechangelog SET md5sum = NULL, exectype = 'RERAN' WHERE id = '2';"
    )
    session.execute(INSERT.format("databasechangelog", "it''s new", 9))
    ledger.put_back(session, None, before)
    assert ledger.read(session) == before
    ledger.put_back(session, None, before)
    assert ledger.read(session) == before


def test_equal_rows_are_counted(session: PgSession) -> None:
    fill(session, "databasechangelog", 1)
    session.execute(INSERT.format("databasechangelog", 0, 0))
    before = ledger.read(session)
    assert before is not None
    session.execute(INSERT.format("databasechangelog", 0, 0))
    ledger.put_back(session, None, before)
    assert ledger.read(session) == before
    session.execute("DELETE FROM databasechangelog")
    ledger.put_back(session, None, before)
    assert ledger.read(session) == before


def test_columns_of_others_keep_their_values(session: PgSession) -> None:
    fill(session, "databasechangelog", 2)
    session.execute(
        "ALTER TABLE databasechangelog ADD approved_by text; UPDATE databasechangelog SET approved_by = 'x'"
    )
    before = ledger.read(session)
    session.execute("UPDATE databasechangelog SET tag = 't' WHERE id = '1'")
    ledger.put_back(session, None, before)
    assert session.rows("SELECT id, approved_by FROM databasechangelog ORDER BY id") == [("0", "x"), ("1", None)]


def test_old_ledger_without_some_columns_can_be_read_and_put_back(session: PgSession) -> None:
    fill(session, "databasechangelog", 1)
    session.execute("ALTER TABLE databasechangelog DROP deployment_id, DROP labels")
    before = ledger.read(session)
    assert before is not None
    assert before[0].columns["labels"] is None
    session.execute("DELETE FROM databasechangelog")
    ledger.put_back(session, None, before)
    assert ledger.read(session) == before


def test_where_there_was_none_both_tables_go(session: PgSession) -> None:
    fill(session, "databasechangelog", 1)
    session.execute("CREATE TABLE databasechangeloglock(id int, locked boolean)")
    ledger.put_back(session, None, None)
    ledger.put_back(session, None, None)
    assert session.rows("SELECT tablename FROM pg_tables WHERE schemaname = 'public'") == []


def test_rows_without_a_table_are_an_error(session: PgSession) -> None:
    row = LedgerRow(columns=dict.fromkeys(ledger.COLUMNS, "1"))
    with pytest.raises(StepFailed) as caught:
        ledger.put_back(session, None, [row])
    assert caught.value.code == "ledger_gone"


def test_schema_and_table_may_have_other_names(session: PgSession) -> None:
    session.execute('CREATE SCHEMA "Odd"')
    fill(session, '"Odd"."MyLedger"', 2)
    fill(session, "databasechangelog", 1)
    assert len(ledger.read(session, "Odd", table="MyLedger") or []) == 2
    assert len(ledger.read(session, "PUBLIC", table="DATABASECHANGELOG") or []) == 1
    assert ledger.read(session, "Odd") is None


def test_what_both_liquibases_write_is_put_back_so_that_they_go_on(project: Project) -> None:
    first = project.sql("\ncreate table t(id int);")
    project.apply_stepwise(first)
    with connect(project.login, role="test", run_id="test") as session:
        before = ledger.read(session)
        project.apply_stepwise(project.sql("\ncreate table t(id int);", "\nselect 1;"))
        assert len(ledger.read(session) or []) == 2
        ledger.put_back(session, None, before)
        assert ledger.read(session) == before
    updated = project.apply_stepwise(project.sql("\ncreate table t(id int);", "\nselect 1;"))
    assert [changeset.id for changeset in updated.changesets] == ["2"]
