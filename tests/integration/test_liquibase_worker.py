"""The child that holds the JVM: how it dies, what it leaves behind, what it gives away."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from migrator.config.login import Login, Secret
from migrator.errors import MigrationFailed, ToolFailed
from migrator.liquibase import install, startup
from migrator.liquibase.models import ChangesetEvent, LiquibaseOptions
from migrator.liquibase.session import Liquibase
from tests.integration.liquibase_fixtures import VERSIONS, Project, Worker

SLOW = "--liquibase formatted sql\n--changeset a:1\ncreate table t(id int);\n--changeset a:2\nselect pg_sleep(60);\n"


@pytest.fixture
def project(database: Login, tmp_path: Path) -> Iterator[Project]:
    """A worker of its own: these tests kill it."""
    root = tmp_path / "project"
    root.mkdir()
    log = tmp_path / "worker.log"
    liquibase = Liquibase.start(install.jars_for("5.0.4", None), install.java_home(None), log=log)
    yield Project(root=root, login=database, worker=Worker(version="5.0.4", liquibase=liquibase, log=log))
    liquibase.kill()


def wait_until(reached: Callable[[], bool], timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not reached():
        assert time.monotonic() < deadline, "not reached in time"
        time.sleep(0.05)


def backends(project: Project) -> int:
    query = f"select count(*) from pg_stat_activity where application_name = '{project.application_name}'"
    return int(str(project.query(query)[0][0]))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_worker_killed_in_a_statement_leaves_nothing(project: Project, number: signal.Signals) -> None:
    project.write("slow.sql", SLOW)
    project.hold()

    def kill(event: ChangesetEvent) -> None:
        if event.kind == "will_run" and event.id == "2":
            os.kill(project.liquibase.pid, number)

    with pytest.raises(MigrationFailed) as caught:
        project.liquibase.update("slow.sql", on_event=kill, timeout_s=30)
    assert caught.value.code == "worker_gone"
    assert caught.value.place.changeset == "slow.sql::2::a"
    assert signal.Signals(number).name in caught.value.message
    # the server looks every 5 s whether its client is still there
    wait_until(lambda: backends(project) == 0)
    assert project.tables() == set()


def test_update_past_its_time_limit_is_stopped(project: Project) -> None:
    project.write("slow.sql", SLOW)
    project.hold()
    with pytest.raises(MigrationFailed) as caught:
        project.update("slow.sql", timeout_s=1.0)
    assert caught.value.code == "timeout"
    wait_until(lambda: backends(project) == 0)
    assert project.tables() == set()


def test_end_of_input_ends_the_worker_in_the_middle_of_a_statement(project: Project) -> None:
    project.write("slow.sql", SLOW)
    project.hold()
    running = threading.Event()

    def note(event: ChangesetEvent) -> None:
        if event.id == "2":
            running.set()

    def update() -> None:
        with pytest.raises(MigrationFailed):
            project.liquibase.update("slow.sql", on_event=note, timeout_s=30)

    thread = threading.Thread(target=update)
    thread.start()
    assert running.wait(20)
    began = time.monotonic()
    project.liquibase.close()
    assert time.monotonic() - began < 4
    thread.join(10)
    assert not thread.is_alive()


def test_worker_dies_with_its_parent(tmp_path: Path) -> None:
    code = f"""
import os, sys, threading
from pathlib import Path
from migrator.liquibase import install
from migrator.liquibase.session import Liquibase
jars, home, log = install.jars_for("5.0.4", None), install.java_home(None), Path({str(tmp_path)!r}, "log")
liquibase = Liquibase.start(jars, home, log=log)
print(liquibase.pid, flush=True)
threading.Event().wait()
"""
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    wait_until(lambda: not alive(pid))


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_out_of_memory_ends_the_worker_and_not_us(project: Project) -> None:
    project.connect("held")
    with pytest.raises(ToolFailed) as caught:
        project.liquibase.rows("select repeat('x', 100000000) from generate_series(1, 10)")
    assert caught.value.code == "gone"
    wait_until(lambda: backends(project) == 0)


def test_password_is_nowhere_but_on_standard_input(project: Project) -> None:
    canary = "canary-4711!b@c$d()e*_,/:;=?@ff[]22"
    role = f"h_l_{os.getpid()}"
    project.run(f"create role {role} login password '{canary}'")
    try:
        original = project.login
        project.login = Login(
            host=original.host,
            port=original.port,
            database=original.database,
            user=role,
            password=Secret(canary),
            options=original.options,
        )
        project.connect("read_only")
        assert project.liquibase.rows("select current_user::text") == [(role,)]
        proc = Path(f"/proc/{project.liquibase.pid}")
        seen = (proc / "cmdline").read_bytes() + (proc / "environ").read_bytes() + project.worker.log.read_bytes()
        assert canary.encode() not in seen
        project.liquibase.disconnect()
    finally:
        project.login = original
        project.run(f"drop role {role}")


def test_what_a_changelog_prints_does_not_disturb_the_protocol(project: Project) -> None:
    changelog = project.sql(
        "splitStatements:false\ndo $$begin raise warning '{\"id\": 1}'; end$$",
        "splitStatements:false\ndo $$begin raise notice '{\"ok\": {}}'; end$$",
    )
    assert len(project.apply(changelog).changesets) == 2


def test_environment_of_the_worker_holds_no_more_than_it_needs(project: Project) -> None:
    project.connect("read_only")
    environment = Path(f"/proc/{project.liquibase.pid}/environ").read_bytes().split(b"\0")
    names = {entry.split(b"=")[0].decode() for entry in environment if entry}
    names = {name for name in names if not name.startswith("MIGRATOR")}  # the parent's process id
    assert names <= {*startup.worker_env(Path("/x")), "LC_CTYPE"}


@pytest.mark.parametrize("version", VERSIONS)
def test_six_operations_take_little_time_once_the_cache_is_trained(project: Project, version: str) -> None:
    jars, home = install.jars_for(version, None), install.java_home(None)
    assert startup.train(jars, home)
    changelog = project.sql("\ncreate table t(id int primary key);", "\ninsert into t values (1);")
    options = LiquibaseOptions(version=version, root=project.root)
    began = time.monotonic()
    liquibase = Liquibase.start(jars, home, log=project.root / "log")
    try:
        for mode in ("read_only", "held"):
            liquibase.connect(project.login, application_name="mig:t:l", options=options, mode=mode, lock_timeout_s=5)
            if mode == "read_only":
                liquibase.changesets(changelog)
        liquibase.begin()
        liquibase.update(changelog, on_event=lambda _: None, timeout_s=30)
        liquibase.rows("select count(*) from t")
        liquibase.commit()
        took_s = time.monotonic() - began
    finally:
        liquibase.close()
    print(f"\nseven operations: {took_s:.2f} s")
    assert took_s < 6  # about 1 s on an idle machine; a busy one must not fail the suite
