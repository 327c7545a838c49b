from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict

from migrator.config.login import Login, Secret
from migrator.errors import Refused
from migrator.postgres import client_tools, embedded_programs
from migrator.postgres.client_tools import ClientTools, dbname, environment, find, needs_tls, passfile

# Answers like pg_dump: --version, and complaints about what its build cannot do.
FAKE = """#!/bin/sh
case "$1" in --version) echo "$(basename "$0") (PostgreSQL) {version}"; exit 0;; esac
case "$*" in *zstd*) [ -n "{zstd}" ] || echo "error: this build does not support compression with zstd" >&2;; esac
[ "$PGSSLMODE" = require ] && [ -z "{tls}" ] && echo "error: SSL support is not compiled in" >&2
exit 1
"""


def login(**values: object) -> Login:
    given = {"host": "127.0.0.1", "database": "shop", "user": "migrator", "password": Secret("x"), **values}
    return Login(**given)  # type: ignore[arg-type]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A machine with no client programs but those that the test puts there."""
    monkeypatch.setenv("PATH", f"{tmp_path / 'path'}:/usr/bin:/bin")
    monkeypatch.setattr(client_tools, "_folders_on_path", lambda: iter([tmp_path / "path"]))
    monkeypatch.setattr(client_tools, "_WELL_KNOWN", ())
    monkeypatch.setattr(client_tools, "_libpq_of_psycopg", lambda: None)
    monkeypatch.setattr(embedded_programs, "installed", dict)
    client_tools._tools_in.cache_clear()
    yield tmp_path
    client_tools._tools_in.cache_clear()


def put(folder: Path, version: str, *, tls: bool = True, zstd: bool = False, restore: str | None = None) -> Path:
    folder.mkdir(parents=True)
    for name, its_version in (("pg_dump", version), ("pg_restore", restore or version)):
        program = folder / name
        program.write_text(
            FAKE.format(version=its_version, tls="yes" if tls else "", zstd="yes" if zstd else ""), encoding="utf-8"
        )
        program.chmod(0o755)
    return folder


@pytest.mark.parametrize(
    ("server", "client", "fits"),
    [
        (14, "16.4", True),
        (16, "16.4", True),
        (16, "17.0", False),
        (15, "18.1", False),
        (17, "16.4", False),
        (17, "18.1", True),
        (18, "18beta1", True),
        (18, "17.5", False),
        (16, "15.9", False),
    ],
)
def test_clients_fit_the_server(server: int, client: str, fits: bool, machine: Path) -> None:
    put(machine / "path", client)
    if fits:
        assert find(server).version == client
    else:
        with pytest.raises(Refused, match=f"{client} in .*path"):
            find(server)


def test_nothing_found_says_what_to_install(machine: Path) -> None:
    with pytest.raises(Refused, match="for a PostgreSQL 15 server; found: none") as raised:
        find(15)
    assert "15 to 16" in (raised.value.hint or "")


def test_named_folders_come_first(machine: Path) -> None:
    put(machine / "path", "16.4")
    named = put(machine / "named", "16.1")
    tools = find(16, [named])
    assert (tools.pg_dump, tools.pg_restore, tools.psql) == (named / "pg_dump", named / "pg_restore", None)
    assert find(16).version == "16.4"


def test_named_folder_that_does_not_fit_is_passed_over(machine: Path) -> None:
    put(machine / "path", "18.4")
    assert find(18, [put(machine / "named", "16.1"), machine / "missing"]).version == "18.4"


def test_servers_own_major_comes_before_a_newer_one(machine: Path) -> None:
    folders = [put(machine / "b", "16.9"), put(machine / "a", "15.2"), put(machine / "c", "14.2")]
    assert find(15, folders).major == 15
    assert find(13, folders).major == 14


def test_programs_of_two_versions_are_no_pair(machine: Path) -> None:
    put(machine / "path", "18.4", restore="18.3")
    with pytest.raises(Refused):
        find(18)


def test_client_without_tls_is_passed_over_where_tls_is_needed(machine: Path) -> None:
    put(machine / "path", "18.4", tls=False)
    assert not find(18).tls
    with pytest.raises(Refused, match="without TLS"):
        find(18, needs_tls=True)


