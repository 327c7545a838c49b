"""No effect is without a fail point, and no fail point does anything unless it is told to, twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from migrator import failpoints
from migrator.cli import boundary
from migrator.cli.app import app
from migrator.errors import StepFailed, UsageError
from migrator.failpoints import Effect, doing, effect
from tests.effects import effects_used, seen_in, undeclared

_FAIL_POINTS = "the fail points themselves"
_ASKED = "a file that a person asked for by name: no run is under way"
_JARS = "a cache that is checked by SHA-256 before use"
_JVM = "a cache of the JVM: damaged, it is made anew"
_WORKER = "in the worker's process: behind the effects of migrator.liquibase.session"
_SQUAWK = "files for squawk to read, which whoever ends a killed run takes away"
_OWN_SERVER = "the server of demo, tests and scratch copies: made anew, never a target's"
_CARRIES_OUT = "carries out what it is given: the caller has the effect"
_CHILD = "ends a child, which a kill of the program ends too; nothing is written down that says that it has ended"
_LOOKS = "a temporary folder of a command that only looks: a kill leaves it to the system's own clearing"
_JOURNAL = "inside a transaction of migrator.runs.journal, which has the effect"

# Who may change something without a fail point, one by one, and why a kill there could not matter.
EXEMPT = {
    "migrator.failpoints:_crash": _FAIL_POINTS,
    "migrator.failpoints:_stall": _FAIL_POINTS,
    "migrator.failpoints:_trace": _FAIL_POINTS,
    "migrator.cli.boundary:_log": "the log of a bug, which nothing is decided by",
    "migrator.cli.demo:_copy_sample": _ASKED,
    "migrator.cli.github_commands:_write": _ASKED,
    "migrator.cli.init:_write": _ASKED,
    "migrator.cli.output:result": "what it opens to write is os.devnull",
    "migrator.liquibase.jars:fetch": _JARS,
    "migrator.liquibase.jars:_move_into_place": _JARS,
    "migrator.liquibase.startup:train": _JVM,
    "migrator.liquibase.startup:_forget_old": _JVM,
    "migrator.liquibase.worker.connection:execute": _WORKER,
    "migrator.liquibase.worker.connection:rows": _WORKER,
    "migrator.liquibase.worker.training:train": _JVM,
    "migrator.liquibase.worker.training:_write_changelogs": _JVM,
    "migrator.plans.findings.database:Database._briefly": "in a transaction that is read-only",
    "migrator.plans.findings.squawk:of": _SQUAWK,
    "migrator.plans.findings.squawk:_asked": _SQUAWK,
    "migrator.postgres.cluster:initialised": _OWN_SERVER,
    "migrator.postgres.cluster:_initdb": _OWN_SERVER,
    "migrator.postgres.cluster:launched": _OWN_SERVER,
    "migrator.postgres.cluster:save": _OWN_SERVER,
    "migrator.postgres.cluster:_write": _OWN_SERVER,
    "migrator.postgres.cluster:locked": _OWN_SERVER,
    "migrator.postgres.connect:PgSession.rows": _CARRIES_OUT,
    "migrator.postgres.connect:PgSession.execute": _CARRIES_OUT,
    "migrator.postgres.embedded:EmbeddedServer.start": _OWN_SERVER,
    "migrator.postgres.embedded:EmbeddedServer.create_database": _OWN_SERVER,
    "migrator.postgres.embedded:EmbeddedServer._ensure_roles": _OWN_SERVER,
    "migrator.postgres.embedded:_ended": _OWN_SERVER,
    "migrator.postgres.embedded_programs:Place.give": _OWN_SERVER,
    "migrator.postgres.embedded_programs:_copy": _OWN_SERVER,
    "migrator.postgres.embedded_programs:_open_to_all": _OWN_SERVER,
    "migrator.postgres.keeper:main": _OWN_SERVER,
    "migrator.postgres.keeper:_ended": _OWN_SERVER,
    "migrator.postgres.sessions:_names": "reads: each of the three that give it a statement give one that selects",
    "migrator.processes.child:Child.close": _CHILD,
    "migrator.processes.launch:is_running": "signal 0 only asks",
    "migrator.processes.launch:signal_group": _CHILD,
    "migrator.reports.log:Logged._write": "a log that nothing is decided by",
    "migrator.reports.notifications:by_apprise": "tells people, in a thread of its own, what nothing is decided by",
    "migrator.runs.byhand.beside:swap": "renames instances of AWS, whose calls have the effect",
    "migrator.runs.byhand.committed:tree": _LOOKS,
    "migrator.runs.byhand.linting:_worker": _LOOKS,
    "migrator.runs.looking:opened": _LOOKS,
    "migrator.runs.journal_sqlite:open_file": "opened so that it never creates the file; whoever writes has the effect",
    "migrator.runs.journal_tables:Transaction.now": _JOURNAL,
    "migrator.runs.journal_tables:Transaction.update_run": _JOURNAL,
    "migrator.runs.journal_tables:Transaction.renew": _JOURNAL,
    "migrator.runs.journal_tables:Transaction._runs": _JOURNAL,
    "migrator.runs.journal_tables:Transaction.steps": _JOURNAL,
    "migrator.runs.samples:append": "measurements that nothing is decided by",
}

# Each changes the world, in a function of a run, and must be seen.
SEEN = """
from os import replace; replace(a, b)
from os import replace as put; put(a, b)
from shutil import rmtree; rmtree(folder)
import shutil as files; files.rmtree(folder)
import shutil; stack.callback(shutil.rmtree, folder)
import shutil; remove = shutil.rmtree
import os; os.kill(pid, 9)
import os; os.killpg(pid, 9)
import os; os.chmod(path, 0o600)
import os; os.truncate(path, 0)
import os; os.link(a, b)
import os; os.rename(a, b)
import os; os.write(1, b"x")
import os; os.system("true")
import os; os.posix_spawn("/bin/true", [], {})
import os; os.execv("/bin/true", [])
import os; os.open(path, os.O_WRONLY | os.O_CREAT)
import os; os.open(path, flags)
import os; getattr(os, "replace")(a, b)
from subprocess import Popen; Popen(["true"])
from subprocess import run as start; start(["true"])
import subprocess; subprocess.call(["true"])
import subprocess; subprocess.getoutput("true")
import subprocess; child.terminate()
import multiprocessing; multiprocessing.Process(target=f).start()
import asyncio; asyncio.create_subprocess_exec("true")
import tempfile; tempfile.mkdtemp()
from tempfile import TemporaryDirectory; TemporaryDirectory()
from concurrent.futures import ProcessPoolExecutor; ProcessPoolExecutor()
open(path, "w")
open(path, mode="ab")
open(path, mode)
open(path, "r+")
import io; io.open(path, "x")
import gzip; gzip.open(path, "wt")
import zipfile; zipfile.ZipFile(path, "w")
path.open("w")
path.open(mode)
path.write_text("x")
path.write_bytes(b"x")
path.unlink()
path.mkdir()
path.rename(other)
path.replace(other)
path.chmod(0o600)
path.hardlink_to(other)
for_each(path.unlink)
from pathlib import Path; Path.unlink(path)
from pathlib import Path; Path("x").touch()
session.execute("delete from t")
session.rows("delete from t returning 1")
session.rows(text)
session.execute(text)
session.rows("with gone as (delete from t returning 1) select count(*) from gone")
session.rows("with a as (select 1) insert into t select * from a")
session.rows("select f()")
session.rows("select shop.tidy(1)")
session.rows("explain analyze delete from t")
session.rows("explain (analyze, buffers) update t set a = 1")
session.rows("select nextval('s')")
session.rows("select setval('s', 1)")
session.rows("select * from pg_create_physical_replication_slot('a')")
session.rows("select pg_drop_replication_slot('a')")
session.rows("select pg_replication_slot_advance('a', '0/0')")
session.rows("select pg_terminate_backend(1)")
session.rows("select pg_cancel_backend(1)")
session.rows("select pg_advisory_lock(1)")
session.rows("select lo_unlink(1)")
session.rows("select * into other from t")
session.execute("begin; delete from t; commit")
session.execute("/* it reads */ delete from t")
session.execute("-- it reads\\ndelete from t")
session.execute("select '--'; delete from t")
session.execute("set local role r; drop table t")
session.execute("prepare transaction 'x'")
session.execute(f"delete from {t}")
text = "drop table t"; session.execute(text)
cursor.executemany("insert into t values (%s)", rows)
cursor.executescript("drop table t")
each(session.execute, texts)
from psycopg import sql; session.rows(sql.SQL("truncate {}").format(sql.Identifier(t)))
engine.execute("drop table t")
import sqlalchemy as sa; connection.execute(sa.text("drop table t"))
import sqlalchemy as sa; connection.execute(sa.delete(t))
from sqlalchemy import insert; connection.execute(insert(t))
import psycopg; connection.commit()
import sqlite3; sqlite3.connect(path)
import sqlite3; sqlite3.connect(path).execute("delete from t")
from urllib.request import urlopen; urlopen("https://localhost", data=b"x")
import urllib.request; urllib.request.urlopen("https://localhost")
import requests; requests.post("https://localhost")
import http.client; http.client.HTTPSConnection("localhost")
import smtplib; smtplib.SMTP("localhost")
import socket; socket.create_connection(("localhost", 1))
import boto3; boto3.client("s3").put_object(Bucket="b")
import boto3; client.delete_db_instance(DBInstanceIdentifier="d")
import apprise; apprise.Apprise().notify(title="t")
import logging; logging.FileHandler("x")
eval(text)
with doing(Effect.LOG): path.unlink()
""".strip().splitlines()

# Each only reads, or has its effect declared.
UNSEEN = """
import os; os.stat(path); os.path.join(a, b); os.environ.get("A"); os.O_CREAT
import os; os.open(path, os.O_RDONLY | os.O_CLOEXEC)
import shutil; shutil.which("git")
import subprocess; subprocess.PIPE
from subprocess import TimeoutExpired; raise TimeoutExpired("x", 1)
open(path); open(path, "rb"); path.open(); path.open("r"); path.read_text()
text.replace("a", "b"); replace(record, a=1)
session.rows("select count(*) from t where a in (1) and (b or c)")
session.rows("select x.a from unnest(array[1]) x(a)")
session.rows("with a(b) as (select 1) select b from a")
session.rows("select 'delete from t; drop table t'")
session.rows("explain delete from t")
session.rows("select '--' from t -- delete from t; x")
session.execute("begin; set local lock_timeout = 1")
""".strip().splitlines()

# Where a statement may stand.
STANDS = {
    "module": "{imports}\n{statement}",
    "function": "{imports}\ndef f(a, text):\n    {statement}",
    "inner import": "def f(a, text):\n    {imports}\n    {statement}",
    "lambda": "{imports}\nDEEDS = {{'f': lambda a, text: [{expression}]}}",
    "async": "{imports}\nasync def f(a, text):\n    {statement}",
    "method": "{imports}\nclass A:\n    def f(self, a, text):\n        {statement}",
    "nested class": "{imports}\nclass A:\n    class B:\n        async def f(self, a, text):\n            {statement}",
    "class body": "{imports}\nclass A:\n    {statement}",
    "default": "{imports}\ndef f(a=[{expression}]):\n    pass",
    "decorator": "{imports}\n@mark([{expression}])\ndef f():\n    pass",
    "under if": "{imports}\nif a:\n    def f():\n        {statement}",
    "with at the top": "{imports}\nwith suppress(OSError):\n    def f():\n        {statement}",
}


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    yield
    failpoints.disarm()


def test_every_effect_has_a_fail_point() -> None:
    found = undeclared(EXEMPT)
    assert not found, (
        "these change the world outside a fail point; mark them with @effect(Effect.X) or `with doing(Effect.X)`:\n"
        + "\n".join(f"  {key}: {'; '.join(what)}" for key, what in sorted(found.items()))
    )


def test_every_exemption_exempts_something() -> None:
    assert sorted(EXEMPT.keys() - undeclared({}).keys()) == []


@pytest.mark.parametrize("probe", SEEN)
def test_what_changes_the_world_is_seen_in_a_function(probe: str) -> None:
    assert seen_in(_stood("function", probe)) != []


@pytest.mark.parametrize("probe", UNSEEN)
def test_what_only_reads_needs_no_fail_point(probe: str) -> None:
    assert seen_in(_stood("function", probe)) == []


@pytest.mark.parametrize("where", STANDS)
@pytest.mark.parametrize("probe", ["import os; os.replace(a, b)", 'session.rows("delete from t")', "path.unlink()"])
def test_what_changes_the_world_is_seen_wherever_it_stands(where: str, probe: str) -> None:
    assert seen_in(_stood(where, probe)) != []


def test_only_the_real_marks_declare_an_effect() -> None:
    marked = "from {module} import Effect, doing\ndef f():\n    with doing(Effect.LOG):\n        path.unlink()"
    assert seen_in(marked.format(module="migrator.failpoints")) == []
    assert seen_in(marked.format(module="migrator.runs.other")) != []


def _stood(where: str, probe: str) -> str:
    """The probe's imports and its statements, where they are to stand."""
    parts = probe.split("; ") if probe.startswith(("import ", "from ")) else ["pass", probe]
    statement = "; ".join(parts[1:])
    return STANDS[where].format(imports=parts[0], statement=statement, expression=statement)


