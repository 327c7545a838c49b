"""A PostgreSQL server of our own, for the environment `local`, for rehearsals and for tests.

Beside the data folder `pg` lie `pg.json` (port and passwords, mode 0600), `pg.log` and `pg.lock`.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Self

from psycopg import sql

from migrator import processes
from migrator.config.login import Login, Secret
from migrator.errors import ConnectionFailed, Refused, ToolFailed
from migrator.postgres import certificate, embedded_programs
from migrator.postgres.connect import PgSession, connect
from migrator.postgres.embedded_programs import Account, Place, Programs

SUPERUSER, MIGRATOR, APP = "postgres", "migrator", "app"

_HOST = "127.0.0.1"
_START_S = 120.0
_STOP_S = 30.0
_SETTINGS = {
    "listen_addresses": _HOST,
    "unix_socket_directories": "",
    "max_connections": "100",
    "max_locks_per_transaction": "256",
    "password_encryption": "scram-sha-256",
    "max_wal_size": "512MB",
    "log_line_prefix": "%m [%p] %a %d ",
    "lc_messages": "C",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
_NOT_DURABLE = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}


@dataclass(frozen=True, kw_only=True)
class _State:
    """What is remembered of a cluster between two starts."""

    major: int
    port: int
    passwords: dict[str, str]
    account: str
    bin: str | None  # the programs' folder; None: the wheel's, wherever it is installed now
    data_dir: str  # elsewhere than asked for where root could not use that place
    tls: bool
    has_roles: bool


@dataclass(frozen=True, kw_only=True)
class Options:
    """How the server is to run; `settings` are added to postgresql.conf's."""

    major: int | None = None  # None: 18, or what the data folder holds
    programs: Path | None = None  # the folder of postgres and initdb; None: the wheel's, or this machine's with `tls`
    tls: bool = False  # and then TLS only
    durable: bool = True  # False: no fsync; a crash of the machine loses the data
    ends_with_us: bool = False  # stopped when this process ends, even by SIGKILL
    remove: Path | None = None  # with `ends_with_us`: the folder that goes too
    settings: Mapping[str, str] | None = None

    def that_ends_with_us(self, *, remove: Path) -> Options:
        """The same, for a server that nobody needs when this process is gone."""
        return replace(self, ends_with_us=True, remove=remove)


