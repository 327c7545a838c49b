"""Keeps an eye on a dry run from a session of its own: whom it keeps waiting, and what temporary files it has.

On the target it ends the dry run before others wait for long; it also knows whether others were there at all.
"""

from __future__ import annotations

import threading

from psycopg import sql

from migrator.errors import StepFailed
from migrator.postgres import sessions, waits
from migrator.postgres.connect import APPLICATION_PREFIX, PgSession
from migrator.postgres.transactions import statement
from migrator.runs.run import Run

_ROLES_THAT_STAY = frozenset({"lock", "orchestrator", "watch"})
_EVERY_S = 0.1
_TEMPORARY = "SELECT coalesce(sum(size), 0) FROM pg_ls_tmpdir() WHERE starts_with(name, {})"
_MAY_SEE_FILES = "SELECT has_function_privilege('pg_ls_tmpdir()', 'EXECUTE')"


class Sentry:
    """A thread; `start` it when Liquibase is connected, `stop` it when all is rolled back."""

    def __init__(self, run: Run, session: PgSession, *, pid: int, max_blocked_s: float | None) -> None:
        self._run = run
        self._session = session
        self._pid = pid
        self._max_blocked_s = max_blocked_s  # None: on a copy, where nobody waits
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="sentry", daemon=True)
        self._sees_files = session.rows(_MAY_SEE_FILES) == [("t",)]
        self._changeset: str | None = None
        self.temp_bytes: dict[str, int] = {}  # changeset -> the most that was seen at once
        self.blocked: str | None = None  # who waited too long, in words: the dry run was ended
        self.at: str | None = None  # the changeset that was running then
        self.others_seen = False
        self.lost: str | None = None  # why nobody looks any more

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """The thread has ended and its session is closed. Safe to repeat."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(10.0)
        self._session.close()

    def running(self, changeset: str | None) -> None:
        """From now on what is seen belongs to this changeset."""
        self._changeset = changeset

    @property
    def sees_files(self) -> bool:
        """Whether temporary files can be seen at all (pg_monitor)."""
        return self._sees_files

    def _loop(self) -> None:
        try:
            while not self._stop.wait(_EVERY_S):
                self._look()
        except StepFailed as error:
            self.lost = error.message
            if self._max_blocked_s is not None and not self._stop.is_set():
                self._end(f"who waits could not be watched any more: {error.message}")

    def _look(self) -> None:
        changeset = self._changeset
        if self._sees_files and changeset is not None:
            name = sql.Literal(f"pgsql_tmp{self._pid}.")
            [(size,)] = self._session.rows(statement(_TEMPORARY, name))
            self.temp_bytes[changeset] = max(self.temp_bytes.get(changeset, 0), int(float(size or 0)))
        if self._max_blocked_s is None or self.blocked is not None:
            return
        if not self.others_seen:
            self.others_seen = bool(sessions.foreign(self._session, self._run.database, own_run=self._run.id))
        waiting = waits.waiters(self._session, f"{APPLICATION_PREFIX}{self._run.id}:")
        if waiting and waiting[0].waiting_s > self._max_blocked_s:
            more = f" and {len(waiting) - 1} more" if waiting[1:] else ""
            self._end(f"{waiting[0]}{more} waited for its locks")

    def _end(self, why: str) -> None:
        self.blocked, self.at = why, self._changeset
        if self._run.liquibase is not None:
            self._run.liquibase.kill()
        try:
            sessions.terminate_run(self._session, self._run.id, roles=_ROLES_THAT_STAY, timeout_s=5.0)
        except StepFailed as error:  # the worker is dead, so the server will notice
            self.lost = error.message
