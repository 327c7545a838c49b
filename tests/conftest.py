"""Real servers for the tests: one of each kind for the whole session, started when it is first asked for.

MIGRATOR_TEST_SERVER_URL (a superuser's URL) names a server to use instead of the embedded one.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import pytest
from psycopg import sql

from migrator.config.login import Login, Secret
from migrator.postgres.connect import PgSession, connect
from migrator.postgres.embedded import APP, MIGRATOR, EmbeddedServer, Options

SUMMARY = "told in the summary"  # the name of a property whose value the summary of the tests shows
SETTINGS = {"max_prepared_transactions": "5", "wal_level": "logical", "shared_buffers": "64MB"}


@dataclass(frozen=True, kw_only=True)
class Server:
    """A server and its three logins, all to the database postgres."""

    admin: Login  # superuser
    migrator: Login  # no superuser: CREATEDB, CREATEROLE, pg_signal_backend, pg_monitor
    app: Login  # LOGIN and nothing else
    major: int
    embedded: EmbeddedServer | None  # None: it was named by a URL and is not ours to stop

    def session(self, login: Login | None = None, *, role: str = "test") -> PgSession:
        """A session that the test closes; the superuser's in the database postgres, unless a login is given."""
        return connect(login or self.admin, role=role, run_id="test")


@contextmanager
def started(options: Options) -> Iterator[Server]:
    """An embedded server in a folder of its own; both are gone afterwards, however the tests end."""
    folder = Path(tempfile.mkdtemp(prefix="migrator-test-"))
    folder.chmod(0o711)
    try:
        embedded = EmbeddedServer.start(folder / "pg", options.that_ends_with_us(remove=folder))
        try:
            yield Server(
                admin=embedded.admin,
                migrator=embedded.migrator,
                app=embedded.app,
                major=embedded.major,
                embedded=embedded,
            )
        finally:
            embedded.immediate_stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """The server of the test run: PostgreSQL 18, or what MIGRATOR_TEST_SERVER_URL names."""
    url = os.environ.get("MIGRATOR_TEST_SERVER_URL")
    if url:
        yield named(url)
        return
    with started(Options(major=18, durable=False, settings=SETTINGS)) as embedded:
        yield embedded


@pytest.fixture(scope="session")
def server16() -> Iterator[Server]:
    """PostgreSQL 16, for what differs between majors."""
    with started(Options(major=16, durable=False, settings=SETTINGS)) as embedded:
        yield embedded


@pytest.fixture(scope="session")
def tls_server() -> Iterator[Server]:
    """A server that lets nobody in without TLS, of the newest major on this machine that can do it."""
    with started(Options(tls=True, durable=False)) as embedded:
        yield embedded


@pytest.fixture
def database(server: Server) -> Iterator[Login]:
    """A fresh, empty database that migrator owns, by migrator's login; it and its copies are dropped afterwards."""
    with fresh_database(server) as login:
        yield login


@pytest.fixture
def database16(server16: Server) -> Iterator[Login]:
    """As `database`, on PostgreSQL 16."""
    with fresh_database(server16) as login:
        yield login


@pytest.fixture
def superuser_database(server: Server, database: Login) -> Login:
    """The same database as `database`, by the superuser's login."""
    return server.admin.to(database.database)


@contextmanager
def fresh_database(server: Server) -> Iterator[Login]:
    """A database with an unused name; whatever databases appeared meanwhile and are ours go with it."""
    name = f"test_{secrets.token_hex(4)}"
    with server.session() as admin:
        before = _databases(admin)
        _execute(admin, sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(name), sql.Identifier(MIGRATOR)))
        try:
            yield server.migrator.to(name)
        finally:
            _drop_new_databases(server, before, name)


def _drop_new_databases(server: Server, before: set[str], name: str) -> None:
    with server.session() as admin:  # the test may have ended the other session
        for other in sorted(_databases(admin) - before):
            # On a server that others use as well only what bears the test's name is ours.
            if server.embedded is None and name not in other:
                continue
            drop = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(other))
            _execute(admin, drop)


def _databases(admin: PgSession) -> set[str]:
    return {name or "" for (name,) in admin.rows("SELECT datname FROM pg_database WHERE NOT datistemplate")}


def _execute(session: PgSession, statement: sql.Composable) -> None:
    session.execute(statement.as_string(None))


def named(url: str) -> Server:
    """The server of a superuser's URL, with the roles that the tests need."""
    parts = urlsplit(url)
    admin = Login(
        host=parts.hostname or "127.0.0.1",
        port=parts.port or 5432,
        database=parts.path.lstrip("/") or "postgres",
        user=unquote(parts.username or "postgres"),
        password=Secret(unquote(parts.password)) if parts.password else None,
        options=dict(parse_qsl(parts.query)),
    )
    # The same for every test run against this server, so that two at once do not change it under each other.
    password = hashlib.sha256(f"migrator tests at {admin}".encode()).hexdigest()
    with connect(admin, role="test", run_id="test") as session:
        for role, rights in ((MIGRATOR, "LOGIN CREATEDB CREATEROLE"), (APP, "LOGIN")):
            there = session.rows(f"SELECT FROM pg_roles WHERE rolname = '{role}'")
            statement = sql.SQL("{} ROLE {} {} PASSWORD {}").format(
                sql.SQL("ALTER" if there else "CREATE"), sql.Identifier(role), sql.SQL(rights), sql.Literal(password)
            )
            _execute(session, statement)
        session.execute(f"GRANT pg_signal_backend, pg_monitor TO {MIGRATOR}")
        [(number,)] = session.rows("SHOW server_version_num")
    as_role = {
        role: Login(
            host=admin.host,
            port=admin.port,
            database="postgres",
            user=role,
            password=Secret(password),
            options=admin.options,
        )
        for role in (MIGRATOR, APP)
    }
    return Server(
        admin=admin.to("postgres"),
        migrator=as_role[MIGRATOR],
        app=as_role[APP],
        major=int(number or 0) // 10000,
        embedded=None,
    )


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """What tests have recorded as SUMMARY is printed, each line once."""
    reports = [report for reports in terminalreporter.stats.values() for report in reports]
    told = {text for report in reports for name, text in getattr(report, "user_properties", ()) if name == SUMMARY}
    for line in sorted(told):
        terminalreporter.write_line(line)
