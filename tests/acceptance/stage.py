"""A small database with a project around it, and everything that can be asked of both after a run has come to harm."""

from __future__ import annotations

import ctypes
import io
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from psycopg import sql

from migrator.cli import boundary
from migrator.cli.app import app
from migrator.config.login import Login
from migrator.postgres import catalog, databases, properties, row_fingerprint, schema_fingerprint, sequences
from migrator.postgres.connect import connect
from migrator.postgres.properties import DatabaseProperties
from tests.conftest import Server, fresh_database
from tests.matrix import seen
from tests.shop import is_training

PASSWORD = "CRASH_TEST_PASSWORD"
ENVIRONMENT = "crash"
FLAG = "maintenance.flag"
_SUBREAPER = 36  # prctl(2): orphans become children of this process, so that none is overlooked
_SETTLE_S = 15.0

CONFIGURATION = """
[environments.crash]
url = "postgresql://{user}@{host}:{port}/{database}"
password = "${{env:CRASH_TEST_PASSWORD}}"
{settings}
[environments.crash.maintenance]
database = "{maintenance}"
outside = [{{ type = "flag", path = "maintenance.flag" }}]
[environments.crash.backup]
jobs = 2
[environments.crash.checks]
invariants = ["checks/*.sql"]
[environments.crash.limits]
drain_s = 10
lease_s = 20
{limits}
"""

BASE = """--liquibase formatted sql
--changeset crash:base splitStatements:false
create type tier as enum ('bronze', 'gold');
create table customer (id bigint generated always as identity primary key, email text not null, tier tier not null);
create table orders (
  id serial primary key, customer_id bigint not null references customer, total numeric not null, warranty interval
);
create table event (id bigint, at date not null, payload jsonb) partition by range (at);
create table event_2025 partition of event for values from ('2025-01-01') to ('2026-01-01');
create view big_orders as select * from orders where total > 900;
create materialized view totals as select customer_id, sum(total) as total from orders group by 1;
insert into customer (email, tier) select 'c' || n || '@shop', 'bronze' from generate_series(1, 200) n;
insert into orders (customer_id, total, warranty)
  select 1 + n % 200, n, interval '1 day' from generate_series(1, 2000) n;
insert into event select n, date '2025-01-01' + n % 300, '{"a": 1}' from generate_series(1, 500) n;
select lo_from_bytea(0, 'a manual');
refresh materialized view totals;
grant select, insert on all tables in schema public to app;
grant usage on all sequences in schema public to app;
--rollback empty
"""

# A statement that takes as long as the role's setting says: none, unless a test wants to come to it in the middle.
_PAUSE = "select pg_sleep(coalesce(nullif(current_setting('crash.pause_s', true), ''), '0')::float8);"
_CHANGES = f"""--liquibase formatted sql
--changeset crash:note
alter table orders add column note text;
--rollback alter table orders drop column note;
--changeset crash:fill
update orders set note = 'even' where id % 2 = 0;
insert into customer (email, tier) values ('new@shop', 'gold');
--rollback delete from customer where email = 'new@shop';
--changeset crash:pause
{_PAUSE}
--rollback empty
"""
GOOD = f"""{_CHANGES}--changeset crash:review
create table review (id serial primary key, order_id integer references orders, stars integer);
--rollback drop table review;
"""
BAD = f"""{_CHANGES}--changeset crash:impossible
alter table orders add constraint impossible check (total < 0);
--rollback alter table orders drop constraint impossible;
"""
BAD_WITHOUT_ROLLBACK = BAD.replace("--rollback delete from customer where email = 'new@shop';\n", "")
PLANNED = ("note", "fill", "pause", "review")

CHECKS = {
    "orders.sql": "-- migrator: unchanged\nselect sum(total) from orders",
    "orphans.sql": "-- migrator: violations\nselect id from orders where customer_id not in (select id from customer)",
}


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a command said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        found = json.loads(self.out)
        assert isinstance(found, dict)
        return found


