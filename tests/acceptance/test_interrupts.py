"""What a run does when its tools, its server or its lock come to harm, or when it is told to stop."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from migrator import failpoints
from migrator.config.login import Login
from migrator.postgres.embedded import EmbeddedServer, Options
from tests.acceptance.stage import Stage, crash_template, ended, living_children, run_id, settled, staged, template
from tests.conftest import Server

__all__ = ["crash_template"]

slow = pytest.mark.slow
LONG_S = 60.0  # that the changeset `pause` takes where a test comes to it in the middle


@pytest.fixture
def stage(server: Server, crash_template: Login, tmp_path: Path) -> Iterator[Stage]:
    with staged(server, crash_template, tmp_path) as made:
        yield made


# Tools


@pytest.mark.parametrize("way", ["atomic", pytest.param("stepwise", marks=slow)])
def test_killed_worker_in_mid_statement_is_taken_back(stage: Stage, way: str) -> None:
    stage.pause(LONG_S)
    answer = stage.victim("changeset:3:running", "kill-worker", "run", "good.sql", "--way", way)
    assert answer.code == 6, answer.err
    stage.assert_as_it_was()


@pytest.mark.slow
@pytest.mark.parametrize("way", ["atomic", "stepwise"])
def test_terminated_backend_of_liquibase_in_mid_statement_is_taken_back(stage: Stage, way: str) -> None:
    stage.pause(LONG_S)
    process = stage.begin("never", "none", "run", "good.sql", "--way", way)
    with stage.server.session() as admin:
        found = f"from pg_stat_activity where datname = '{stage.database}' and wait_event = 'PgSleep'"
        settled(
            lambda: bool(admin.rows(f"select 1 {found}")) or process.poll() is not None,
            lambda: "it never came so far",
            within_s=LONG_S,
        )
        assert admin.rows(f"select pg_terminate_backend(pid, 5000) {found}") == [("t",)]
    answer = ended(process)
    assert answer.code == 6, answer.err
    stage.assert_as_it_was()


@pytest.mark.parametrize(
    ("moment", "codes"),
    [
        ("progress:reading", {3}),
        pytest.param("ended:maintain", {5}, marks=slow),
        pytest.param("ended:hold", {5, 6}, marks=slow),
        pytest.param("ended:back_up", {6}, marks=slow),
        pytest.param("ended:apply", {6}, marks=slow),
        ("before:migrator.liquibase.session:Liquibase.commit", {6}),
    ],
)
def test_killed_worker_between_statements_is_taken_back(stage: Stage, moment: str, codes: set[int]) -> None:
    answer = stage.victim(moment, "kill-worker", "run", "good.sql")
    if answer.code == 0:  # it was started anew before anything depended on it
        stage.assert_migrated()
        return
    assert answer.code in codes, answer.err
    stage.assert_as_it_was()


@pytest.mark.parametrize("way", ["atomic", pytest.param("stepwise", marks=slow)])
def test_killed_pg_dump_ends_the_run_before_it_migrates(stage: Stage, way: str) -> None:
    answer = stage.victim("progress:pg_dump", "kill-tool", "run", "good.sql", "--way", way)
    assert answer.code == 5, answer.err
    stage.assert_as_it_was()
    [left] = (stage.folder / "backups").iterdir()
    assert left.name.endswith(".partial")


@pytest.mark.slow
def test_killed_pg_restore_halts_and_a_resume_restores(stage: Stage) -> None:
    answer = stage.victim("progress:restoring", "kill-tool", "run", "bad-without-rollback.sql", "--way", "stepwise")
    run = run_id(answer)
    assert answer.code == 9, answer.err
    assert stage.is_fenced()
    assert stage.databases() == []
    stage.assert_blocked(run)
    again = stage.migrator("resume", run)
    assert again.code == 7, again.err
    stage.assert_as_it_was(restored=True)


# Signals


@pytest.mark.parametrize(
    ("moment", "deed", "code"),
    [
        ("progress:reading", "int", 5),
        pytest.param("ended:preflight", "term", 5, marks=slow),
        pytest.param("started:maintain", "hup", 5, marks=slow),
        pytest.param("ended:maintain", "int", 5, marks=slow),
        pytest.param("ended:hold", "term", 5, marks=slow),
        ("progress:pg_dump", "term", 5),
        ("changeset:3:running", "term-soon", 6),
        pytest.param("changeset:3:running", "int", 6, marks=slow),
        pytest.param("check:after", "hup", 6, marks=slow),
        pytest.param("ended:verify", "int", 6, marks=slow),
    ],
)
def test_signal_before_the_commit_brings_the_database_back(stage: Stage, moment: str, deed: str, code: int) -> None:
    stage.pause(LONG_S if deed == "term-soon" else 0)
    began = time.monotonic()
    answer = stage.victim(moment, deed, "run", "good.sql")
    assert answer.code == code, answer.err
    assert time.monotonic() - began < LONG_S
    stage.assert_as_it_was()


@pytest.mark.parametrize(
    "moment",
    [
        "before:migrator.liquibase.session:Liquibase.commit",
        pytest.param("ended:commit", marks=slow),
        pytest.param("started:lift", marks=slow),
        pytest.param("ended:lift", marks=slow),
    ],
)
def test_signal_from_the_commit_on_changes_nothing(stage: Stage, moment: str) -> None:
    answer = stage.victim(moment, "term", "run", "good.sql")
    assert answer.code == 0, answer.err
    stage.assert_migrated()


@pytest.mark.parametrize(
    ("changelog", "code"), [("good.sql", 6), pytest.param("bad-without-rollback.sql", 7, id="restored", marks=slow)]
)
def test_signal_to_a_stepwise_run_brings_the_database_back(stage: Stage, changelog: str, code: int) -> None:
    stage.pause(LONG_S)
    answer = stage.victim("changeset:3:running", "term-soon", "run", changelog, "--way", "stepwise")
    assert answer.code == code, answer.err
    stage.assert_as_it_was(restored=code == 7)


@pytest.mark.parametrize(
    ("changelog", "moment", "code"),
    [
        ("bad.sql", "title:take the changes back", 6),
        pytest.param("bad-without-rollback.sql", "progress:restoring", 7, marks=slow),
    ],
)
@pytest.mark.slow
def test_signal_on_the_way_back_does_not_stop_it(stage: Stage, changelog: str, moment: str, code: int) -> None:
    answer = stage.victim(moment, "int", "run", changelog, "--way", "stepwise")
    assert answer.code == code, answer.err
    stage.assert_as_it_was(restored=code == 7)


# Others


def test_second_run_is_turned_away_and_the_first_is_not_disturbed(stage: Stage) -> None:
    first, go_on = held(stage, "changeset:2:running")
    failpoints.arm(f"trace={stage.folder / 'trace'}@any")
    try:
        status = stage.status()
    finally:
        failpoints.disarm()
    assert not (stage.folder / "trace").exists(), "status has no effect on anything"
    assert status["open_run_alive"]
    run = status["open_run"]
    assert stage.migrator("run", "good.sql").code == 4
    of_another_journal = stage.migrator("run", "good.sql", "--set", "journal.url=sqlite:///another.db")
    assert of_another_journal.code == 4, of_another_journal.err
    assert stage.migrator("resume", run).code == 4
    assert stage.migrator("recover").code == 4
    assert stage.migrator("recover", "--expired").code == 0
    answer = go_on()
    assert answer == 0
    assert first.returncode == 0
    stage.assert_migrated()


def test_recover_expired_waits_for_the_end_of_the_lease(stage: Stage) -> None:
    run = stage.killed("changeset:3:running", "run", "good.sql", "--way", "stepwise")
    elsewhere(stage, run, lease_left_s=15.0)
    assert stage.status()["open_run_alive"]
    assert stage.migrator("recover", "--expired").code == 0
    assert stage.is_fenced()
    assert stage.migrator("resume", run).code == 4
    elsewhere(stage, run, lease_left_s=-1.0)
    answer = stage.migrator("recover", "--expired")
    assert answer.code == 6, answer.err
    stage.assert_as_it_was()
    assert stage.migrator("recover", "--expired").code == 0


def test_run_whose_lock_was_ended_while_it_slept_does_nothing_more(stage: Stage) -> None:
    first, go_on = held(stage, "ended:back_up", "--way", "stepwise")
    run = stage.status()["open_run"]
    os.kill(first.pid, signal.SIGSTOP)
    end_lock_session(stage, run)
    os.kill(first.pid, signal.SIGCONT)
    assert go_on() == 10
    assert stage.picture() == stage.pictured
    stage.assert_blocked(run)
    answer = stage.migrator("resume", run)
    assert answer.code == 0, answer.err
    stage.assert_migrated()


@pytest.mark.slow
@pytest.mark.parametrize("way", ["atomic", "stepwise"])
def test_run_that_slept_while_another_ended_it_does_nothing_more(stage: Stage, way: str) -> None:
    first, go_on = held(stage, "ended:back_up", "--way", way)
    run = stage.status()["open_run"]
    os.kill(first.pid, signal.SIGSTOP)
    end_lock_session(stage, run)
    answer = stage.migrator("resume", run, "--force")
    assert answer.code == 0, answer.err
    os.kill(first.pid, signal.SIGCONT)
    assert go_on() == 10
    stage.assert_migrated()


@pytest.mark.parametrize("way", ["atomic", pytest.param("stepwise", marks=slow)])
def test_run_goes_back_when_the_downtime_is_used_up(
    server: Server, crash_template: Login, tmp_path: Path, way: str
) -> None:
    with staged(server, crash_template, tmp_path, limits="max_downtime_s = 2.5") as stage:
        stage.pause(LONG_S)
        answer = stage.victim("never", "none", "run", "good.sql", "--way", way)
        assert answer.code == 6, answer.err
        assert "max_downtime_s" in answer.err
        stage.assert_as_it_was()


@pytest.mark.slow
@pytest.mark.parametrize("forward_s", [3600, -3600])
@pytest.mark.parametrize(
    ("way", "changelog", "moment", "code"),
    [
        ("atomic", "good.sql", "ended:back_up", 0),
        ("stepwise", "good.sql", "started:maintain", 0),
        ("stepwise", "bad.sql", "changeset:2:running", 6),
    ],
)
def test_clock_that_is_set_by_an_hour_changes_nothing(
    stage: Stage, way: str, changelog: str, moment: str, code: int, forward_s: int
) -> None:
    answer = stage.victim(moment, f"clock={forward_s}", "run", changelog, "--way", way, "--json")
    assert answer.code == code, answer.err
    if code == 0:
        stage.assert_migrated()
    else:
        stage.assert_as_it_was()
    steps = answer.json["steps"]
    assert all(0 <= step["duration_s"] < LONG_S for step in steps), steps
    assert 0 <= answer.json["maintenance"]["downtime_s"] < LONG_S
    again = stage.migrator("run", changelog, "--way", way, "--json")
    assert again.code == code, again.err
    assert again.json["run_id"] != run_id(answer)


# The server


@pytest.fixture
def own_server() -> Iterator[tuple[Server, Callable[[], EmbeddedServer]]]:
    """A server that a test may crash, and what starts it again."""
    folder = Path(tempfile.mkdtemp(prefix="migrator-test-"))  # the server's account must reach it
    folder.chmod(0o711)
    options = Options(major=18, durable=False).that_ends_with_us(remove=folder / "nothing")  # it comes back

    def start() -> EmbeddedServer:
        return EmbeddedServer.start(folder / "pg", options)

    embedded = start()
    server = Server(admin=embedded.admin, migrator=embedded.migrator, app=embedded.app, major=18, embedded=embedded)
    try:
        yield server, start
    finally:
        start().immediate_stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.parametrize(
    ("way", "codes"),
    [
        pytest.param("atomic", {0, 6}, marks=slow),  # 6: it was on its way back when it found its lock gone
        ("stepwise", {6}),
    ],
)
def test_run_whose_server_crashed_is_ended_once_it_is_back(
    own_server: tuple[Server, Callable[[], EmbeddedServer]], tmp_path: Path, way: str, codes: set[int]
) -> None:
    server, start = own_server
    (tmp_path / "template").mkdir()
    assert server.embedded is not None
    with template(server, tmp_path / "template") as copied, staged(server, copied, tmp_path) as stage:
        stage.pause(LONG_S)
        _, go_on = held(stage, "changeset:3:running", "--way", way)
        run = stage.status()["open_run"]
        server.embedded.immediate_stop()
        assert go_on() == 10
        settled(lambda: not stage.new_children(), lambda: f"processes are left: {stage.new_children()}")
        start()
        stage.children = living_children()
        stage.pause(0)
        stage.assert_blocked(run)
        answer = stage.migrator("resume", run)
        assert answer.code in codes, answer.err
        if answer.code == 0:
            stage.assert_migrated()
        else:
            stage.assert_as_it_was()


def held(stage: Stage, moment: str, *arguments: str) -> tuple[subprocess.Popen[str], Callable[[], int]]:
    """A run that waits at the moment; what lets it go on and returns its exit code."""
    place = stage.folder / "held"
    process = stage.begin(moment, f"hold={place}", "run", "good.sql", *arguments)
    settled(
        lambda: place.with_suffix(".reached").exists() or process.poll() is not None,
        lambda: "it never came so far",
        within_s=LONG_S,
    )
    assert process.poll() is None, ended(process).err

    def go_on() -> int:
        place.with_suffix(".go").touch()
        return ended(process).code

    return process, go_on


def end_lock_session(stage: Stage, run: str) -> None:
    with stage.server.session() as admin:
        name = f"mig:{run}:lock"
        [(gone,)] = admin.rows(
            f"select pg_terminate_backend(pid, 5000) from pg_stat_activity where application_name = '{name}'"
        )
        assert gone == "t"


def elsewhere(stage: Stage, run: str, *, lease_left_s: float) -> None:
    """The journal's entry of the run as a machine that nobody can see from here would have left it."""
    with closing(sqlite3.connect(stage.folder / ".migrator" / "journal.db")) as journal, journal:
        journal.execute(
            "update migrator_run set holder = 'elsewhere:1:::x', lease_until = ? where run_id = ?",
            (time.time() + lease_left_s, run),
        )