def test_every_member_of_the_enum_stands_somewhere() -> None:
    assert {member.name for member in Effect} == effects_used()


@effect(Effect.MANIFEST)
def write(done: list[str]) -> str:
    done.append("written")
    return "what it returns"


def test_nothing_happens_unless_armed() -> None:
    done: list[str] = []
    assert write(done) == "what it returns"
    with doing(Effect.LOG):
        done.append("logged")
    assert done == ["written", "logged"]


@pytest.mark.parametrize(("fate", "done"), [("raise@manifest.before", []), ("raise@manifest.after", ["written"])])
def test_effect_fails_before_or_after_it_took_place(fate: str, done: list[str]) -> None:
    failpoints.arm(fate)
    found: list[str] = []
    with pytest.raises(StepFailed, match="manifest"):
        write(found)
    assert found == done


def test_fate_waits_for_its_turn() -> None:
    failpoints.arm("bug@manifest.before#2; raise@any#5")
    done: list[str] = []
    write(done)  # any: 1 and 2
    with pytest.raises(RuntimeError):
        write(done)  # 3
    failpoints.arm("raise@any#3")
    write(done)
    with pytest.raises(StepFailed):
        write(done)


def test_trace_tells_what_was_reached(tmp_path: Path) -> None:
    failpoints.arm(f"trace={tmp_path / 'trace'}@any")
    write([])
    lines = [line.split() for line in (tmp_path / "trace").read_text().splitlines()]
    assert [place for _, place in lines] == ["manifest.before", "manifest.after"]
    assert float(lines[0][0]) <= float(lines[1][0])