class EmbeddedServer:
    """A running cluster on 127.0.0.1, with the roles postgres (superuser), migrator and app."""

    def __init__(self, *, place: Place, state: _State, base: Path, process: subprocess.Popen[bytes] | None) -> None:
        self._place = place
        self._state = state
        self._base = base
        self._process = process  # None: it was running already
        self._keeper: processes.Child | None = None

    @classmethod
    def start(cls, data_dir: Path, options: Options | None = None) -> Self:
        """The server runs and answers; it was initialised where `data_dir` was missing. Safe to repeat: it is joined.

        It outlives this process unless `ends_with_us`.

        Raises: Refused (no programs, no account, a folder or version that is not ours), ToolFailed (with its log).
        """
        options = options or Options()
        base = data_dir.absolute()
        base.parent.mkdir(parents=True, exist_ok=True)
        with _locked(_beside(base, ".lock")):
            server = cls._join(base, options)
            if server is None:
                place, state = _initialised(base, options)
                process, state = _launched(place, state, base, options)
                server = cls(place=place, state=state, base=base, process=process)
                if options.ends_with_us:
                    server._keep(options.remove)
            server._ensure_roles()
        return server

    @property
    def port(self) -> int:
        return self._state.port

    @property
    def major(self) -> int:
        return self._state.major

    @property
    def log(self) -> Path:
        return _beside(self._base, ".log")

    @property
    def data_dir(self) -> Path:
        return self._place.data_dir

    @property
    def admin(self) -> Login:
        """The superuser's login. Not for runs: a superuser walks through every fence."""
        return self._login(SUPERUSER)

    @property
    def migrator(self) -> Login:
        """The login of runs: CREATEDB, CREATEROLE, pg_signal_backend, pg_monitor."""
        return self._login(MIGRATOR)

    @property
    def app(self) -> Login:
        """The sample application's login, with no rights of its own."""
        return self._login(APP)

    @property
    def pid(self) -> int | None:
        """The server's process id, None when it is not running."""
        return _postmaster(self.data_dir)

    @property
    def is_running(self) -> bool:
        """Whether it answers, and is the server of this data folder."""
        if self._process is not None and self._process.poll() is not None:
            return False
        try:
            with self._session() as session:
                return session.rows("SHOW data_directory") == [(str(self.data_dir),)]
        except ConnectionFailed:
            return False

    def create_database(self, name: str, owner: str = MIGRATOR) -> Login:
        """The database exists, empty if it was missing; its owner's login. Safe to repeat."""
        with self._session() as session:
            literal = sql.Literal(name).as_string(None)
            if not session.rows(f"SELECT FROM pg_database WHERE datname = {literal}"):
                statement = sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(name), sql.Identifier(owner))
                session.execute(statement.as_string(None))
        return self._login(owner).to(name)

    def stop(self) -> None:
        """The server has ended in order; open sessions were ended. Safe to repeat.

        Raises: ToolFailed when it does not end.
        """
        self._end(signal.SIGINT, _STOP_S)

    def immediate_stop(self) -> None:
        """The server has ended as in a crash: it recovers at its next start. Safe to repeat."""
        self._end(signal.SIGQUIT, 5.0)

    @classmethod
    def _join(cls, base: Path, options: Options) -> Self | None:
        state = _load(base)
        if state is None or _postmaster(Path(state.data_dir)) is None:
            return None
        place = _place_of(state)
        _same_major(state, options)
        server = cls(place=place, state=state, base=base, process=None)
        deadline = time.monotonic() + _START_S
        while not server.is_running:
            if _postmaster(server.data_dir) is None:
                return None
            if time.monotonic() > deadline:
                raise ToolFailed(
                    f"the embedded PostgreSQL in {server.data_dir} does not answer", hint=f"Its log is {server.log}."
                )
            time.sleep(0.05)
        return server

    def _login(self, user: str) -> Login:
        options = {}
        if self._state.tls:
            options = {"sslmode": "verify-full", "sslrootcert": str(_beside(self._base, ".crt"))}
        return Login(
            host=_HOST,
            port=self.port,
            database="postgres",
            user=user,
            password=Secret(self._state.passwords[user]),
            options=options,
        )

    def _session(self) -> PgSession:
        return connect(self.admin, role="embedded", run_id="0", connect_timeout_s=5)

    def _ensure_roles(self) -> None:
        if self._state.has_roles:
            return
        attributes = {MIGRATOR: "LOGIN CREATEDB CREATEROLE", APP: "LOGIN"}
        with self._session() as session:
            there = {name for (name,) in session.rows("SELECT rolname FROM pg_roles")}
            for role, rights in attributes.items():
                statement = sql.SQL("{} ROLE {} {} PASSWORD {}").format(
                    sql.SQL("ALTER" if role in there else "CREATE"),
                    sql.Identifier(role),
                    sql.SQL(rights),
                    sql.Literal(self._state.passwords[role]),
                )
                session.execute(statement.as_string(None))
            session.execute(f"GRANT pg_signal_backend, pg_monitor TO {MIGRATOR}")
        self._state = replace(self._state, has_roles=True)
        _save(self._base, self._state)

    def _keep(self, remove: Path | None) -> None:
        argv = [sys.executable, "-m", "migrator.postgres.keeper", str(self.pid)]
        self._keeper = processes.Child.start([*argv, *([str(remove)] if remove else [])], log=self.log)

    def _end(self, number: signal.Signals, patience_s: float) -> None:
        pid = self.pid
        if pid is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
            deadline = time.monotonic() + patience_s
            while self._is_alive(pid):
                if time.monotonic() > deadline:
                    if number is not signal.SIGQUIT:
                        raise ToolFailed(f"PostgreSQL (process {pid}) did not stop", hint=f"Its log is {self.log}.")
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                time.sleep(0.01)
        if self._keeper is not None:
            self._keeper.close(timeout_s=20)
            self._keeper = None

    def _is_alive(self, pid: int) -> bool:
        if self._process is not None and self._process.pid == pid:
            return self._process.poll() is None
        return _exists(pid)


