"""A run that is killed anywhere can be ended: the database is migrated and verified, or exactly what it was."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from migrator.config.login import Login
from migrator.postgres import fence
from migrator.postgres.connect import connect
from tests.acceptance.stage import Stage, crash_template, ended, run_id, settled, staged
from tests.conftest import Server
from tests.shop import descendants, is_training

__all__ = ["crash_template"]

slow = pytest.mark.slow
STEPWISE = ("--way", "stepwise")
ONE_MORE = "insert into customer (email, tier) values ('user@shop', 'gold')"


@pytest.fixture
def stage(server: Server, crash_template: Login, tmp_path: Path) -> Iterator[Stage]:
    with staged(server, crash_template, tmp_path) as made:
        yield made


@pytest.mark.parametrize(
    "moment",
    [
        "started:preflight",
        pytest.param("progress:trying", marks=slow),
        pytest.param("before:migrator.plans.findings.squawk:processes.run", id="while it is linted", marks=slow),
        pytest.param("after:migrator.runs.restore:databases.create_empty", id="side database", marks=slow),
        pytest.param("before:migrator.runs.engine:ways.steps_of", id="after preflight", marks=slow),
    ],
)
def test_run_killed_before_anything_was_touched_is_closed(stage: Stage, moment: str) -> None:
    run = stage.killed(moment, "run", "good.sql", *STEPWISE)
    stage.assert_blocked(run)
    assert stage.migrator("resume", run).code == 5
    stage.assert_as_it_was()
    assert list((stage.folder / ".migrator" / "runs" / run).glob(".*")) == []


@pytest.mark.parametrize(
    "moment",
    [
        pytest.param("before:migrator.runs.steps.maintain:fence.put_up", id="before the fence", marks=slow),
        pytest.param("after:migrator.runs.steps.maintain:fence.put_up", id="after the fence", marks=slow),
        pytest.param("ended:hold", marks=slow),
        pytest.param("ended:maintain", marks=slow),
        pytest.param("progress:pg_dump", marks=slow),
        pytest.param("after:migrator.backups.store.local:LocalStore.publish", id="backup published", marks=slow),
        pytest.param("ended:back_up", marks=slow),
        "changeset:2:running",
        pytest.param("ended:apply", marks=slow),
        pytest.param("check:after", marks=slow),
        pytest.param("ended:verify", marks=slow),
        pytest.param("before:migrator.liquibase.session:Liquibase.commit", id="before the commit"),
    ],
)
def test_atomic_run_killed_before_its_commit_begins_again(stage: Stage, moment: str) -> None:
    run = stage.killed(moment, "run", "good.sql")
    stage.assert_blocked(run)
    answer = stage.migrator("resume", run)
    assert answer.code == 0, answer.err
    stage.assert_migrated()


@pytest.mark.parametrize(
    "moment",
    [
        pytest.param("after:migrator.liquibase.session:Liquibase.commit", id="before anybody knows"),
        pytest.param("ended:commit", marks=slow),
        pytest.param("started:lift", marks=slow),
        pytest.param("after:migrator.runs.steps.maintain:fence.take_down", id="the fence is down", marks=slow),
        pytest.param("ended:lift", marks=slow),
    ],
)
@pytest.mark.parametrize("back", [False, pytest.param(True, marks=slow)])
def test_atomic_run_killed_after_its_commit_is_migrated(stage: Stage, moment: str, back: bool) -> None:
    run = stage.killed(moment, "run", "good.sql")
    stage.assert_blocked(run)
    answer = stage.migrator("resume", run, *(["--back"] if back else []))
    assert answer.code == 0, answer.err
    stage.assert_migrated()


@pytest.mark.parametrize(
    ("moment", "code"),
    [
        pytest.param("ended:maintain", 5, marks=slow),
        ("ended:hold", 5),
        pytest.param("ended:back_up", 5, marks=slow),
        ("changeset:4:running", 6),
        pytest.param("ended:verify", 6, marks=slow),
    ],
)
@pytest.mark.slow
def test_atomic_run_killed_before_its_commit_goes_back_when_asked(stage: Stage, moment: str, code: int) -> None:
    run = stage.killed(moment, "run", "good.sql")
    stage.assert_blocked(run)
    answer = stage.migrator("resume", run, "--back")
    assert answer.code == code, answer.err
    stage.assert_as_it_was()


@pytest.mark.parametrize(
    "moment",
    [
        pytest.param("title:take the changes back", marks=slow),
        pytest.param("after:migrator.runs.steps.apply:ladder.go_back", id="it is proven"),
        pytest.param("after:migrator.runs.steps.maintain:fence.take_down", id="the fence is down"),
    ],
)
@pytest.mark.slow
def test_atomic_run_killed_on_its_way_back_is_ended(stage: Stage, moment: str) -> None:
    run = stage.killed(moment, "run", "bad.sql")
    stage.assert_blocked(run)
    answer = stage.migrator("resume", run)
    assert answer.code == 6, answer.err
    stage.assert_as_it_was()


@pytest.mark.parametrize(
    "moment",
    [
        pytest.param("ended:maintain", marks=slow),
        pytest.param("progress:pg_dump", marks=slow),
        "ended:back_up",
    ],
)
def test_stepwise_run_killed_before_it_migrates_is_carried_on(stage: Stage, moment: str) -> None:
    run = stage.killed(moment, "run", "good.sql", *STEPWISE)
    stage.assert_blocked(run)
    answer = stage.migrator("resume", run)
    assert answer.code == 0, answer.err
    stage.assert_migrated()


@pytest.mark.parametrize(
    "moment",
    [
        pytest.param("changeset:1:running", marks=slow),
        pytest.param("changeset:3:running", marks=slow),
        "changeset:4:executed",
        pytest.param("ended:apply", marks=slow),
        pytest.param("check:after", marks=slow),
        pytest.param("ended:verify", marks=slow),
    ],
)
@pytest.mark.parametrize("back", [False, pytest.param(True, marks=slow)])
def test_stepwise_run_killed_while_it_migrates_is_rolled_back(stage: Stage, moment: str, back: bool) -> None:
    run = stage.killed(moment, "run", "good.sql", *STEPWISE)
    stage.assert_blocked(run)
    answer = stage.migrator("resume", run, *(["--back"] if back else []))
    # While one runs, its change may be committed before its row in the ledger is: then only the backup leads back.
    assert answer.code in ({6, 7} if moment.endswith("running") else {6}), answer.err
    stage.assert_as_it_was(restored=answer.code == 7)


LEDGER_WAITS = """
create function wait() returns trigger language plpgsql as $$ begin perform pg_sleep(120); return new; end $$;
create trigger wait before insert on databasechangelog for each row when (new.id = 'apart') execute function wait();
"""
APART = """--liquibase formatted sql
--changeset crash:apart runInTransaction:false
create index concurrently by_total on orders (total);
--rollback drop index by_total;
"""


@pytest.mark.slow
@pytest.mark.parametrize("who", ["program", "worker"])
def test_stepwise_run_killed_between_a_change_and_its_ledger_row_is_found(
    server: Server, crash_template: Login, tmp_path: Path, who: str
) -> None:
    with staged(server, crash_template, tmp_path, prelude=LEDGER_WAITS) as stage:
        process = stage.begin("never", "none", "run", stage.write("apart.sql", APART), *STEPWISE)
        waiting = "select 1 from pg_stat_activity where wait_event = 'PgSleep' and query ~* 'databasechangelog'"
        with stage.server.session() as look:
            settled(
                lambda: bool(look.rows(waiting)) or process.poll() is not None,
                lambda: "the ledger is never written",
                within_s=120,
            )
        assert process.poll() is None, ended(process).err
        if who == "program":
            process.kill()
            run = run_id(ended(process))
            with closing(connect(stage.server.admin.to(stage.database), role="look", run_id="test")) as look:
                assert look.rows("select 1 from pg_index where indexrelid = to_regclass('by_total') and indisvalid")
                assert not look.rows("select id from databasechangelog where id = 'apart'")
            stage.assert_blocked(run)
            answer = stage.migrator("resume", run)
        else:
            kill_workers(process.pid)
            answer = ended(process)
        assert answer.code in {6, 7}, answer.err
        stage.assert_as_it_was(restored=answer.code == 7)


FAMILY = """
create table parent (id int primary key);
create table kid (id int primary key, parent int references parent on delete cascade);
insert into parent values (1), (2);
insert into kid select n, 1 + n % 2 from generate_series(1, 10) as n;
"""
CASCADES = """--liquibase formatted sql
--changeset crash:1
delete from parent where id = 1;
--rollback insert into parent values (1);
--changeset crash:2
select 1;
--rollback empty
"""


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["changeset:2:running", "failed:verify", "title:take the changes back"])
def test_rows_that_a_killed_run_lost_where_nothing_was_hashed_are_brought_back(
    server: Server, crash_template: Login, tmp_path: Path, moment: str
) -> None:
    with staged(server, crash_template, tmp_path, prelude=FAMILY) as stage:
        run = stage.killed(moment, "run", stage.write("cascades.sql", CASCADES), *STEPWISE, "--set", "proof=touched")
        stage.assert_blocked(run)
        answer = stage.migrator("resume", run, "--back")
        assert answer.code == 7, answer.err
        stage.assert_as_it_was(restored=True)


@pytest.mark.parametrize("moment", ["started:lift", pytest.param("ended:lift", marks=slow)])
def test_stepwise_run_killed_after_its_proof_is_migrated(stage: Stage, moment: str) -> None:
    run = stage.killed(moment, "run", "good.sql", *STEPWISE)
    stage.assert_blocked(run)
    answer = stage.migrator("resume", run)
    assert answer.code == 0, answer.err
    stage.assert_migrated()


@pytest.mark.parametrize(
    "moment",
    [
        pytest.param("title:take the changes back", marks=slow),
        pytest.param("before:migrator.runs.ladder:ledger.put_back", id="rolled back, ledger not"),
        pytest.param("after:migrator.runs.ladder:_roll_back", id="not yet noted", marks=slow),
        pytest.param("after:migrator.runs.steps.maintain:fence.take_down", id="the fence is down"),
    ],
)
@pytest.mark.slow
def test_stepwise_run_killed_on_its_way_back_is_rolled_back(stage: Stage, moment: str) -> None:
    run = stage.killed(moment, "run", "bad.sql", *STEPWISE)
    stage.assert_blocked(run)
    answer = stage.migrator("resume", run)
    assert answer.code == 6, answer.err
    stage.assert_as_it_was()


@pytest.mark.parametrize(
    ("moment", "deed"),
    [
        pytest.param("progress:restoring", "kill", marks=slow),
        pytest.param("after:migrator.runs.restore:drop_side", "kill", id="before the side database", marks=slow),
        pytest.param("progress:restoring", "kill-while-tool-runs", id="while pg_restore runs"),
        pytest.param("after:migrator.backups.dump:Dump.restore", "kill", id="restored beside", marks=slow),
        pytest.param("before:migrator.postgres.databases:_rename", "kill", id="closed for the swap"),
        pytest.param("after:migrator.runs.restore:databases.swap", "kill", id="swapped"),
        pytest.param("after:migrator.runs.restore:restore_and_swap", "kill", id="proven", marks=slow),
        pytest.param("after:migrator.runs.steps.maintain:fence.take_down", "kill", id="the fence is down", marks=slow),
    ],
)
@pytest.mark.slow
def test_run_killed_while_its_backup_is_restored_is_restored(stage: Stage, moment: str, deed: str) -> None:
    run = stage.killed(moment, "run", "bad-without-rollback.sql", *STEPWISE, deed=deed)
    stage.assert_blocked(run)
    answer = stage.migrator("resume", run, "--json")
    assert answer.code == 7, answer.err
    assert any("_old" in line for line in answer.json["kept"])
    assert any("was restored" in line for line in answer.json["proof"]["proven"])
    stage.assert_as_it_was(restored=True)


@pytest.mark.parametrize(
    ("changelog", "way", "moment", "code"),
    [
        pytest.param("good.sql", "atomic", "ended:maintain", 5, marks=slow),
        pytest.param("good.sql", "atomic", "changeset:4:running", 6, marks=slow),
        pytest.param("good.sql", "atomic", "ended:verify", 6, marks=slow),
        pytest.param("good.sql", "atomic", "after:migrator.liquibase.session:Liquibase.commit", 0, id="committed"),
        pytest.param("good.sql", "stepwise", "progress:pg_dump", 5, marks=slow),
        pytest.param("good.sql", "stepwise", "ended:back_up", 5, marks=slow),
        ("good.sql", "stepwise", "changeset:4:running", 7),
        pytest.param("bad-without-rollback.sql", "stepwise", "title:take the changes back", 7, marks=slow),
    ],
)
@pytest.mark.parametrize("journal", ["deleted", pytest.param("kept", marks=slow)])
def test_killed_run_is_recovered_by_its_environment(
    stage: Stage, changelog: str, way: str, moment: str, code: int, journal: str
) -> None:
    run = stage.killed(moment, "run", changelog, "--way", way)
    if journal == "deleted":
        for file in (stage.folder / ".migrator").glob("journal.db*"):
            file.unlink()
        assert stage.status()["fence_run"] == run
        assert stage.status()["next_command"] == "migrator recover --env crash"
        refused = stage.migrator("run", "good.sql")
        assert refused.code == 10
        assert "migrator recover --env crash" in refused.err
    elif code == 7 and "without" not in changelog:
        code = 6  # the journal knows which changesets are to be rolled back
    answer = stage.migrator("recover")
    assert answer.code == code, answer.err
    if code == 0:
        stage.assert_migrated()
    else:
        stage.assert_as_it_was(restored=code == 7)
    again = stage.migrator("recover")
    assert (again.code, again.out) == (0, "nothing to recover in environment crash\n")


@pytest.mark.parametrize(
    ("changelog", "way", "code"),
    [
        ("good.sql", "atomic", 0),
        pytest.param("bad.sql", "atomic", 6, marks=slow),
        pytest.param("bad.sql", "stepwise", 6, marks=slow),
        pytest.param("bad-without-rollback.sql", "stepwise", 7, marks=slow),
    ],
)
def test_what_users_wrote_before_a_resume_is_kept(stage: Stage, changelog: str, way: str, code: int) -> None:
    run = stage.killed("after:migrator.runs.steps.maintain:fence.take_down", "run", changelog, "--way", way)
    with closing(connect(stage.server.app.to(stage.database), role="x", run_id="application")) as application:
        application.execute(ONE_MORE)
        answer = stage.migrator("resume", run)
        assert answer.code == code, answer.err
        application.execute(ONE_MORE)  # neither was it ended, nor was a sequence set back under it
        found = application.rows("select count(*) from customer where email = 'user@shop'")
    assert found == [("2",)]
    assert not stage.is_fenced()
    assert stage.status()["open_run"] is None


@pytest.mark.parametrize(("way", "code"), [("atomic", 6), ("stepwise", 9)])
def test_run_whose_fence_somebody_took_down_loses_no_row_of_others(stage: Stage, way: str, code: int) -> None:
    run = stage.killed("changeset:4:running", "run", "bad-without-rollback.sql", "--way", way)
    with closing(connect(stage.login.to("postgres"), role="x", run_id="person")) as person:
        fence.take_down(person, stage.database, run_id=None)
    with closing(connect(stage.server.app.to(stage.database), role="x", run_id="application")) as application:
        application.execute(ONE_MORE)
        answer = stage.migrator("resume", run)
        assert answer.code == code, answer.err
        application.execute(ONE_MORE)
        found = application.rows("select count(*) from customer where email = 'user@shop'")
    assert found == [("2",)]
    assert stage.databases() == []


def kill_workers(root: int) -> None:
    for pid in descendants(root):
        if b"migrator.liquibase.worker" in Path(f"/proc/{pid}/cmdline").read_bytes() and not is_training(pid):
            os.kill(pid, signal.SIGKILL)