@pytest.mark.parametrize(("version", "zstd", "compression"), [("18.4", True, "zstd:1"), ("18.4", False, "gzip:1")])
def test_best_compression_of_the_build_is_used(version: str, zstd: bool, compression: str, machine: Path) -> None:
    put(machine / "path", version, zstd=zstd)
    assert find(18).compression == compression


def test_old_clients_compress_by_gzip(machine: Path) -> None:
    put(machine / "path", "15.4", zstd=True)
    assert find(15).compression == "gzip:1"


@pytest.mark.parametrize(
    ("password", "line"),
    [
        ("a!b@c$d()e*_,/:;=?@ff[]22", r"*:*:*:*:a!b@c$d()e*_,/\:;=?@ff[]22"),
        (r"back\slash:", r"*:*:*:*:back\\slash\:"),
        ("two words ☃ ", "*:*:*:*:two words ☃ "),
    ],
)
def test_passfile_is_escaped_and_closed_to_others_and_gone_afterwards(password: str, line: str, tmp_path: Path) -> None:
    with passfile(login(password=Secret(password)), tmp_path) as path:
        assert path.read_text("utf-8") == line + "\n"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == []


def test_passfile_is_gone_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(KeyError), passfile(login(), tmp_path):
        raise KeyError
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("password", ["line\nend", "line\r", "zero\0"])
def test_password_that_no_passfile_can_hold_is_refused(password: str, tmp_path: Path) -> None:
    with (
        pytest.raises(Refused, match="line end") as raised,
        passfile(login(password=Secret(password)), tmp_path),
    ):
        pass
    assert password not in raised.value.message


def test_login_without_a_password_uses_the_users_own_passfile(tmp_path: Path) -> None:
    with passfile(login(password=None), tmp_path) as path:
        assert path == Path.home() / ".pgpass"


def tools(**values: object) -> ClientTools:
    given = {
        "pg_dump": Path("pg_dump"),
        "pg_restore": Path("pg_restore"),
        "psql": None,
        "major": 18,
        "version": "18.4",
        "source": "path",
        "compression": "gzip:1",
        "tls": True,
        **values,
    }
    return ClientTools(**given)  # type: ignore[arg-type]


def test_environment_says_where_as_whom_and_how_but_no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGSSLMODE", "disable")
    monkeypatch.setenv("PGSERVICE", "elsewhere")
    seen = environment(
        login(password=Secret("hunter2"), host="db", port=6432, options={"sslmode": "verify-ca", "sslrootcert": "/ca"}),
        passfile=Path("/run/pass"),
        application_name="mig:r1:dump",
        tools=tools(env={"LD_PRELOAD": "/libpq"}),
    )
    pg = {name: value for name, value in seen.items() if name.startswith(("PG", "LD"))}
    assert pg.pop("PGOPTIONS").startswith("-c statement_timeout=0 ")
    assert pg == {
        "PGHOST": "db",
        "PGPORT": "6432",
        "PGDATABASE": "shop",
        "PGUSER": "migrator",
        "PGSSLMODE": "verify-ca",
        "PGSSLROOTCERT": "/ca",
        "PGPASSFILE": "/run/pass",
        "PGAPPNAME": "mig:r1:dump",
        "LD_PRELOAD": "/libpq",
    }
    assert "hunter2" not in str(seen)


def test_options_of_the_login_are_kept_beside_ours() -> None:
    seen = environment(
        login(options={"options": "-c search_path=shop", "connect_timeout": "7", "keepalives_idle": "5"}),
        passfile=Path("/p"),
        application_name="a",
        tools=tools(tls=False),
    )
    assert seen["PGOPTIONS"].startswith("-c search_path=shop -c statement_timeout=0 ")
    assert seen["PGCONNECT_TIMEOUT"] == "7"
    assert seen["PGSSLMODE"] == "disable"


@pytest.mark.parametrize("name", ["shop", "a=b", "postgresql://x", "o'd d\\", "ünï ☃"])
def test_name_of_a_database_is_read_as_a_name(name: str) -> None:
    assert conninfo_to_dict(dbname(name)) == {"dbname": name}


def test_need_of_tls_follows_the_login() -> None:
    assert not needs_tls(login())
    assert needs_tls(login(host="db.internal"))
    assert needs_tls(login(options={"sslmode": "require"}))
    assert not needs_tls(login(host="db.internal", options={"sslmode": "prefer"}))