def ensure_running(data_dir: Path, *, major: int | None = None) -> EmbeddedServer:
    """The embedded server of this data folder runs, and stays when we end. Safe to repeat. Raises: as `start`."""
    return EmbeddedServer.start(data_dir, Options(major=major))


def _initialised(base: Path, options: Options) -> tuple[Place, _State]:
    state = _load(base)
    if state is not None and Path(state.data_dir, "PG_VERSION").exists():
        _same_major(state, options)
        return _place_of(state), state
    if base.exists() and any(base.iterdir()):
        raise Refused(f"{base} is no data folder of migrator's", hint="Name another folder, or move this one away.")
    programs = _chosen(options)
    place = embedded_programs.settle(programs, base)
    state = _State(
        major=programs.major,
        port=0,
        passwords={role: secrets.token_urlsafe(24) for role in (SUPERUSER, MIGRATOR, APP)},
        account=place.account,
        bin=str(programs.bin) if options.programs or options.tls else None,
        data_dir=str(place.data_dir),
        tls=options.tls,
        has_roles=False,
    )
    partial = _beside(place.data_dir, ".new")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    place.give(partial)
    _initdb(place, partial, state, options)
    _save(base, state)
    if place.data_dir.exists():
        place.data_dir.rmdir()
    partial.rename(place.data_dir)
    return place, state


def _initdb(place: Place, folder: Path, state: _State, options: Options) -> None:
    password = _beside(folder, ".password")
    locale = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"] if place.programs.major >= 17 else []
    try:
        _write(password, state.passwords[SUPERUSER])
        place.give(password)
        processes.run(
            place.argv(
                "initdb",
                f"--pgdata={folder}",
                f"--username={SUPERUSER}",
                f"--pwfile={password}",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--no-locale",
                *locale,
                "--data-checksums",
                *(() if options.durable else ("--no-sync",)),
            ),
            timeout_s=_START_S,
            cwd=Path("/"),
            identity=place.identity,
            secrets=[Secret(value) for value in state.passwords.values()],
        )
    except ToolFailed:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    finally:
        password.unlink(missing_ok=True)
    with (folder / "postgresql.conf").open("a") as file:
        file.write("\ninclude 'migrator.conf'\n")


def _configure(place: Place, base: Path, state: _State, options: Options) -> None:
    settings = {**_SETTINGS, **({} if options.durable else _NOT_DURABLE), "port": str(state.port)}
    if state.tls:
        key, crt = place.data_dir / "server.key", place.data_dir / "server.crt"
        public = _beside(base, ".crt")
        if not (key.exists() and crt.exists() and public.exists()):
            private, cert = certificate.for_loopback()
            for path, content in ((key, private), (crt, cert)):
                _write(path, content.decode())
                place.give(path)
            _write(public, cert.decode())
        settings["ssl"] = "on"
        hba = place.data_dir / "pg_hba.conf"
        _write(hba, f"hostssl all all {_HOST}/32 scram-sha-256\nhostssl replication all {_HOST}/32 scram-sha-256\n")
        place.give(hba)
    settings |= options.settings or {}
    lines = (f"{name} = '{value.replace(chr(39), chr(39) * 2)}'\n" for name, value in settings.items())
    conf = place.data_dir / "migrator.conf"
    _write(conf, "".join(lines))
    place.give(conf)


