"""pg_dump and pg_restore that fit the server, and how they log in without a secret in argv or environment."""

from __future__ import annotations

import importlib.util
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from psycopg import pq
from psycopg.conninfo import make_conninfo

from migrator import processes
from migrator.config.login import Login
from migrator.errors import Refused, ToolFailed
from migrator.failpoints import Effect, doing
from migrator.postgres import embedded_programs
from migrator.postgres.tls import tls_options

Source = Literal["path", "embedded"]

# An archive of a newer pg_restore sets parameters that servers up to 16 do not know, and stops at them.
_LAST_OLD_MAJOR = 16
_WELL_KNOWN = (
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/opt/homebrew/opt/postgresql@*/bin",
    "/opt/homebrew/opt/libpq/bin",
    "/usr/local/opt/postgresql@*/bin",
    "/usr/local/opt/libpq/bin",
)
_NEED_TLS = ("require", "verify-ca", "verify-full")
_PROBE_S = 20.0
# Our sessions must neither be ended by a role's own timeouts nor be kept from writing by a fence that is read-only.
_PGOPTIONS = {
    "statement_timeout": "0",
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "default_transaction_read_only": "off",
}


@dataclass(frozen=True, kw_only=True)
class ClientTools:
    """Programs of one version that fit the server; a backup names that version."""

    pg_dump: Path
    pg_restore: Path
    psql: Path | None
    major: int
    version: str  # "18.4"
    source: Source
    compression: str  # for --compress: zstd:1 or gzip:1
    tls: bool  # whether they can
    env: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))  # what they need to run so


def find(server_major: int, extra_dirs: Sequence[Path] = (), *, needs_tls: bool = False) -> ClientTools:
    """The client programs for this server: from `extra_dirs`, else PATH and the usual folders, else the wheel's.

    Servers up to 16 take a client from their own major up to 16, later servers one of their major or newer.

    Raises: Refused, naming what was found and why it does not do.
    """
    rejected: list[str] = []
    tiers: tuple[tuple[Source, Iterable[Path]], ...] = (
        ("path", extra_dirs),
        ("path", _folders_on_path()),
        ("path", (folder for pattern in _WELL_KNOWN for folder in Path("/").glob(pattern.lstrip("/")))),
        ("embedded", (programs.bin for programs in embedded_programs.installed().values())),
    )
    for source, folders in tiers:
        candidates = [tools for folder in folders if (tools := _tools_in(folder.resolve(), source)) is not None]
        for tools in sorted(candidates, key=lambda tools: (tools.major != server_major, tools.major)):
            reason = _unfit(tools, server_major, needs_tls=needs_tls)
            if reason is None:
                return tools
            rejected.append(f"{tools.version} in {tools.pg_dump.parent} ({reason})")
    found = "; ".join(dict.fromkeys(rejected)) or "none"
    wanted = f"{server_major} to 16" if server_major <= _LAST_OLD_MAJOR else f"{server_major} or newer"
    raise Refused(
        f"no pg_dump and pg_restore for a PostgreSQL {server_major} server; found: {found}",
        hint=f"Install the PostgreSQL client {wanted}{' with TLS' if needs_tls else ''}, "
        "or run `pip install 'migrator[embedded]'`.",
        code="no_client_tools",
    )


def needs_tls(login: Login) -> bool:
    """Whether this login is only made over TLS."""
    return tls_options(login)["sslmode"] in _NEED_TLS


@contextmanager
def passfile(login: Login, folder: Path) -> Iterator[Path]:
    """A file for PGPASSFILE, mode 0600, that is gone afterwards; without a password it is the user's own ~/.pgpass.

    Raises: Refused for a password with a line end or a zero byte, which no such file can hold.
    """
    secret = login.secret()
    if secret is None:
        yield Path.home() / ".pgpass"
        return
    password = secret.reveal()
    if re.search(r"[\r\n\0]", password):
        raise Refused(
            f"the password of {login} has a line end in it, and pg_dump cannot be given one",
            hint="Change the password, or look whether its source adds a line end.",
        )
    path = folder / f".pgpass-{os.getpid()}-{os.urandom(4).hex()}"
    escaped = password.replace("\\", "\\\\").replace(":", "\\:")
    try:
        with doing(Effect.PASSFILE):
            folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(f"*:*:*:*:{escaped}\n".encode())
        yield path
    finally:
        with doing(Effect.PASSFILE_REMOVE):
            path.unlink(missing_ok=True)


