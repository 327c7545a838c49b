"""The one transaction: what is held, what is noticed, and what is left behind when it goes wrong."""

from __future__ import annotations

import psycopg
import pytest

from migrator.errors import MigrationFailed, StepFailed, TransactionLost
from tests.integration.liquibase_fixtures import Project, conninfo

pytest_plugins = ("tests.integration.liquibase_fixtures",)

TABLE = "\ncreate table t(id int primary key, n int);\n--rollback drop table t;"


def test_nobody_sees_a_held_run_before_its_commit(project: Project) -> None:
    changelog = project.sql(TABLE, "\ninsert into t values (1, 1), (2, 2);")
    project.hold()
    updated = project.update(changelog)

    assert project.tables() == set()
    assert project.liquibase.rows("select count(*) from t") == [("2",)]
    assert [changeset.status for changeset in updated.changesets] == ["executed", "executed"]
    assert updated.counts["public.t"].inserted == 2
    assert updated.savepoints == 0

    project.liquibase.commit()
    assert project.query("select count(*) from t") == [(2,)]
    assert [row[0] for row in project.ledger()] == ["1", "2"]
    assert project.query("select locked from databasechangeloglock") == [(False,)]


def test_rollback_of_a_first_run_leaves_nothing_behind(project: Project) -> None:
    held = project.hold()
    project.update(project.sql(TABLE))
    project.liquibase.rollback()

    assert project.tables() == set()
    assert project.query(f"select pg_xact_status('{held.xid}')") == [("aborted",)]


def test_all_changesets_share_the_transaction_that_was_begun(project: Project) -> None:
    held = project.hold()
    project.update(project.sql(TABLE, "\ninsert into t values (1, 1);", "\ninsert into t values (2, 2);"))
    project.liquibase.commit()

    assert project.query("select distinct xmin::text from t") == [(held.xid,)]
    assert project.query("select distinct xmin::text from databasechangelog") == [(held.xid,)]


def test_the_snapshot_shows_the_database_before_the_first_change(project: Project) -> None:
    project.run("create table old(id int); insert into old values (1)")
    held = project.hold()
    project.update(project.sql("\ninsert into old values (2);"))
    with psycopg.connect(conninfo(project.login)) as other:
        other.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        other.execute(f"set transaction snapshot '{held.snapshot}'")
        assert other.execute("select count(*) from old").fetchone() == (1,)


def test_failing_changeset_is_named_with_file_line_and_sqlstate(project: Project) -> None:
    changelog = project.sql(TABLE, "\ninsert into t values (1, 1), (1, 2);")
    held = project.hold()
    with pytest.raises(MigrationFailed) as caught:
        project.update(changelog)

    assert not isinstance(caught.value, TransactionLost)
    place = caught.value.place
    assert (place.changeset, place.file, place.line, place.sqlstate) == ("main.sql::2::ann", "main.sql", 5, "23505")
    assert "duplicate key" in caught.value.message
    assert project.events[-1].kind == "failed"
    assert project.tables() == set()
    assert project.query(f"select pg_xact_status('{held.xid}')") == [("aborted",)]


def test_commit_after_a_failed_update_is_refused(project: Project) -> None:
    changelog = project.sql("\nselect 1/0;")
    project.hold()
    with pytest.raises(MigrationFailed):
        project.update(changelog)
    with pytest.raises(StepFailed):
        project.liquibase.commit()
    assert project.tables() == set()


def test_raw_commit_in_a_changeset_is_detected(project: Project) -> None:
    changelog = project.sql(TABLE, "\ninsert into t values (1, 1); commit; insert into t values (2, 2);")
    project.hold()
    with pytest.raises(TransactionLost) as caught:
        project.update(changelog)

    assert caught.value.committed is True
    assert caught.value.place.changeset == "main.sql::2::ann"
    assert project.query("select id from t") == [(1,)]


def test_raw_commit_at_the_end_of_a_changeset_is_detected(project: Project) -> None:
    project.hold()
    with pytest.raises(TransactionLost) as caught:
        project.update(project.sql(TABLE, "\ninsert into t values (1, 1); commit;"))
    assert caught.value.committed is True


def test_raw_commit_followed_by_an_error_is_detected(project: Project) -> None:
    project.hold()
    with pytest.raises(TransactionLost) as caught:
        project.update(project.sql(TABLE, "\ncommit; select 1/0;"))
    assert caught.value.committed is True


def test_raw_commit_in_a_changeset_that_may_fail_is_detected(project: Project) -> None:
    project.hold()
    with pytest.raises(TransactionLost) as caught:
        project.update(project.sql(TABLE, "failOnError:false\ncommit; select 1/0;", "\ninsert into t values (5, 5);"))
    assert caught.value.committed is True
    assert project.query("select count(*) from t") == [(0,)]