def _launched(place: Place, state: _State, base: Path, options: Options) -> tuple[subprocess.Popen[bytes], _State]:
    log = _beside(base, ".log")
    for attempt in range(4):
        state = replace(state, port=state.port if attempt == 0 and _is_free(state.port) else _free_port())
        _configure(place, base, state, options)
        offset = log.stat().st_size if log.exists() else 0
        process = processes.detach(place.argv("postgres", "-D", str(place.data_dir)), log=log, identity=place.identity)
        try:
            ready = _wait_until_ready(process, place.data_dir)
        except BaseException:
            process.send_signal(signal.SIGQUIT)
            process.wait()
            raise
        if ready:
            _save(base, state)
            return process, state
        with log.open(errors="replace") as file:
            file.seek(offset)
            said = file.read()
        if "Address already in use" not in said:
            break
    lines = (
        " | ".join(line for line in said.splitlines() if re.search("FATAL|ERROR|LOG:", line)) or said[-1000:].strip()
    )
    raise ToolFailed(f"PostgreSQL {state.major} did not start: {lines}", hint=f"Its log is {log}.")


def _wait_until_ready(process: subprocess.Popen[bytes], data_dir: Path) -> bool:
    deadline = time.monotonic() + _START_S
    while process.poll() is None:
        lines = _pid_file(data_dir)
        if len(lines) > 7 and lines[0] == str(process.pid) and lines[7].strip() == "ready":
            return True
        if time.monotonic() > deadline:
            raise ToolFailed(f"PostgreSQL in {data_dir} was not ready after {_START_S:g} s", code="timeout")
        time.sleep(0.01)
    return False


def _postmaster(data_dir: Path) -> int | None:
    lines = _pid_file(data_dir)
    if not lines or not lines[0].isdigit() or not _exists(pid := int(lines[0])):
        return None
    # After a restart of the machine the number may belong to somebody else.
    with suppress(OSError):
        if b"postgres" not in Path(f"/proc/{pid}/cmdline").read_bytes():
            return None
    return pid


def _pid_file(data_dir: Path) -> list[str]:
    try:
        return (data_dir / "postmaster.pid").read_text().splitlines()
    except OSError:
        return []


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _same_major(state: _State, options: Options) -> None:
    if options.major not in (None, state.major):
        raise Refused(
            f"{state.data_dir} holds PostgreSQL {state.major}, not {options.major}",
            hint="Ask for that version, or move the folder away: its data cannot be read by another version.",
        )


def _chosen(options: Options) -> Programs:
    if options.programs is not None:
        return embedded_programs.at(options.programs)
    return embedded_programs.with_tls() if options.tls else embedded_programs.of_major(options.major or 18)


def _place_of(state: _State) -> Place:
    data_dir, account = Path(state.data_dir), Account(state.account)
    programs = embedded_programs.at(Path(state.bin)) if state.bin else embedded_programs.of_major(state.major)
    place = embedded_programs.settle(programs, data_dir, allowed=(account,))
    if place.account is not account or place.data_dir != data_dir:
        raise Refused(
            f"{data_dir} was made as {account.value}, and that account cannot use it now",
            hint="Run migrator as the user who made it.",
        )
    return place


def _load(base: Path) -> _State | None:
    path = _beside(base, ".json")
    try:
        return _State(**json.loads(path.read_text()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise Refused(f"{path} cannot be read: {error}", hint=f"Move {path} and {base} away.") from error


def _save(base: Path, state: _State) -> None:
    path, partial = _beside(base, ".json"), _beside(base, ".json.new")
    _write(partial, json.dumps(asdict(state), indent=2))
    partial.replace(path)


def _write(path: Path, content: str) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(content)


def _beside(base: Path, suffix: str) -> Path:
    return base.with_name(base.name + suffix)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, port))
        except OSError:
            return False
    return port != 0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        port: int = probe.getsockname()[1]
    return port
