"""A small shop to migrate: one template a server, a clone of it a test, and a folder with a migrator.toml beside it.

What a test says about a run is checked against witnesses of its own: pg_dump's text, the catalogue, the application's
own login. Every run that ended is also asked for what it must never leave behind.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import psycopg
from psycopg import sql

from migrator import reports
from migrator.config.configuration import Config
from migrator.config.load import load
from migrator.config.login import Login
from migrator.plans.plan import Plan
from migrator.postgres import client_tools, fence, properties
from migrator.runs import engine, looking, opening
from migrator.runs.facts import Undo
from migrator.runs.record import Direction, Outcome, RunRecord
from migrator.runs.reporter import Reporter, SilentReporter
from migrator.runs.run import Options, Run
from tests.conftest import Server
from tests.matrix import seen

SAMPLE = Path(__file__).parents[1]
ENVIRONMENT = "staging"
_FEWER_ROWS = {
    "generate_series(1, 20000)": "generate_series(1, 200)",
    "% 20000": "% 200",
    "generate_series(1, 1000)": "generate_series(1, 100)",
    "l) % 1000": "l) % 100",
    "generate_series(1, 50000)": "generate_series(1, 500)",
    "generate_series(1, 40000)": "generate_series(1, 400)",
    "n * interval '6 minutes'": "n * interval '10 hours'",
}
_HEARTBEAT = """
--changeset shop:heartbeat
--comment Where the application writes all the time: every row knows the moment at which it was written.
create table heartbeat (at timestamptz not null default clock_timestamp());
grant insert, select on heartbeat to app;
"""


def small_base() -> str:
    """The sample's first release with a hundredth of its rows, and a table that the tests' application writes."""
    text = (SAMPLE / "changelogs/2026.01-base/changelog.sql").read_text(encoding="utf-8")
    for many, few in _FEWER_ROWS.items():
        assert many in text, f"the sample says no longer {many!r}"
        text = text.replace(many, few)
    return text + _HEARTBEAT


@dataclass(kw_only=True)
class Shop:
    """One database on one server, the folder of the person who migrates it, and the configuration that it has."""

    server: Server
    login: Login
    folder: Path
    settings: dict[str, object] = field(default_factory=dict)  # dotted keys, as --set takes them
    toml: str = ""  # more of [environments.staging]

    def write(self, name: str, text: str) -> str:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return name

    def sql(self, *changesets: str, name: str = "release.sql") -> str:
        """A formatted SQL changelog; a changeset is its attributes, a newline, its SQL, and maybe its rollback."""
        parts = [f"--changeset ann:{number} {text}" for number, text in enumerate(changesets, 1)]
        return self.write(name, "--liquibase formatted sql\n" + "\n".join(parts) + "\n")

    def sample(self, name: str) -> str:
        """A changelog of the sample lies in the folder, under its own path."""
        return self.write(f"changelogs/{name}", (SAMPLE / "changelogs" / name).read_text(encoding="utf-8"))

    def write_config(self) -> Path:
        """migrator.toml is there; the password comes from the variable SHOP_PASSWORD."""
        user, host, name = quote(self.login.user, safe=""), self.login.host, quote(self.login.database, safe="")
        query = "&".join(f"{key}={quote(value, safe='/')}" for key, value in self.login.options.items())
        url = f"postgresql://{user}@{host}:{self.login.port}/{name}" + (f"?{query}" if query else "")
        text = f"[environments.{ENVIRONMENT}]\nurl = {json.dumps(url)}\n"
        if self.login.password is not None:
            text += 'password = "${env:SHOP_PASSWORD}"\n'
        return self.folder / self.write("migrator.toml", text + self.toml)

    def environ(self) -> dict[str, str]:
        return {"SHOP_PASSWORD": self.login.password.reveal()} if self.login.password is not None else {}

    def config(self, settings: Mapping[str, object] | None = None) -> Config:
        return load(self.write_config(), self.environ(), {**self.settings, **(settings or {})})

    def open(
        self,
        changelog: str,
        settings: Mapping[str, object] | None = None,
        *,
        parameters: Mapping[str, str] | None = None,
        accept_no_way_back: bool = False,
        confirm: Callable[[str], bool] = lambda _question: True,
        reporter: Reporter | None = None,
        undo: Undo | None = None,
        plan: Plan | None = None,
    ) -> Run:
        config = self.config(settings)
        options = Options(changelog=changelog, accept_no_way_back=accept_no_way_back, confirm=confirm, plan=plan)
        run = opening.new(
            config,
            config.environment(ENVIRONMENT),
            options,
            reporter=reporter or SilentReporter(),
            parameters=parameters,
            undo=undo,
        )
        run.write_reports = lambda record: _write_reports(record, run.folder)
        return run

    def run(
        self,
        changelog: str,
        settings: Mapping[str, object] | None = None,
        *,
        parameters: Mapping[str, str] | None = None,
        accept_no_way_back: bool = False,
        confirm: Callable[[str], bool] = lambda _question: True,
        reporter: Reporter | None = None,
        plan: Plan | None = None,
    ) -> RunRecord:
        """The run has ended, and left nothing behind that its outcome does not allow."""
        return self._carried_out(
            self.open(
                changelog,
                settings,
                parameters=parameters,
                accept_no_way_back=accept_no_way_back,
                confirm=confirm,
                reporter=reporter,
                plan=plan,
            )
        )

    def plan(
        self,
        changelog: str,
        settings: Mapping[str, object] | None = None,
        *,
        parameters: Mapping[str, str] | None = None,
    ) -> Plan:
        """What a run would do, as `migrator plan` finds it out."""
        config = self.config(settings)
        with looking.opened(
            config,
            config.environment(ENVIRONMENT),
            Options(changelog=changelog),
            reporter=SilentReporter(),
            parameters=parameters,
        ) as run:
            return looking.look(run)

    def rollback(
        self,
        settings: Mapping[str, object] | None = None,
        *,
        run_id: str | None = None,
        tag: str | None = None,
        count: int | None = None,
        changelogs: tuple[str, ...] = (),
        accept_no_way_back: bool = False,
        confirm: Callable[[str], bool] = lambda _question: True,
    ) -> RunRecord:
        """The rollback of a run, to a tag or of the last changesets has ended, as `run` has."""
        undo = Undo(run_id=run_id, tag=tag, count=count, changelogs=changelogs)
        return self._carried_out(
            self.open("", settings, accept_no_way_back=accept_no_way_back, confirm=confirm, undo=undo)
        )

    def _carried_out(self, run: Run) -> RunRecord:
        children, before = _children(), self._properties()
        engine.execute(run)
        if run.record.exit_code is not None:
            seen.ended(
                [{Direction.UPDATE: "run", Direction.ROLLBACK: "rollback"}[run.record.direction]], run.record.exit_code
            )
        _until(lambda: not _children() - children, "a child process of the run lives on")
        self._ended(run.record, before)
        return run.record

    def _ended(self, record: RunRecord, before: properties.DatabaseProperties) -> None:
        assert record.outcome is not None
        assert record.exit_code == record.outcome.exit_code
        assert all(step.status != "running" for step in record.steps), record.steps
        with self.server.session() as admin:
            own = f"select application_name from pg_stat_activity where application_name like 'mig:{record.run_id}:%'"
            _until(lambda: not admin.rows(own), "a session of the run lives on")
            of_run = f"select datname from pg_database where datname like 'mig_{record.run_id}%'"
            left = [str(name) for (name,) in admin.rows(of_run)]
            assert all(any(name in kept for kept in record.kept) for name in left), (left, record.kept)
            standing = fence.read(admin, self.login.database)
            if record.outcome is Outcome.HALTED:
                return
            assert standing is None, standing
            if record.outcome is not Outcome.UNFINISHED:
                assert properties.differences(properties.read(admin, self.login.database), before) == []
        self.app_writes()

    def _properties(self) -> properties.DatabaseProperties:
        with self.server.session() as admin:
            return properties.read(admin, self.login.database)

    @property
    def app(self) -> Login:
        return self.server.app.to(self.login.database)

    @property
    def superuser(self) -> Login:
        return self.server.admin.to(self.login.database)

    def app_writes(self) -> None:
        """The application gets in and writes, where the shop has its table; nothing of it stays."""
        with psycopg.connect(conninfo(self.app)) as connection:
            [(there,)] = connection.execute("select to_regclass('heartbeat') is not null").fetchall()
            if there:
                connection.execute("insert into heartbeat default values")
            connection.rollback()

    def query(self, text: str) -> list[tuple[object, ...]]:
        with psycopg.connect(conninfo(self.superuser), autocommit=True) as connection:
            return connection.execute(text.encode()).fetchall()

    def value(self, text: str) -> object:
        [(value,)] = self.query(text)
        return value

    def execute(self, text: str, login: Login | None = None) -> None:
        with psycopg.connect(conninfo(login or self.login), autocommit=True) as connection:
            connection.execute(text.encode())

    def oid(self) -> object:
        return self.value("select oid from pg_database where datname = current_database()")

    def tables(self) -> set[object]:
        return {name for (name,) in self.query("select relname from pg_class where relkind in ('r', 'p', 'm', 'v')")}

    def ledger(self) -> list[tuple[object, ...]]:
        return self.query("select id, filename, exectype from databasechangelog order by orderexecuted")

    def dump(self) -> list[str]:
        """Every line of pg_dump's text, sorted: the schema, the rights, every row, sequence and large object."""
        tools = client_tools.find(self.server.major)
        with (
            tempfile.TemporaryDirectory() as folder,
            client_tools.passfile(self.superuser, Path(folder)) as passfile,
        ):
            env = client_tools.environment(self.superuser, passfile=passfile, application_name="witness", tools=tools)
            done = subprocess.run(
                [tools.pg_dump, "--no-sync"], capture_output=True, text=True, timeout=60, env=env, check=True
            )
        return sorted(line for line in done.stdout.splitlines() if not re.match(r"\\(un)?restrict ", line))