def test_raw_rollback_in_a_changeset_is_detected_as_nothing_committed(project: Project) -> None:
    project.hold()
    with pytest.raises(TransactionLost) as caught:
        project.update(project.sql(TABLE, "\nrollback; create table u(id int);"))
    assert caught.value.committed is False
    assert project.tables() == set()


@pytest.mark.parametrize(
    ("before", "changesets", "sqlstate"),
    [
        ("select", (TABLE, "\ncreate index concurrently i on t(n);"), "25001"),
        (
            "create type e as enum ('a'); create table t(e e)",
            ("\nalter type e add value 'b';", "\ninsert into t values ('b');"),
            "55P04",
        ),
        (
            "create table p(id int primary key); create table t(p int references p initially deferred)",
            ("\ninsert into t values (1); insert into p values (1); alter table t add n int;",),
            "55006",
        ),
    ],
)
def test_what_needs_its_own_transaction_is_lost_and_not_committed(
    project: Project, before: str, changesets: tuple[str, ...], sqlstate: str
) -> None:
    project.run(before)
    tables = project.tables()
    project.hold()
    with pytest.raises(TransactionLost) as caught:
        project.update(project.sql(*changesets))
    assert caught.value.committed is False
    assert caught.value.place.sqlstate == sqlstate
    assert project.tables() == tables


def test_changeset_outside_a_transaction_is_lost_before_it_runs(project: Project) -> None:
    project.hold()
    with pytest.raises(TransactionLost) as caught:
        project.update(project.sql(TABLE, "runInTransaction:false\ncreate index concurrently i on t(n);"))
    assert caught.value.committed is False
    assert caught.value.place.changeset == "main.sql::2::ann"
    assert project.tables() == set()


def test_deferred_constraint_is_checked_at_each_held_commit(project: Project) -> None:
    parent = "\ncreate table p(id int primary key); create table c(p int references p deferrable initially deferred);"
    project.hold()
    with pytest.raises(MigrationFailed) as caught:
        project.update(project.sql(parent, "\ninsert into c values (1);", "\ninsert into p values (1);"))
    assert caught.value.place.sqlstate == "23503"
    assert caught.value.place.changeset == "main.sql::2::ann"


def test_deferred_constraint_stays_deferred_within_each_changeset(project: Project) -> None:
    parent = "\ncreate table p(id int primary key); create table c(p int references p deferrable initially deferred);"
    both = "\ninsert into c values ({0}); insert into p values ({0});"
    changelog = project.sql(parent, both.format(1), "\nalter table c add n int;", both.format(2))
    project.apply(changelog)
    assert project.query("select count(*) from c") == [(2,)]


def test_deferred_constraint_is_deferred_in_the_changeset_that_creates_it(project: Project) -> None:
    changelog = project.sql(
        TABLE,
        "\ncreate table p(id int primary key); create table c(p int references p initially deferred);"
        " insert into c values (1); insert into p values (1);",
    )
    project.apply(changelog)
    assert project.query("select count(*) from c") == [(1,)]


def test_initially_immediate_constraint_stays_immediate(project: Project) -> None:
    parent = "\ncreate table p(id int primary key); create table c(p int references p deferrable);"
    project.hold()
    with pytest.raises(MigrationFailed) as caught:
        project.update(project.sql(parent, "\ninsert into c values (1); insert into p values (1);"))
    assert caught.value.place.sqlstate == "23503"


def test_deferrable_namesake_of_a_plain_constraint_does_not_break_the_run(project: Project) -> None:
    changelog = project.sql(
        "\ncreate table p(id int primary key);"
        " create table c(p int, constraint fk foreign key (p) references p deferrable initially deferred);"
        " create table e(p int, constraint fk foreign key (p) references p deferrable);"
        " create table d(p int, constraint fk foreign key (p) references p);",
        "\ninsert into p values (1); insert into c values (1);",
    )
    project.apply(changelog)
    assert project.query("select count(*) from c") == [(1,)]


def test_constraint_that_fails_at_the_commit_fails_the_run(project: Project) -> None:
    project.hold()
    project.update(project.sql("\ncreate table p(id int primary key); create table c(p int);"))
    project.liquibase.execute("alter table c add constraint fk foreign key (p) references p initially deferred")
    project.liquibase.execute("insert into c values (7)")
    with pytest.raises(StepFailed, match="violates foreign key"):
        project.liquibase.commit()
    assert project.tables() == set()


def test_failed_changeset_that_may_fail_is_told_and_undone_alone(project: Project) -> None:
    changelog = project.sql(
        TABLE,
        "failOnError:false\ninsert into t values (1, 1); insert into nowhere values (1);",
        "\ninsert into t values (2, 2);",
    )
    updated = project.apply(changelog)

    assert [changeset.status for changeset in updated.changesets] == ["executed", "failed_ignored", "executed"]
    assert "nowhere" in (updated.changesets[1].message or "")
    assert updated.savepoints == 1
    assert project.query("select id from t") == [(2,)]
    assert [row[0] for row in project.ledger()] == ["1", "3"]


