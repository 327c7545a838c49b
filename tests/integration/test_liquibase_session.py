"""What Liquibase says of a changelog, and the ways besides the one transaction."""

from __future__ import annotations

import json
import threading
from dataclasses import replace

import psycopg
import pytest

from migrator.config.login import Secret
from migrator.errors import ConnectionFailed, MigrationFailed, Refused, StepFailed, TransactionLost
from migrator.liquibase import ledger
from migrator.liquibase.models import ChangesetState
from migrator.postgres.connect import connect
from tests.integration.liquibase_fixtures import Project, conninfo

pytest_plugins = ("tests.integration.liquibase_fixtures",)

XML = """<?xml version="1.0" encoding="UTF-8"?>
<databaseChangeLog xmlns="http://www.liquibase.org/xml/ns/dbchangelog"
    xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:schemaLocation="http://www.liquibase.org/xml/ns/dbchangelog
    http://www.liquibase.org/xml/ns/dbchangelog/dbchangelog-latest.xsd">
%s
</databaseChangeLog>
"""
TABLE = "\ncreate table t(id int primary key, n int);\n--rollback drop table t;"
YAML = """databaseChangeLog:
  - changeSet:
      id: 1
      author: ann
      changes:
        - createTable:
            tableName: %s
            columns:
              - column: {name: id, type: int, constraints: {primaryKey: true}}
"""


def column(name: str, kind: str = "int") -> dict[str, object]:
    return {"column": {"name": name, "type": kind}}


def test_all_four_formats_and_a_plain_file_run_together(project: Project) -> None:
    project.sql("\ncreate table from_sql(id int);", name="db/a.sql")
    project.write("db/b.xml", XML % '<changeSet id="1" author="ann"><createTable tableName="from_xml">'
                  '<column name="id" type="int"/></createTable></changeSet>')  # fmt: skip
    project.write("db/c.yaml", YAML % "from_yaml")
    changes = [{"createTable": {"tableName": "from_json", "columns": [column("id")]}}]
    changeset = {"changeSet": {"id": "1", "author": "ann", "changes": changes}}
    project.write("db/d.json", json.dumps({"databaseChangeLog": [changeset]}))
    project.write("db/e.sql", "create table from_plain(id int);\n")
    project.write("main.yaml", "databaseChangeLog:\n  - includeAll:\n      path: db/\n")

    listed = project.changesets("main.yaml")
    assert [changeset.path for changeset in listed] == ["db/a.sql", "db/b.xml", "db/c.yaml", "db/d.json", "db/e.sql"]
    assert [(changeset.id, changeset.author) for changeset in listed][-1] == ("raw", "includeAll")
    assert all(changeset.statements for changeset in listed)

    project.apply("main.yaml")
    made = {"from_sql", "from_xml", "from_yaml", "from_json", "from_plain"}
    assert project.tables() == made | {"databasechangelog", "databasechangeloglock"}


def test_listing_an_empty_database_creates_nothing(project: Project) -> None:
    listed = project.changesets(project.sql(TABLE, "\ninsert into t values (1, 1);"))
    assert [changeset.state for changeset in listed] == [ChangesetState.PENDING] * 2
    assert [changeset.has_rollback for changeset in listed] == [True, False]
    assert [changeset.line for changeset in listed] == [2, 5]
    assert project.tables() == set()


def test_read_only_connection_cannot_write(project: Project) -> None:
    liquibase = project.connect("read_only")
    with pytest.raises(StepFailed, match="read-only"):
        liquibase.execute("create table t(id int)")


def test_states_are_told_apart(project: Project) -> None:
    project.apply(project.sql("\nselect 1;", "\nselect 2;", "\nselect 3;", "runOnChange:true\nselect 4;"))
    project.contexts, project.labels = "prod", "one"
    changelog = project.sql(
        "\nselect 1;",
        "\nselect 22;",
        "context:test\nselect 3;",
        "runOnChange:true\nselect 44;",
        "context:test\nselect 5;",
        "labels:two\nselect 6;",
        "dbms:oracle\nselect 7;",
        "ignore:true\nselect 8;",
        "context:prod labels:one\nselect 9;",
        "runAlways:true\nselect 10;",
    )
    states = [changeset.state.value for changeset in project.changesets(changelog)]
    assert states == [
        "ran",
        "changed",
        "ran",
        "pending",
        "other_context",
        "other_label",
        "other_dbms",
        "ignored",
        "pending",
        "pending",
    ]