def conninfo(login: Login) -> str:
    return psycopg.conninfo.make_conninfo(
        host=login.host,
        port=login.port,
        dbname=login.database,
        user=login.user,
        password=login.password.reveal() if login.password else None,
        connect_timeout=5,
        **login.options,
    )


@contextmanager
def database(server: Server, *, template: str | None = None, name: str | None = None) -> Iterator[Login]:
    """A database that migrator owns, empty or a clone; it and whatever a run kept of it are dropped afterwards."""
    name = name or f"test_{secrets.token_hex(4)}"
    with server.session() as admin:
        before = _databases(server)
        create = sql.SQL("create database {} owner {}").format(
            sql.Identifier(name), sql.Identifier(server.migrator.user)
        )
        if template is not None:
            create += sql.SQL(" template {}").format(sql.Identifier(template))
        admin.execute(create.as_string(None))
    try:
        yield server.migrator.to(name)
    finally:
        with server.session() as admin:
            for other in sorted(_databases(server) - before):
                if other == name or other.startswith("mig_"):
                    drop = sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(other))
                    admin.execute(drop.as_string(None))


def _databases(server: Server) -> set[str]:
    with server.session() as admin:
        return {str(name) for (name,) in admin.rows("select datname from pg_database where not datistemplate")}


def _write_reports(record: RunRecord, folder: Path) -> None:
    reports.write(record, folder)


def _children() -> set[int]:
    found: set[int] = set()
    for task in Path("/proc/self/task").iterdir():
        with suppress(OSError):  # the thread has ended meanwhile
            found |= {int(pid) for pid in (task / "children").read_text().split()}
    return {pid for pid in found if not _is_zombie(pid) and not is_training(pid)}


def is_training(pid: int) -> bool:
    """Whether it fills the JVM's start-up cache: once a machine, beside whatever runs, until this process ends."""
    try:
        return b'"train": true' in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


def _until(holds: Callable[[], bool], otherwise: str, *, timeout_s: float = 10.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.02)


def descendants(pid: int | None = None) -> Iterator[int]:
    """The processes below this one, whoever started them."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            parents.setdefault(parent, []).append(int(entry.name))
    todo = [pid or os.getpid()]
    while todo:
        for child in parents.get(todo.pop(), []):
            yield child
            todo.append(child)