@dataclass(frozen=True, kw_only=True)
class Picture:
    """All of a database that a run may have touched."""

    schema: dict[str, str]
    rows: dict[str, tuple[int, str]]
    sequences: dict[str, tuple[int, bool]]
    large_objects: tuple[int, str]


@dataclass(kw_only=True)
class Stage:
    server: Server
    folder: Path
    login: Login
    pictured: Picture
    properties: DatabaseProperties
    children: set[int] = field(default_factory=set)

    @property
    def database(self) -> str:
        return self.login.database

    def migrator(self, *arguments: str) -> Answer:
        """The program's answer, in this process."""
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            code = boundary.run(app, [*arguments, *self._common(arguments)])
        seen.ended(arguments, code)
        return Answer(code=code, out=out.getvalue(), err=err.getvalue())

    def begin(self, moment: str, deed: str, *arguments: str) -> subprocess.Popen[str]:
        """The program is at work in a process of its own, with this fate; the caller waits for it."""
        argv = [sys.executable, "-m", "tests.acceptance.victim", moment, deed, *arguments, *self._common(arguments)]
        return subprocess.Popen(
            argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
        )

    def victim(self, moment: str, deed: str, *arguments: str) -> Answer:
        """The program ended as its fate had it; a code below 0 is a signal."""
        return ended(self.begin(moment, deed, *arguments))

    def killed(self, moment: str, *arguments: str, deed: str = "kill") -> str:
        """The program was killed at the moment; the run's id."""
        answer = self.victim(moment, deed, *arguments)
        assert answer.code == -signal.SIGKILL, f"it was not killed at {moment}:\n{answer.err}\n{answer.out}"
        return run_id(answer)

    def write(self, name: str, text: str) -> str:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return name

    def picture(self) -> Picture:
        return picture(self.login)

    def status(self) -> dict[str, Any]:
        return self.migrator("status", "--json").json

    def pause(self, seconds: float) -> None:
        """From now on the changeset `pause` takes that long, in sessions that begin from now on."""
        with self.server.session() as admin:
            role = sql.Identifier(self.login.user)
            admin.execute(sql.SQL("ALTER ROLE {} SET crash.pause_s = {}").format(role, seconds).as_string(None))

    def databases(self) -> list[str]:
        with self.server.session() as admin:
            return [name for name, _ in databases.run_databases(admin)]

    def is_fenced(self) -> bool:
        return self.now().comment != self.properties.comment

    def now(self) -> DatabaseProperties:
        with self.server.session() as admin:
            return properties.read(admin, self.database)

    def _common(self, arguments: tuple[str, ...]) -> list[str]:
        named = [] if arguments[0] in {"resume", "show"} else ["--env", ENVIRONMENT]
        return ["--config", str(self.folder / "migrator.toml"), *named]

    # What must hold in the end.

    def assert_as_it_was(self, *, restored: bool = False, drawn_from: bool = False) -> None:
        """`drawn_from`: sequences may stand elsewhere, since they do not roll back."""
        now = self.picture()
        assert now.schema == self.pictured.schema
        assert now.rows == self.pictured.rows
        assert drawn_from or now.sequences == self.pictured.sequences
        assert now.large_objects == self.pictured.large_objects
        self._assert_nothing_left(kept=["old"] if restored else [])
        seen.database("what it was")

    def assert_migrated(self, *, kept: tuple[str, ...] = ()) -> None:
        with closing(connect(self.login, role="look", run_id="test")) as session:
            ran = {name for (name,) in session.rows("select id from databasechangelog")}
            assert set(PLANNED) <= ran
            assert session.rows("select count(*) from orders where note = 'even'") == [("1000",)]
            assert session.rows("select count(*) from review") == [("0",)]
            assert session.rows("select count(*) from customer") == [("201",)]
        self._assert_nothing_left(kept=list(kept))
        seen.database("migrated")

    def assert_blocked(self, run: str) -> None:
        """Status names the run and the command that ends it, and nobody gets a second run in."""
        status = self.status()
        assert status["open_run"] == run
        assert not status["open_run_alive"]
        assert status["next_command"] == f"migrator resume {run}"
        refused = self.migrator("run", "good.sql")
        assert refused.code == 10, refused.err
        assert f"migrator resume {run}" in refused.err
        seen.database("halted, the next command named")

    def _assert_nothing_left(self, *, kept: list[str]) -> None:
        now, before = self.now(), self.properties
        assert replace(now, oid=0) == replace(before, oid=0)
        assert now.oid != before.oid if kept else now.oid == before.oid
        assert [name.rsplit("_", 1)[1] for name in self.databases()] == kept
        assert not (self.folder / FLAG).exists()
        status = self.status()
        assert (status["open_run"], status["maintenance"], status["next_command"]) == (None, None, None)
        settled(lambda: not self.sessions(), lambda: f"sessions of the run are left: {self.sessions()}")
        settled(lambda: not self.new_children(), lambda: f"processes are left: {self.new_children()}")
        with closing(connect(self.server.app.to(self.database), role="x", run_id="application")) as application:
            application.execute("insert into customer (email, tier) values ('later@shop', 'gold')")

    def sessions(self) -> list[str]:
        """Sessions of any run, of this migrator's role, on the server."""
        with self.server.session() as admin:
            return [
                f"{name} in {where}: {query}"
                for name, where, query in admin.rows(
                    "select application_name, datname, query from pg_stat_activity"
                    " where application_name ~ '^mig:[0-9]' or application_name ~ '^pg_(dump|restore)'"
                )
            ]

    def new_children(self) -> list[str]:
        return [_described(pid) for pid in living_children() - self.children if not is_training(pid)]