def test_changed_checksum_stops_the_update(project: Project) -> None:
    project.apply(project.sql(TABLE))
    project.hold()
    with pytest.raises(MigrationFailed, match=r"was: .* but is now"):
        project.update(project.sql(TABLE.replace("n int", "m int")))


def test_changeset_that_only_the_ledger_knows_comes_last(project: Project) -> None:
    project.apply(project.sql(TABLE, name="old.sql"))
    listed = project.changesets(project.sql("\nselect 1;", name="new.sql"))
    assert [(c.path, c.state.value) for c in listed] == [("new.sql", "pending"), ("old.sql", "not_known")]


def test_duplicate_changeset_is_refused(project: Project) -> None:
    text = "--liquibase formatted sql\n--changeset ann:1\nselect 1;\n--changeset ann:1\nselect 2;\n"
    with pytest.raises(Refused) as caught:
        project.changesets(project.write("main.sql", text))
    assert "main.sql::1::ann" in caught.value.message


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("broken.xml", "<databaseChangeLog><changeSet"),
        ("broken.yaml", "databaseChangeLog: [\n"),
        ("broken.json", '{"databaseChangeLog": ['),
        ("wrong.yaml", "databaseChangeLog:\n  - changeSet: {id: 1, author: a, changes: [{noSuchChange: {x: 1}}]}\n"),
        ("wrong2.yaml", "databaseChangeLog:\n  - changeSet: {id: 1, author: a, changes: [{createTable: {x: 1}}]}\n"),
    ],
)
def test_changelog_that_liquibase_cannot_use_is_refused(project: Project, name: str, text: str) -> None:
    project.write(name, text)
    with pytest.raises(Refused):
        project.changesets(name)
    assert project.tables() == set()


def test_structured_changes_name_their_tables(project: Project) -> None:
    body = """<changeSet id="1" author="ann">
      <createTable tableName="orders" schemaName="shop"><column name="c" type="int">
        <constraints foreignKeyName="fk" references="customers(id)"/></column></createTable>
      <addForeignKeyConstraint baseTableName="lines" baseTableSchemaName="shop" baseColumnNames="o"
        referencedTableName="articles" referencedColumnNames="id" constraintName="k"/>
      <renameTable oldTableName="a" newTableName="b"/>
      <addColumn tableName="c"><column name="x" type="int"/></addColumn>
      <sql>update hidden set x = 1</sql>
    </changeSet>"""
    [changeset] = project.changesets(project.write("main.xml", XML % body))
    assert changeset.tables == {"shop.orders", "customers", "shop.lines", "articles", "a", "b", "c"}
    assert changeset.changes == ("createTable", "addForeignKeyConstraint", "renameTable", "addColumn", "sql")
    assert "update hidden set x = 1" in changeset.statements
    assert changeset.line == 5


def test_parameters_reach_the_sql(project: Project) -> None:
    project.parameters = {"name": "chosen"}
    project.apply(project.sql("\ncreate table ${name}(id int);"))
    assert "chosen" in project.tables()


def test_default_and_liquibase_schema_are_used(project: Project) -> None:
    project.run("create schema app; create schema lb")
    project.default_schema, project.liquibase_schema = "app", "lb"
    changelog = project.write("main.yaml", YAML % "t")
    project.apply(changelog)
    assert project.query("select schemaname, tablename from pg_tables where schemaname in ('app', 'lb', 'public')"
                         " order by 1, 2") == [
        ("app", "t"), ("lb", "databasechangelog"), ("lb", "databasechangeloglock")]  # fmt: skip
    [changeset] = project.changesets(changelog)
    assert changeset.state is ChangesetState.RAN


def test_failure_in_a_default_schema_keeps_its_first_error(project: Project) -> None:
    project.run("create schema app")
    project.default_schema = "app"
    project.hold()
    with pytest.raises(MigrationFailed) as caught:
        project.update(project.sql("\ncreate table t(id int);", "\nselect 1/0;"))
    assert caught.value.place.sqlstate == "22012"


def test_stepwise_commits_changeset_by_changeset(project: Project) -> None:
    with pytest.raises(MigrationFailed) as caught:
        project.apply_stepwise(project.sql(TABLE, "\ninsert into t values (1, 1);", "\nselect 1/0;"))
    assert caught.value.place.changeset == "main.sql::3::ann"
    assert caught.value.place.sqlstate == "22012"
    assert project.query("select count(*) from t") == [(1,)]
    assert [row[0] for row in project.ledger()] == ["1", "2"]
    assert project.query("select locked from databasechangeloglock") == [(False,)]