def test_sql_precondition_that_errors_and_goes_on_keeps_the_transaction(project: Project) -> None:
    condition = (
        "\n--preconditions onFail:MARK_RAN onError:MARK_RAN\n"
        "--precondition-sql-check expectedResult:1 select n from nowhere\n"
    )
    updated = project.apply(project.sql(TABLE, f"{condition}insert into t values (9, 9);"))
    assert [changeset.status for changeset in updated.changesets] == ["executed", "mark_ran"]
    assert project.query("select count(*) from t") == [(0,)]


def test_sql_precondition_that_is_not_met_skips_without_a_savepoint(project: Project) -> None:
    condition = "\n--preconditions onFail:CONTINUE\n--precondition-sql-check expectedResult:1 select count(*) from t\n"
    updated = project.apply(project.sql(TABLE, f"{condition}insert into t values (9, 9);"))
    assert [changeset.status for changeset in updated.changesets] == ["executed", "skipped"]
    assert "precondition" in (updated.changesets[1].message or "")
    assert updated.savepoints == 0


def test_hundred_changesets_make_no_subtransaction(project: Project) -> None:
    held = project.hold()
    project.update(project.sql(TABLE, *(f"\ninsert into t values ({n}, {n});" for n in range(100))))
    project.liquibase.commit()
    # a row written in a subtransaction bears that one's id
    assert project.query("select distinct xmin::text from t") == [(held.xid,)]


def test_lock_timeout_is_reported_with_its_sqlstate(project: Project) -> None:
    project.run("create table busy(id int)")
    with psycopg.connect(conninfo(project.login)) as other:
        other.execute("lock table busy in access exclusive mode")
        project.connect("held", lock_timeout_s=0.2).begin()
        with pytest.raises(MigrationFailed) as caught:
            project.update(project.sql("\nalter table busy add n int;"))
    assert caught.value.place.sqlstate == "55P03"
    assert "(SQLSTATE 55P03)" in caught.value.message


def test_role_settings_do_not_end_a_held_run(project: Project) -> None:
    user, name = project.login.user, project.login.database
    project.run(f"alter role {user} in database {name} set statement_timeout = '50ms'")
    project.run(f"alter role {user} in database {name} set default_transaction_read_only = on")
    project.apply(project.sql(TABLE, "\nselect pg_sleep(0.2);"))
    assert "t" in project.tables()


def test_backend_that_was_terminated_is_a_failure_and_the_worker_lives(project: Project) -> None:
    project.hold()
    with pytest.raises(MigrationFailed):
        project.update(project.sql(TABLE, "\nselect pg_terminate_backend(pg_backend_pid());"))
    project.liquibase.rollback()
    assert project.tables() == set()
    project.apply(project.sql(TABLE))
    assert "t" in project.tables()


def test_write_set_names_what_nobody_named(project: Project) -> None:
    project.run(
        "create table a(id int primary key); create table b(a int references a on delete cascade);"
        "create table audit(n int); create table untouched(n int); insert into a values (1); insert into b values (1);"
        "create function f() returns trigger language plpgsql as"
        " $$begin insert into audit values (1); return null; end$$;"
        "create trigger x after delete on a execute function f()"
    )
    project.hold()
    updated = project.update(project.sql("\ndelete from a;"))
    assert {"public.a", "public.b", "public.audit"} <= updated.write_set
    assert "public.untouched" not in updated.write_set
    assert updated.counts["public.b"].deleted == 1


def test_write_set_keeps_a_table_that_a_later_changeset_drops(project: Project) -> None:
    project.run("create table short(n int)")
    project.hold()
    updated = project.update(project.sql("\ninsert into short values (1);", "\ndrop table short;"))
    assert "public.short" in updated.write_set


def test_failing_query_leaves_the_held_transaction_as_it_was(project: Project) -> None:
    project.hold()
    project.update(project.sql(TABLE))
    with pytest.raises(StepFailed, match="nowhere"):
        project.liquibase.rows("select * from nowhere")
    assert project.liquibase.rows("select count(*) from t") == [("0",)]
    project.liquibase.commit()
    assert "t" in project.tables()


def test_several_updates_share_one_transaction(project: Project) -> None:
    first = project.sql(TABLE, name="first.sql")
    second = project.sql("\ninsert into t values (1, 1);", name="second.sql")
    project.hold()
    project.update(first)
    project.liquibase.execute("insert into t values (0, 0)")
    updated = project.update(second)
    project.liquibase.commit()
    assert [changeset.path for changeset in updated.changesets] == ["second.sql"]
    assert project.query("select count(*) from t") == [(2,)]


def test_nothing_to_do_in_a_held_transaction_is_fine(project: Project) -> None:
    changelog = project.sql(TABLE)
    project.apply(changelog)
    assert project.apply(changelog).changesets == ()