def picture(login: Login) -> Picture:
    with closing(connect(login, role="look", run_id="test")) as session:
        session.execute("begin isolation level repeatable read read only")
        schema = schema_fingerprint.of_schema(session).objects
        tables = [r for r in catalog.tables(session) if "changeloglock" not in r.name]
        rows = {relation.qualified: row_fingerprint.of_table(session, relation) for relation in tables}
        large = row_fingerprint.of_large_objects(session)
        return Picture(
            schema={name: line for name, line in schema.items() if "changeloglock" not in name},
            rows={name: (found.rows, found.digest) for name, found in rows.items()},
            sequences={name: (s.last_value, s.is_called) for name, s in sequences.read(session).items()},
            large_objects=(large.rows, large.digest),
        )


def ended(process: subprocess.Popen[str], *, within_s: float = 90.0) -> Answer:
    out, err = process.communicate(timeout=within_s)
    seen.ended([str(word) for word in process.args] if isinstance(process.args, list) else [], process.returncode)
    return Answer(code=process.returncode, out=out, err=err)


def run_id(answer: Answer) -> str:
    return next(line.removeprefix("run ") for line in answer.err.splitlines() if line.startswith("run "))


def settled(what: Callable[[], bool], otherwise: Callable[[], str], *, within_s: float = _SETTLE_S) -> None:
    deadline = time.monotonic() + within_s
    while not what():
        assert time.monotonic() < deadline, otherwise()
        time.sleep(0.05)


def living_children() -> set[int]:
    """Children of this process, adopted orphans among them; those that have ended are reaped."""
    found = set()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with suppress(OSError, IndexError):
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            if int(fields[1]) == os.getpid():
                found.add(int(entry.name))
    for pid in list(found):
        with suppress(ChildProcessError):
            if pid not in _KNOWN and os.waitpid(pid, os.WNOHANG)[0] == pid:
                found.discard(pid)
    return found


_KNOWN: set[int] = set()  # children that somebody else waits for, such as the server


def _described(pid: int) -> str:
    with suppress(OSError):
        return f"{pid}: " + Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    return f"{pid}: gone"


@pytest.fixture(scope="session")
def crash_template(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Login]:
    """A database to copy, into which the base release was migrated."""
    with template(server, tmp_path_factory.mktemp("template")) as made:
        yield made