def test_stepwise_reads_the_write_set_before_each_commit(project: Project) -> None:
    updated = project.apply_stepwise(
        project.sql(
            TABLE,
            "\ninsert into t values (1, 1), (2, 2);",
            "\nupdate t set n = 3; delete from t where id = 2;",
            "runInTransaction:false\ncreate index concurrently i on t(n);",
        )
    )
    assert {"public.t", "public.databasechangelog", "public.databasechangeloglock"} == set(updated.write_set)
    counted = updated.counts["public.t"]
    assert (counted.inserted, counted.updated, counted.deleted) == (2, 2, 1)
    assert updated.outside_transaction == ("main.sql::4::ann",)


def test_rollback_by_count_undoes_the_last_ones(project: Project) -> None:
    changelog = project.sql(
        TABLE, "\ninsert into t values (1, 1);\n--rollback delete from t;", "\nselect 1;\n--rollback ;"
    )
    project.apply_stepwise(changelog)
    undone = project.liquibase.rollback_count(changelog, 2, timeout_s=60)
    assert [changeset.id for changeset in undone.changesets] == ["3", "2"]
    assert project.query("select count(*) from t") == [(0,)]
    assert [row[0] for row in project.ledger()] == ["1"]


def test_rollback_that_fails_names_its_changeset(project: Project) -> None:
    changelog = project.sql(TABLE, "\nselect 1;\n--rollback drop table nowhere;")
    project.apply_stepwise(changelog)
    with pytest.raises(MigrationFailed) as caught:
        project.liquibase.rollback_count(changelog, 2, timeout_s=60)
    assert caught.value.place.changeset == "main.sql::2::ann"


def test_plain_file_is_undone_by_the_rollback_beside_it(project: Project) -> None:
    project.write("db/one.sql", "create table one(id int);")
    project.write("db/one.rollback.sql", "drop table one;")
    project.write("db/two.sql", "create function two() returns int language sql begin atomic select 1; end;")
    changelog = project.write("main.yaml", "databaseChangeLog:\n  - includeAll: {path: db/}\n")

    listed = project.changesets(changelog)
    assert [(changeset.path, changeset.has_rollback) for changeset in listed] == [
        ("db/one.sql", True),
        ("db/two.sql", False),
    ]
    project.write("db/two.rollback.sql", "drop function two();")
    project.apply_stepwise(changelog)
    project.liquibase.rollback_count(changelog, 2, timeout_s=60)
    assert project.tables() == {"databasechangelog", "databasechangeloglock"}
    assert project.ledger() == []


def test_plain_file_can_be_the_changelog_itself(project: Project) -> None:
    project.write("only.sql", "create table only_one(id int); insert into only_one values (1);")
    project.write("only.rollback.sql", "drop table only_one;")
    project.apply_stepwise("only.sql")
    assert project.ledger() == [("raw", "includeAll", "only.sql", "EXECUTED")]
    project.liquibase.rollback_count("only.sql", 1, timeout_s=60)
    assert "only_one" not in project.tables()


def test_sql_of_an_update_is_shown_and_nothing_written(project: Project) -> None:
    changelog = project.sql(TABLE)
    assert "create table t" in project.connect("read_only").update_sql(changelog).lower()
    assert project.tables() == set()


def test_schema_snapshot_is_json_and_leaves_the_held_transaction_alone(project: Project) -> None:
    project.hold()
    project.update(project.sql(TABLE))
    assert "snapshot" in json.loads(project.liquibase.snapshot(project.root))
    assert json.loads((project.root / "snapshot.json").read_text())
    project.liquibase.commit()
    assert "t" in project.tables()


def test_update_waits_for_no_stale_lock(project: Project) -> None:
    project.apply(project.sql(TABLE))
    project.run("update databasechangeloglock set locked = true, lockedby = 'gone', lockgranted = now()")
    project.hold()
    with pytest.raises(MigrationFailed) as caught:
        project.update(project.sql(TABLE, "\nselect 1;"))
    assert caught.value.code == "liquibase_lock"
    assert "gone" in caught.value.message
    with connect(project.login, role="test", run_id="test") as session:
        holder = ledger.lock_holder(session)
        assert holder is not None
        assert holder.locked_by == "gone"
        ledger.release(session)
        assert ledger.lock_holder(session) is None
    project.apply(project.sql(TABLE, "\nselect 1;"))


