"""A cluster on disk and its server process: initialised, configured, started, found again.

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
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from migrator import processes
from migrator.config.login import Secret
from migrator.errors import Refused, ToolFailed
from migrator.postgres import certificate, embedded_programs
from migrator.postgres.embedded_programs import Account, Place, Programs

SUPERUSER, MIGRATOR, APP = "postgres", "migrator", "app"
HOST = "127.0.0.1"
START_S = 120.0

_SETTINGS = {
    "listen_addresses": HOST,
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
# Somebody took the port first, or the processes of a killed server are still ending.
_PASSING = "Address already in use|pre-existing shared memory block|lock file .* already exists"
_NOT_DURABLE = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}


@dataclass(frozen=True, kw_only=True)
class State:
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


def initialised(base: Path, options: Options) -> tuple[Place, State]:
    """The cluster is on disk, with a password for its superuser. Safe to repeat, also after it was interrupted."""
    state = load(base)
    if state is not None and Path(state.data_dir, "PG_VERSION").exists():
        same_major(state, options)
        return place_of(state), state
    if base.exists() and any(base.iterdir()):
        raise Refused(f"{base} is no data folder of migrator's", hint="Name another folder, or move this one away.")
    programs = _chosen(options)
    place = embedded_programs.settle(programs, base)
    state = State(
        major=programs.major,
        port=0,
        passwords={role: secrets.token_urlsafe(24) for role in (SUPERUSER, MIGRATOR, APP)},
        account=place.account,
        bin=str(programs.bin) if options.programs or options.tls else None,
        data_dir=str(place.data_dir),
        tls=options.tls,
        has_roles=False,
    )
    partial = beside(place.data_dir, ".new")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    place.give(partial)
    _initdb(place, partial, state, options)
    save(base, state)
    if place.data_dir.exists():
        place.data_dir.rmdir()
    partial.rename(place.data_dir)
    return place, state


def _initdb(place: Place, folder: Path, state: State, options: Options) -> None:
    password = beside(folder, ".password")
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
            timeout_s=START_S,
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


def _configure(place: Place, base: Path, state: State, options: Options) -> None:
    settings = {**_SETTINGS, **({} if options.durable else _NOT_DURABLE), "port": str(state.port)}
    if state.tls:
        key, crt = place.data_dir / "server.key", place.data_dir / "server.crt"
        public = beside(base, ".crt")
        if not (key.exists() and crt.exists() and public.exists()):
            private, cert = certificate.for_loopback()
            for path, content in ((key, private), (crt, cert)):
                _write(path, content.decode())
                place.give(path)
            _write(public, cert.decode())
        settings["ssl"] = "on"
        hba = place.data_dir / "pg_hba.conf"
        _write(hba, f"hostssl all all {HOST}/32 scram-sha-256\nhostssl replication all {HOST}/32 scram-sha-256\n")
        place.give(hba)
    settings |= options.settings or {}
    lines = (f"{name} = '{value.replace(chr(39), chr(39) * 2)}'\n" for name, value in settings.items())
    conf = place.data_dir / "migrator.conf"
    _write(conf, "".join(lines))
    place.give(conf)


def launched(place: Place, state: State, base: Path, options: Options) -> tuple[processes.Detached, State]:
    """The server accepts connections, on its former port or on another free one. Raises: ToolFailed with its log."""
    log = beside(base, ".log")
    for attempt in range(8):
        state = replace(state, port=state.port if attempt == 0 and _is_free(state.port) else _free_port())
        _configure(place, base, state, options)
        if _is_stale(place.data_dir):
            (place.data_dir / "postmaster.pid").unlink()
        offset = log.stat().st_size if log.exists() else 0
        process = processes.detach(place.argv("postgres", "-D", str(place.data_dir)), log=log, identity=place.identity)
        try:
            ready = _wait_until_ready(process, place.data_dir)
        except BaseException:
            process.send_signal(signal.SIGQUIT)
            process.wait()
            raise
        if ready:
            save(base, state)
            return process, state
        with log.open(errors="replace") as file:
            file.seek(offset)
            said = file.read()
        if not re.search(_PASSING, said):
            break
        time.sleep(0.25)
    lines = (
        " | ".join(line for line in said.splitlines() if re.search("FATAL|ERROR|LOG:", line)) or said[-1000:].strip()
    )
    raise ToolFailed(f"PostgreSQL {state.major} did not start: {lines}", hint=f"Its log is {log}.")


def _wait_until_ready(process: processes.Detached, data_dir: Path) -> bool:
    deadline = time.monotonic() + START_S
    while process.poll() is None:
        lines = _pid_file(data_dir)
        if len(lines) > 7 and lines[0] == str(process.pid) and lines[7].strip() == "ready":
            return True
        if time.monotonic() > deadline:
            raise ToolFailed(f"PostgreSQL in {data_dir} was not ready after {START_S:g} s", code="timeout")
        time.sleep(0.01)
    return False


def postmaster(data_dir: Path) -> int | None:
    """The process id of the server that runs on this data folder, None when there is none."""
    lines = _pid_file(data_dir)
    if not lines or not lines[0].isdigit() or not processes.is_running(pid := int(lines[0])):
        return None
    return None if _is_stale(data_dir) else pid


def _is_stale(data_dir: Path) -> bool:
    """After a restart of the machine the process id may belong to another program."""
    lines = _pid_file(data_dir)
    command = _command_of(int(lines[0])) if lines and lines[0].isdigit() else ""
    return bool(command) and "postgres" not in command  # a process that is just ending has no command any more


def _command_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
    except OSError:  # no Linux; slim images of Linux, on the other hand, have no ps
        return processes.run(["ps", "-o", "command=", "-p", str(pid)], timeout_s=20, check=False).stdout


def _pid_file(data_dir: Path) -> list[str]:
    try:
        return (data_dir / "postmaster.pid").read_text().splitlines()
    except OSError:
        return []


def same_major(state: State, options: Options) -> None:
    """Raises: Refused when another version is asked for than the cluster has."""
    if options.major not in (None, state.major):
        raise Refused(
            f"{state.data_dir} holds PostgreSQL {state.major}, not {options.major}",
            hint="Ask for that version, or move the folder away: its data cannot be read by another version.",
        )


def _chosen(options: Options) -> Programs:
    if options.programs is not None:
        return embedded_programs.at(options.programs)
    return embedded_programs.with_tls() if options.tls else embedded_programs.of_major(options.major or 18)


def place_of(state: State) -> Place:
    """Where this cluster lives. Raises: Refused when the account it was made with cannot be used any more."""
    data_dir, account = Path(state.data_dir), Account(state.account)
    programs = embedded_programs.at(Path(state.bin)) if state.bin else embedded_programs.of_major(state.major)
    place = embedded_programs.settle(programs, data_dir, allowed=(account,))
    if place.account is not account or place.data_dir != data_dir:
        raise Refused(
            f"{data_dir} was made as {account.value}, and that account cannot use it now",
            hint="Run migrator as the user who made it.",
        )
    return place


def load(base: Path) -> State | None:
    """What was saved of the cluster; None for a new one. Raises: Refused when that cannot be read."""
    path = beside(base, ".json")
    try:
        return State(**json.loads(path.read_text()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise Refused(f"{path} cannot be read: {error}", hint=f"Move {path} and {base} away.") from error


def save(base: Path, state: State) -> None:
    """The state is on disk, as a whole."""
    path, partial = beside(base, ".json"), beside(base, ".json.new")
    _write(partial, json.dumps(asdict(state), indent=2))
    partial.replace(path)


def _write(path: Path, content: str) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(content)


def beside(base: Path, suffix: str) -> Path:
    """The neighbour of the data folder with this ending."""
    return base.with_name(base.name + suffix)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """No other process is in such a block for this path; waits for it."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return port != 0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
    return port
