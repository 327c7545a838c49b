from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from psycopg import sql

from migrator import processes
from migrator.config.login import Login, Secret
from migrator.errors import ToolFailed
from migrator.postgres import client_tools
from migrator.postgres.client_tools import ClientTools, dbname, environment, find, needs_tls, passfile
from migrator.postgres.connect import connect
from tests.conftest import Server, fresh_database

PASSWORDS = ["a!b@c$d()e*_,/:;=?@ff[]22", "two words ' and \" and \\", " größer ☃ "]


def dump(login: Login, tools: ClientTools, folder: Path) -> Path:
    archive = folder / "archive"
    with passfile(login, folder) as secret:
        processes.run(
            [
                str(tools.pg_dump),
                "--format=directory",
                f"--compress={tools.compression if tools.major > 15 else 1}",
                "--jobs=2",
                "--no-password",
                f"--file={archive}",
            ],
            timeout_s=60,
            env=environment(login, passfile=secret, application_name="mig:r1:dump", tools=tools),
        )
    return archive


def restore(archive: Path, login: Login, tools: ClientTools, folder: Path) -> None:
    with passfile(login, folder) as secret:
        processes.run(
            [
                str(tools.pg_restore),
                "--exit-on-error",
                "--no-password",
                f"--dbname={dbname(login.database)}",
                str(archive),
            ],
            timeout_s=60,
            env=environment(login, passfile=secret, application_name="mig:r1:restore", tools=tools),
        )


def fill(login: Login) -> None:
    with connect(login, role="test", run_id="r1") as session:
        session.execute("CREATE TABLE t AS SELECT g AS a, md5(g::text) AS b FROM generate_series(1, 1000) g")


def content(login: Login) -> list[tuple[str | None, ...]]:
    with connect(login, role="test", run_id="r1") as session:
        return session.rows("SELECT count(*), sum(a), min(b) FROM t")


@pytest.fixture(params=[16, 18])
def some_server(request: pytest.FixtureRequest) -> Server:
    name = "server16" if request.param == 16 else "server"
    server: Server = request.getfixturevalue(name)
    return server


def test_database_goes_through_the_tools_that_fit_its_server(some_server: Server, tmp_path: Path) -> None:
    tools = find(some_server.major)
    with fresh_database(some_server) as source, fresh_database(some_server) as target:
        fill(source)
        restore(dump(source, tools, tmp_path), target, tools, tmp_path)
        assert content(target) == content(source)
    assert [path.name for path in tmp_path.iterdir()] == ["archive"]


@pytest.fixture
def odd_login(database: Login, server: Server, request: pytest.FixtureRequest) -> Iterator[Login]:
    """The database under a difficult name, owned by a role with a difficult name and password."""
    role, name = "o'd ro:le\\", f"o'd = {database.database} %x"
    with server.session() as admin:
        for text in ("CREATE ROLE {role} LOGIN PASSWORD {password}", "CREATE DATABASE {name} OWNER {role}"):
            statement = sql.SQL(text).format(  # type: ignore[arg-type]
                role=sql.Identifier(role), name=sql.Identifier(name), password=sql.Literal(request.param)
            )
            admin.execute(statement.as_string(None))
        try:
            yield replace(database, user=role, database=name, password=Secret(request.param))
        finally:
            for text in ("DROP DATABASE {name} WITH (FORCE)", "DROP ROLE {role}"):
                statement = sql.SQL(text).format(role=sql.Identifier(role), name=sql.Identifier(name))  # type: ignore[arg-type]
                admin.execute(statement.as_string(None))


@pytest.mark.parametrize("odd_login", PASSWORDS, indirect=True)
def test_any_name_and_password_work(odd_login: Login, tmp_path: Path) -> None:
    tools = find(18)
    fill(odd_login)
    archive = dump(odd_login, tools, tmp_path)
    with connect(odd_login, role="test", run_id="r1") as session:
        session.execute("DROP TABLE t")
    restore(archive, odd_login, tools, tmp_path)
    assert content(odd_login)[0][0] == "1000"


def test_wrong_password_is_an_error_and_no_question(database: Login, tmp_path: Path) -> None:
    with pytest.raises(ToolFailed, match="password authentication failed") as raised:
        dump(replace(database, password=Secret("hunter2")), find(18), tmp_path)
    assert "hunter2" not in raised.value.message


def test_role_settings_do_not_stop_a_restore(database: Login, server: Server, tmp_path: Path) -> None:
    tools = find(18)
    fill(database)
    archive = dump(database, tools, tmp_path)
    with server.session() as admin:
        admin.execute("ALTER ROLE migrator SET default_transaction_read_only = on")
        admin.execute("ALTER ROLE migrator SET statement_timeout = '1ms'")
        try:
            with connect(database, role="test", run_id="r1") as session:
                session.execute("DROP TABLE t")
            restore(archive, database, tools, tmp_path)
        finally:
            admin.execute("ALTER ROLE migrator RESET ALL")
    assert content(database)[0][0] == "1000"


def test_wheels_programs_reach_a_server_that_insists_on_tls(
    tls_server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_tools, "_folders_on_path", lambda: iter(()))
    monkeypatch.setattr(client_tools, "_WELL_KNOWN", ())
    tools = find(tls_server.major, needs_tls=needs_tls(tls_server.migrator))
    assert tools.source == "embedded"
    with fresh_database(tls_server) as source:
        fill(source)
        archive = dump(source, tools, tmp_path)
        stranger = replace(source, options={"sslmode": "verify-full"})  # the system's CAs do not know this server
        with pytest.raises(ToolFailed, match="certificate verify failed"):
            dump(stranger, tools, tmp_path / "other")
    assert (archive / "toc.dat").exists()


def test_tools_of_this_machine_reach_a_server_that_insists_on_tls(tls_server: Server, tmp_path: Path) -> None:
    tools = find(tls_server.major, needs_tls=True)
    with fresh_database(tls_server) as source, fresh_database(tls_server) as target:
        fill(source)
        restore(dump(source, tools, tmp_path), target, tools, tmp_path)
        assert content(target) == content(source)
