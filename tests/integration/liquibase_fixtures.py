"""Both Liquibases, each in one worker for a test module, and a project folder whose changelogs a test writes."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest

from migrator.config.login import Login
from migrator.liquibase import install
from migrator.liquibase.models import Changeset, ChangesetEvent, Held, LiquibaseOptions, Measure, Mode, Updated
from migrator.liquibase.session import Liquibase

VERSIONS = ("5.0.4", "4.33.0")


@pytest.fixture(scope="module", params=VERSIONS)
def worker(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    """A running worker of one version."""
    jars = install.jars_for(request.param, None)
    log = tmp_path_factory.mktemp("worker") / "worker.log"
    liquibase = Liquibase.start(jars, install.java_home(None), log=log)
    yield Worker(version=request.param, liquibase=liquibase, log=log)
    liquibase.close()


@dataclass(kw_only=True)
class Worker:
    version: str
    liquibase: Liquibase
    log: Path


@dataclass(kw_only=True)
class Project:
    """Changelogs in a folder, one database, and one worker."""

    root: Path
    login: Login
    worker: Worker
    contexts: str = ""
    labels: str = ""
    parameters: dict[str, str] = field(default_factory=dict)
    default_schema: str | None = None
    liquibase_schema: str | None = None
    events: list[ChangesetEvent] = field(default_factory=list)
    application_name: str = field(default_factory=lambda: f"mig:test{secrets.token_hex(3)}:liquibase")

    @property
    def liquibase(self) -> Liquibase:
        return self.worker.liquibase

    def write(self, name: str, text: str) -> str:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return name

    def sql(self, *changesets: str, name: str = "main.sql") -> str:
        """A formatted SQL changelog; a changeset is its attributes, a newline, and its SQL."""
        parts = [f"--changeset ann:{number} {text}" for number, text in enumerate(changesets, 1)]
        return self.write(name, "--liquibase formatted sql\n" + "\n".join(parts) + "\n")

    def connect(self, mode: Mode, *, lock_timeout_s: float = 5.0, measure: Measure | None = None) -> Liquibase:
        self.liquibase.connect(
            self.login,
            application_name=self.application_name,
            options=LiquibaseOptions(
                version=self.worker.version,
                root=self.root,
                contexts=self.contexts,
                labels=self.labels,
                parameters=self.parameters,
                default_schema=self.default_schema,
                liquibase_schema=self.liquibase_schema,
            ),
            mode=mode,
            lock_timeout_s=lock_timeout_s,
            measure=measure,
        )
        return self.liquibase

    def changesets(self, changelog: str) -> list[Changeset]:
        return self.connect("read_only").changesets(changelog)

    def hold(self) -> Held:
        return self.connect("held").begin()

    def update(self, changelog: str, *, timeout_s: float = 60.0) -> Updated:
        return self.liquibase.update(changelog, on_event=self.events.append, timeout_s=timeout_s)

    def apply(self, changelog: str) -> Updated:
        """In one transaction, committed."""
        self.hold()
        updated = self.update(changelog)
        self.liquibase.commit()
        return updated

    def apply_stepwise(self, changelog: str) -> Updated:
        self.connect("stepwise")
        return self.update(changelog)

    def query(self, text: str) -> list[tuple[object, ...]]:
        """What another session sees."""
        with psycopg.connect(conninfo(self.login), autocommit=True) as connection:
            return connection.execute(text.encode()).fetchall()

    def run(self, text: str) -> None:
        with psycopg.connect(conninfo(self.login), autocommit=True) as connection:
            connection.execute(text.encode())

    def tables(self) -> set[str]:
        return {
            str(name)
            for (name,) in self.query("select tablename from pg_tables where schemaname !~ '^(pg_|information)'")
        }

    def ledger(self) -> list[tuple[object, ...]]:
        return self.query("select id, author, filename, exectype from databasechangelog order by orderexecuted")


def conninfo(login: Login) -> str:
    return psycopg.conninfo.make_conninfo(
        host=login.host,
        port=login.port,
        dbname=login.database,
        user=login.user,
        password=login.password.reveal() if login.password else None,
    )


@pytest.fixture
def project(worker: Worker, database: Login, tmp_path: Path) -> Iterator[Project]:
    yield Project(root=tmp_path, login=database, worker=worker)
    worker.liquibase.disconnect()