@contextmanager
def template(server: Server, folder: Path) -> Iterator[Login]:
    """A database to copy, into which the base release was migrated."""
    ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)
    _KNOWN.update(living_children())
    with fresh_database(server) as login, patched(login):
        configure(folder, login)
        (folder / "checks").mkdir()
        (folder / "checks" / "any.sql").write_text("-- migrator: violations\nselect 1 where false", encoding="utf-8")
        (folder / "base.sql").write_text(BASE, encoding="utf-8")
        told = io.StringIO()
        with redirect_stderr(told), redirect_stdout(told):
            common = ["--config", str(folder / "migrator.toml"), "--env", ENVIRONMENT]
            code = boundary.run(app, ["run", "base.sql", *common])
        assert code == 0, told.getvalue()
        yield login


@contextmanager
def staged(
    server: Server,
    template: Login,
    folder: Path,
    *,
    settings: str = "",
    limits: str = "",
    maintenance: str = "offline",
    prelude: str = "",
) -> Iterator[Stage]:
    """A fresh copy of the template and a project folder; everything that was made meanwhile is dropped in the end.

    `prelude` is SQL that belongs to what the database was.
    """
    login = server.migrator.to(f"stage_{secrets.token_hex(4)}")
    with server.session() as admin:
        before = {name for name, _ in databases.run_databases(admin)}
        # Copied by WAL, a sequence goes back in a crash: its page counts values as logged that the template logged.
        by_file = " STRATEGY file_copy" if server.major >= 15 else ""
        create = f"CREATE DATABASE {{}} TEMPLATE {{}} OWNER {{}}{by_file}"
        _execute(admin, create, login.database, template.database, login.user)
        for text in (
            "REVOKE CONNECT ON DATABASE {} FROM PUBLIC",
            "GRANT CONNECT ON DATABASE {} TO app",
            "COMMENT ON DATABASE {} IS 'the shop''s books'",
            "ALTER DATABASE {} SET work_mem = '5MB'",
            "ALTER DATABASE {} CONNECTION LIMIT 50",
        ):
            _execute(admin, text, login.database)
        found = properties.read(admin, login.database)
    configure(folder, login, settings=settings, limits=limits, maintenance=maintenance)
    if prelude:
        with closing(connect(login, role="prelude", run_id="test")) as session:
            session.execute(prelude)
    stage = Stage(server=server, folder=folder, login=login, pictured=picture(login), properties=found)
    for name, text in CHECKS.items():
        stage.write(f"checks/{name}", text)
    for name, text in {
        "base.sql": BASE,
        "good.sql": GOOD,
        "bad.sql": BAD,
        "bad-without-rollback.sql": BAD_WITHOUT_ROLLBACK,
    }.items():
        stage.write(name, text)
    stage.children = living_children()
    try:
        with patched(login):
            yield stage
    finally:
        with server.session() as admin:
            _execute(admin, "ALTER ROLE {} RESET ALL", login.user)
            made = {name for name, _ in databases.run_databases(admin)} - before
            for name in (login.database, *made):
                _execute(admin, "DROP DATABASE IF EXISTS {} WITH (FORCE)", name)


def configure(
    folder: Path, login: Login, *, settings: str = "", limits: str = "", maintenance: str = "offline"
) -> None:
    text = CONFIGURATION.format(
        user=login.user,
        host=login.host,
        port=login.port,
        database=login.database,
        settings=settings,
        limits=limits,
        maintenance=maintenance,
    )
    (folder / "migrator.toml").write_text(text, encoding="utf-8")


@contextmanager
def patched(login: Login) -> Iterator[None]:
    """The configuration finds the password where it says."""
    before = os.environ.get(PASSWORD)
    os.environ[PASSWORD] = login.password.reveal() if login.password is not None else "none"
    try:
        yield
    finally:
        if before is None:
            del os.environ[PASSWORD]
        else:
            os.environ[PASSWORD] = before


def _execute(admin: Any, text: str, *names: str) -> None:
    admin.execute(sql.SQL(text).format(*map(sql.Identifier, names)).as_string(None))