def test_stall_lasts_until_it_is_let_go(tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.with_suffix(".go").touch()
    failpoints.arm(f"stall={place}@manifest.after")
    write([])
    assert place.with_suffix(".reached").exists()


@pytest.mark.parametrize("text", ["crash", "crash@nowhere.before", "explode@any", "crash@any#x", "@any"])
def test_what_is_no_fate_is_refused_with_those_that_are(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        failpoints.arm(text)
    assert "fence_up" in (caught.value.hint or "")


def test_crash_is_a_sigkill() -> None:
    code = (
        "from migrator import failpoints\nfailpoints.arm('crash@log.before')\n"
        "with failpoints.doing(failpoints.Effect.LOG): print('never')"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, timeout=60)
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, b"")


def test_one_variable_alone_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv(boundary.FAIL_AT, "crash@any")
    assert boundary.run(app, ["--version"]) == 2
    assert boundary.FAIL_POINTS in capsys.readouterr().err
    monkeypatch.setenv(boundary.FAIL_POINTS, "enabled")
    monkeypatch.setenv(boundary.FAIL_AT, "raise@manifest.before")
    assert boundary.run(app, ["--version"]) == 0
    assert "fail points are armed: raise@manifest.before" in capsys.readouterr().err
    monkeypatch.delenv(boundary.FAIL_AT)
    failpoints.disarm()
    assert os.environ[boundary.FAIL_POINTS] == "enabled"
    assert boundary.run(app, ["--version"]) == 0
    assert write([]) == "what it returns"