def test_typed_query_reads_uncommitted_rows_and_cannot_write(project: Project) -> None:
    project.hold()
    project.update(project.sql(TABLE, "\ninsert into t values (1, null), (2, 5);"))
    columns, rows = project.liquibase.query_typed("select id, n, n::numeric(5,2) as m from t order by id", 10)
    assert columns == [("id", 23), ("n", 23), ("m", 1700)]
    assert rows == [("1", None, None), ("2", "5", "5.00")]
    assert project.liquibase.query_typed("show transaction_isolation", 1)[1] == [("repeatable read",)]

    for text in ("commit", "select 1; commit", "insert into t values (3, 3)", "drop table t"):
        with pytest.raises(StepFailed):
            project.liquibase.query_typed(text, 10)
    with pytest.raises(StepFailed, match="read-only"):
        project.liquibase.query_typed("with x as (insert into t values (3, 3) returning 1) select * from x", 10)
    with pytest.raises(StepFailed, match="more than 1 rows"):
        project.liquibase.query_typed("select * from t", 1)
    with pytest.raises(StepFailed, match="statement timeout"):
        project.liquibase.query_typed("select pg_sleep(5)", 1, timeout_s=0.1)

    project.liquibase.commit()
    assert project.query("select count(*) from t") == [(2,)]


def test_values_come_as_postgresql_prints_them(project: Project) -> None:
    text = (
        "select true, 1.50::numeric, 'infinity'::timestamptz, '{a,NULL}'::text[], '\\xdead'::bytea, interval '1 day',"
        " '{\"a\": 1}'::jsonb, '2026-01-02 03:04:05+02'::timestamptz, 'NaN'::float8, null, 1e10::float8, '?'::text"
    )
    with connect(project.login, role="test", run_id="test") as session:
        assert project.connect("read_only").rows(text) == session.rows(text)


def test_server_that_refuses_says_so(project: Project) -> None:
    project.login = project.login.to("no such database; --x")
    with pytest.raises(ConnectionFailed, match="no such database"):
        project.connect("read_only")


def test_database_with_a_strange_name_is_reached(project: Project) -> None:
    name = 'test x"%20;/?&ü'
    project.run('create database "{}"'.format(name.replace('"', '""')))
    original = project.login
    try:
        project.login = original.to(name)
        assert project.connect("read_only").rows("select current_database()") == [(name,)]
        project.liquibase.disconnect()
    finally:
        project.login = original
        project.run('drop database "{}"'.format(name.replace('"', '""')))


def test_application_name_is_the_servers_word_for_the_session(project: Project) -> None:
    project.connect("held")
    pid = project.liquibase.rows("select pg_backend_pid()::text")[0][0]
    seen = project.query(f"select application_name from pg_stat_activity where pid = {pid}")
    assert seen == [(project.application_name,)]


def test_cancelled_statement_fails_the_run_cleanly(project: Project) -> None:
    project.run("create table busy(id int)")
    with psycopg.connect(conninfo(project.login)) as other:
        other.execute("lock table busy in access exclusive mode")
        project.connect("held", lock_timeout_s=30).begin()

        until_waiting = (
            "do $$begin for i in 1..200 loop"
            " perform pg_cancel_backend(pid) from pg_stat_activity"
            f" where application_name = '{project.application_name}' and wait_event_type = 'Lock';"
            " exit when found; perform pg_stat_clear_snapshot(), pg_sleep(0.05); end loop; end$$"
        )
        thread = threading.Thread(target=project.run, args=(until_waiting,))
        thread.start()
        with pytest.raises(MigrationFailed) as caught:
            project.update(project.sql("\nalter table busy add n int;"))
        thread.join()
    assert caught.value.place.sqlstate == "57014"
    assert project.tables() == {"busy"}


def test_listing_works_for_a_role_that_may_only_read_and_says_what_it_may_not(project: Project) -> None:
    changelog = project.sql(TABLE, "\nselect 1;")
    project.apply(changelog)
    role = f"reader_{project.login.database}"
    project.run(f"create role {role} login password 'x'")
    original = project.login
    try:
        project.login = replace(original, user=role, password=Secret("x"))
        with pytest.raises(StepFailed, match="permission denied"):
            project.changesets(changelog)
        project.login = original
        project.run(f"grant select on databasechangelog to {role}")
        project.login = replace(original, user=role, password=Secret("x"))
        assert [changeset.state for changeset in project.changesets(changelog)] == [ChangesetState.RAN] * 2
        project.liquibase.disconnect()
    finally:
        project.login = original
        project.run(f"revoke all on databasechangelog from {role}; drop role {role}")


