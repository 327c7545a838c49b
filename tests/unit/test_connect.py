from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from migrator.config.login import Login, Secret
from migrator.errors import ConnectionFailed
from migrator.postgres import tls
from migrator.postgres.connect import application_name, connect
from migrator.postgres.refusals import refusal
from migrator.postgres.tls import is_loopback, tls_options


def login(**values: object) -> Login:
    return Login(**{"host": "127.0.0.1", "database": "shop", "user": "migrator", **values})  # type: ignore[arg-type]


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port where somebody listens and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(8)
        yield listener.getsockname()[1]


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def refused(to: Login) -> ConnectionFailed:
    with pytest.raises(ConnectionFailed) as raised:
        connect(to, role="test", run_id="r1", connect_timeout_s=2)
    assert "\n" not in raised.value.message
    assert raised.value.hint
    assert raised.value.exit_code == 3
    return raised.value


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "localhost", "LocalHost", "/var/run", "@x"])
def test_this_machine_is_recognised(host: str) -> None:
    assert is_loopback(host)
    assert tls_options(login(host=host))["sslmode"] == "prefer"


@pytest.mark.parametrize("host", ["10.0.0.1", "db.internal", "localhost.evil.example", "127.0.0.1.example", "a,b"])
def test_another_machine_must_prove_who_it_is(host: str) -> None:
    assert not is_loopback(host)
    assert tls_options(login(host=host))["sslmode"] == "verify-full"


def test_another_machine_behind_a_local_name_must_prove_who_it_is() -> None:
    assert tls_options(login(host="localhost", options={"hostaddr": "10.0.0.1"}))["sslmode"] == "verify-full"


def test_stated_tls_options_stand() -> None:
    stated = {"sslmode": "verify-ca", "sslrootcert": "/ca.pem"}
    assert tls_options(login(host="db", options=stated)) == stated
    assert tls_options(login(host="db", options={"sslmode": "require"})) == {"sslmode": "require"}


def test_the_users_own_ca_comes_before_the_systems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    own = tmp_path / ".postgresql" / "root.crt"
    assert tls_options(login(host="db")).get("sslrootcert") != str(own)
    own.parent.mkdir()
    own.write_text("")
    assert tls_options(login(host="db"))["sslrootcert"] == str(own)


def test_without_any_ca_libpq_decides(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.setattr(tls, "_SYSTEM_CERTIFICATES", ())
    monkeypatch.setattr(tls.ssl, "get_default_verify_paths", lambda: type("Paths", (), {"cafile": None}))
    assert tls_options(login(host="db")) == {"sslmode": "verify-full"}


def test_sessions_bear_the_name_of_run_and_role() -> None:
    assert application_name("20260102-0304-ab", "lock") == "mig:20260102-0304-ab:lock"


def test_server_that_is_not_there(closed_port: int) -> None:
    error = refused(login(port=closed_port))
    assert error.code == "unreachable"
    assert error.message.startswith(f"could not connect to shop at 127.0.0.1:{closed_port} as migrator: Connection ref")


def test_host_that_does_not_exist() -> None:
    assert refused(login(host="no-such-host.invalid")).code == "unreachable"


def test_server_that_does_not_answer(silent_port: int) -> None:
    error = refused(login(port=silent_port))
    assert error.code == "unreachable"


def test_password_shows_in_no_refusal(closed_port: int) -> None:
    error = refused(login(port=closed_port, password=Secret("hunter2")))
    assert "hunter2" not in f"{error.message} {error.hint} {error.__cause__}"


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ('FATAL:  password authentication failed for user "m"', "wrong_password"),
        ("fe_sendauth: no password supplied", "no_password"),
        ('FATAL:  database "shop" does not exist', "no_such_database"),
        ('FATAL:  role "m" is not permitted to log in', "no_such_role"),
        (
            'FATAL:  permission denied for database "shop" DETAIL:  User does not have CONNECT privilege.',
            "no_connect_privilege",
        ),
        ('FATAL:  database "shop" is not currently accepting connections', "closed"),
        ("FATAL:  sorry, too many clients already", "too_many_connections"),
        ('FATAL:  too many connections for database "shop"', "too_many_connections"),
        ("FATAL:  the database system is starting up", "starting_up"),
        ('FATAL:  no pg_hba.conf entry for host "10.0.0.1", user "m", database "shop", no encryption', "pg_hba"),
        ("SSL error: certificate verify failed", "tls"),
        ('server certificate for "a" does not match host name "b"', "tls"),
        ("server does not support SSL, but SSL was required", "tls"),
        ("server closed the connection unexpectedly", "unreachable"),
        ("Connection refused\n\tIs the server running on that host and accepting TCP/IP connections?", "unreachable"),
        ("etwas ganz anderes", "connection"),
    ],
)
def test_refusals_are_told_apart(said: str, code: str) -> None:
    error = refusal(login(), f'connection failed: connection to server at "10.0.0.1", port 5432 failed: {said}')
    assert error.code == code
    assert "connection to server at" not in error.message
    assert "Is the server running" not in error.message
    assert "FATAL" not in error.message
