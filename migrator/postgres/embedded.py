"""A PostgreSQL server of our own, for the environment `local`, for rehearsals and for tests."""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Self

from psycopg import sql

from migrator import processes
from migrator.config.login import Login, Secret
from migrator.errors import ConnectionFailed, ToolFailed
from migrator.postgres.cluster import (
    APP,
    HOST,
    MIGRATOR,
    START_S,
    SUPERUSER,
    Options,
    State,
    beside,
    initialised,
    launched,
    load,
    locked,
    place_of,
    postmaster,
    same_major,
    save,
)
from migrator.postgres.connect import PgSession, connect
from migrator.postgres.embedded_programs import Place

__all__ = ["APP", "MIGRATOR", "SUPERUSER", "EmbeddedServer", "Options", "ensure_running"]

_STOP_S = 30.0


class EmbeddedServer:
    """A running cluster on 127.0.0.1, with the roles postgres (superuser), migrator and app."""

    def __init__(self, *, place: Place, state: State, base: Path, process: processes.Detached | None) -> None:
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
        base = Path(os.path.abspath(data_dir))
        base.parent.mkdir(parents=True, exist_ok=True)
        with locked(beside(base, ".lock")):
            server = cls._join(base, options)
            if server is None:
                place, state = initialised(base, options)
                process, state = launched(place, state, base, options)
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
        return beside(self._base, ".log")

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
    def account(self) -> str:
        """Whom it runs as: self, nobody or namespace."""
        return self._state.account

    @property
    def pid(self) -> int | None:
        """The server's process id, None when it is not running."""
        return postmaster(self.data_dir)

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
        state = load(base)
        if state is None or postmaster(Path(state.data_dir)) is None:
            return None
        place = place_of(state)
        same_major(state, options)
        server = cls(place=place, state=state, base=base, process=None)
        deadline = time.monotonic() + START_S
        while not server.is_running:
            if postmaster(server.data_dir) is None:
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
            options = {"sslmode": "verify-full", "sslrootcert": str(beside(self._base, ".crt"))}
        return Login(
            host=HOST,
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
        save(self._base, self._state)

    def _keep(self, remove: Path | None) -> None:
        argv = [sys.executable, "-m", "migrator.postgres.keeper", str(self.pid)]
        self._keeper = processes.Child.start([*argv, *([str(remove)] if remove else [])], log=self.log)

    def _end(self, number: signal.Signals, patience_s: float) -> None:
        pid = self.pid
        # Whoever asked for an orderly end is told that there was none; an immediate stop is as good as a kill.
        numbers = (number, signal.SIGKILL) if number is signal.SIGQUIT else (number,)
        if pid is not None and not any(_ended(pid, n, patience_s) for n in numbers):
            raise ToolFailed(f"PostgreSQL (process {pid}) did not stop", hint=f"Its log is {self.log}.")
        if self._keeper is not None:
            self._keeper.close(timeout_s=20)
            self._keeper = None


def _ended(pid: int, number: signal.Signals, patience_s: float) -> bool:
    deadline = time.monotonic() + patience_s
    with suppress(ProcessLookupError):
        os.kill(pid, number)
    while processes.is_running(pid):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def ensure_running(data_dir: Path, *, major: int | None = None) -> EmbeddedServer:
    """The embedded server of this data folder runs, and stays when we end. Safe to repeat. Raises: as `start`."""
    return EmbeddedServer.start(data_dir, Options(major=major))