def environment(login: Login, *, passfile: Path, application_name: str, tools: ClientTools) -> dict[str, str]:
    """The whole environment for pg_dump, pg_restore or psql: where to connect, as whom, how; never the password.

    Their messages are in English. pg_restore takes its database by `--dbname` only: see `dbname`.
    """
    variables = {
        name: value for name, value in {**login.options, **tls_options(login)}.items() if name in _variable_names()
    }
    if not tools.tls and variables["sslmode"] not in _NEED_TLS:
        variables["sslmode"] = "disable"
    ours = " ".join(f"-c {name}={value}" for name, value in _PGOPTIONS.items())
    variables |= {
        "host": login.host,
        "port": str(login.port),
        "dbname": login.database,
        "user": login.user,
        "passfile": str(passfile),
        "application_name": application_name,
        "options": f"{variables.get('options', '')} {ours}".strip(),
    }
    names = _variable_names()
    return processes.minimal_env(
        **{"LC_ALL": "C", **tools.env, **{names[name]: value for name, value in variables.items()}}
    )


def dbname(database: str) -> str:
    """What `--dbname` takes for this database; a bare name with `=` in it would be read as a connection string."""
    return make_conninfo("", dbname=database)


def _unfit(tools: ClientTools, server_major: int, *, needs_tls: bool) -> str | None:
    if tools.major < server_major:
        return "older than the server"
    if server_major <= _LAST_OLD_MAJOR < tools.major:
        return f"its archives cannot be restored into {server_major}"
    if needs_tls and not tools.tls:
        return "without TLS, which this login needs"
    return None


def _folders_on_path() -> Iterator[Path]:
    for name in os.get_exec_path():
        program = Path(name, "pg_dump")
        # Debian's wrapper chooses a version by itself; the real programs are among the well-known folders.
        if program.is_file() and program.resolve().name != "pg_wrapper":
            yield program.resolve().parent


@cache
def _tools_in(folder: Path, source: Source) -> ClientTools | None:
    pg_dump, pg_restore, psql = (folder / name for name in ("pg_dump", "pg_restore", "psql"))
    versions = [_version(program) for program in (pg_dump, pg_restore)]
    version = versions[0]
    if version is None or versions[1] != version:
        return None
    major = int(re.match(r"\d+", version)[0])  # type: ignore[index]
    tls, env = _tls_support(pg_dump, major)
    zstd = major >= 16 and "compression" not in _complaint(pg_dump, env, "--format=directory", "--compress=zstd:1")
    return ClientTools(
        pg_dump=pg_dump,
        pg_restore=pg_restore,
        psql=psql if psql.is_file() else None,
        major=major,
        version=version,
        source=source,
        compression="zstd:1" if zstd else "gzip:1",
        tls=tls,
        env=MappingProxyType(env),
    )


def _version(program: Path) -> str | None:
    try:
        said = processes.run([str(program), "--version"], timeout_s=_PROBE_S).stdout
    except ToolFailed:
        return None  # not there, or built for another platform
    found = re.search(r"\) (\d+\S*)", said)
    return found[1] if found else None


def _tls_support(pg_dump: Path, major: int) -> tuple[bool, dict[str, str]]:
    # The wheel's libpq is built without TLS; psycopg brings one that has it and does everything an older one does.
    borrowed = _libpq_of_psycopg() if pq.version() // 10000 >= major else None
    for env in ({}, {"LD_PRELOAD": str(borrowed)} if borrowed else None):
        if env is not None and "SSL support is not compiled in" not in _complaint(
            pg_dump, {**env, "PGSSLMODE": "require"}
        ):
            return True, env
    return False, {}


def _complaint(pg_dump: Path, env: Mapping[str, str], *options: str) -> str:
    """What pg_dump says about its options and its build, before it finds that there is no such socket."""
    nowhere = "/nonexistent/migrator"
    argv = [str(pg_dump), *options, f"--file={nowhere}", f"--host={nowhere}", "--username=nobody", "nothing"]
    done = processes.run(
        argv, timeout_s=_PROBE_S, env=processes.minimal_env(LC_ALL="C", **env), cwd=Path("/"), check=False
    )
    return done.stderr


def _libpq_of_psycopg() -> Path | None:
    spec = importlib.util.find_spec("psycopg_binary")
    if not sys.platform.startswith("linux") or spec is None or spec.origin is None:
        return None
    beside = Path(spec.origin).parent.with_name("psycopg_binary.libs")
    return next(iter(sorted(beside.glob("libpq-*.so*"))), None)


@cache
def _variable_names() -> Mapping[str, str]:
    # libpq knows which of its options have an environment variable
    return {
        option.keyword.decode(): option.envvar.decode() for option in pq.Conninfo.get_defaults() if option.envvar
    } | {"passfile": "PGPASSFILE"}