def test_connection_that_is_lost_between_two_calls_is_an_error_and_can_be_made_anew(project: Project) -> None:
    project.hold()
    project.run(
        f"select pg_terminate_backend(pid) from pg_stat_activity where application_name = '{project.application_name}'"
    )
    with pytest.raises(MigrationFailed):
        project.update(project.sql(TABLE))
    project.liquibase.rollback()
    project.liquibase.disconnect()
    project.apply(project.sql(TABLE))
    assert "t" in project.tables()


@pytest.mark.parametrize("held", [True, False])
def test_plain_sql_goes_into_the_default_schema(project: Project, held: bool) -> None:
    project.run("create schema app")
    project.default_schema = "app"
    changelog = project.sql("\ncreate table t(id int);", "\ninsert into t values (1);")
    (project.apply if held else project.apply_stepwise)(changelog)
    assert project.query("select schemaname from pg_tables where tablename = 't'") == [("app",)]
    assert project.query("select count(*) from app.databasechangelog") == [(2,)]


def test_rollback_on_a_held_connection_is_held_too(project: Project) -> None:
    both = [
        project.sql(TABLE, name="one.sql"),
        project.sql("\ncreate table u(id int);\n--rollback drop table u;", name="two.sql"),
    ]
    for changelog in both:
        project.apply(changelog)
    liquibase = project.connect("read_only")
    newest, older = liquibase.undoable(both, 2)
    assert (newest.path, newest.has_rollback, newest.run_in_transaction) == ("two.sql", True, True)
    assert [text.strip() for text in older.statements] == ["drop table t"]
    assert [one.is_known for one in liquibase.undoable("one.sql", 2)] == [False, True]
    assert "drop table u" in liquibase.rollback_count_sql(both, 2)
    project.hold()
    undone = project.liquibase.rollback_count(both, 2, timeout_s=60)
    assert [changeset.path for changeset in undone.changesets] == ["two.sql", "one.sql"]
    assert undone.write_set == {"public.databasechangelog", "public.databasechangeloglock"}, "what is gone has no name"
    assert {"t", "u"} <= project.tables(), "not committed yet"
    project.liquibase.commit()
    assert project.tables() == {"databasechangelog", "databasechangeloglock"}
    assert project.ledger() == []


def test_held_rollback_that_fails_takes_nothing_away(project: Project) -> None:
    changelog = project.sql(TABLE, "\nselect 1;\n--rollback drop table nowhere;", "\nselect 1;\n--rollback select 1;")
    project.apply(changelog)
    project.hold()
    with pytest.raises(MigrationFailed) as caught:
        project.liquibase.rollback_count(changelog, 3, timeout_s=60)
    assert (caught.value.place.changeset, caught.value.place.sqlstate) == ("main.sql::2::ann", "42P01")
    project.liquibase.rollback()
    assert [row[0] for row in project.ledger()] == ["1", "2", "3"]


def test_rollback_that_commits_loses_the_transaction(project: Project) -> None:
    changelog = project.sql("\nselect 1;\n--rollback commit;")
    project.apply(changelog)
    project.hold()
    with pytest.raises(TransactionLost):
        project.liquibase.rollback_count(changelog, 1, timeout_s=60)


def test_changelog_is_marked_as_ran_in_one_transaction(project: Project) -> None:
    changelog = project.sql(TABLE, "\nselect 1;")
    project.hold()
    project.liquibase.changelog_sync(changelog)
    assert {one.state for one in project.liquibase.changesets(changelog)} == {ChangesetState.RAN}
    assert project.tables() == set()
    project.liquibase.commit()
    assert [row[0] for row in project.ledger()] == ["1", "2"]
    assert "t" not in project.tables()


def test_statement_that_fails_does_not_spoil_the_next_one(project: Project) -> None:
    liquibase = project.connect("stepwise")
    with pytest.raises(StepFailed):
        liquibase.execute("insert into nowhere values (1)")
    liquibase.execute("create table t(id int)")
    with pytest.raises(StepFailed):
        liquibase.rows("select * from nowhere")
    assert liquibase.rows("select count(*) from t") == [("0",)]
