"""pg_dump at work on the original while the copy is migrated; one thread lives as long as pg_dump does.

On Linux a child dies with the thread that started it: so it does when this process is killed, and not before.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path

from migrator.backups import Made
from migrator.backups.dump import Dump
from migrator.errors import BackupFailed, MigratorError, StepFailed
from migrator.postgres import sessions
from migrator.postgres.connect import PgSession
from migrator.runs import stores
from migrator.runs.run import Run

_KEPT_ROLES = frozenset({"lock", "orchestrator", "watch"})
_LOOK_AGAIN_S = 0.2
_END_S = 30.0


class Dumping:
    """A dump under way. Either `wait` for it, or `end` it: until then its `snapshot` can be imported."""

    def __init__(self, run: Run, folder: Path) -> None:
        self.folder = folder
        self.began_at = time.monotonic()
        self._unwanted = threading.Event()
        self._run = run
        self._dump: Dump = stores.dump(run, heed=self._heed)  # looks for the programs: an error belongs to who begins
        self._session: PgSession = run.session("snapshot", read_only=True, database=run.database)
        try:
            self._session.execute("begin isolation level repeatable read read only")
            self.snapshot = self._session.rows("select pg_export_snapshot()")[0][0] or ""
        except StepFailed:
            self._session.close()
            raise
        self._source = stores.source(run, snapshot=self.snapshot)
        self._made: Made | None = None
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._work, name="dump", daemon=True)
        self._thread.start()

    @property
    def failure(self) -> Exception | None:
        """Why there will be no dump; None as long as there may be one."""
        return self._failure

    def wait(self) -> Made:
        """The dump is complete and on disk.

        Raises: BackupFailed; the watch's alarm.
        """
        run = self._run
        while self._thread.is_alive():
            self._thread.join(_LOOK_AGAIN_S)
            if run.watch is not None:
                run.watch.check_alarm()
        self._session.close()
        if self._made is None:
            failure = self._failure
            if isinstance(failure, MigratorError):
                raise failure
            raise BackupFailed(f"Backing up {run.database} failed: {failure}") from failure
        return self._made

    def end(self) -> bool:
        """pg_dump does not work any more, and what it had made is quarantined. Safe to repeat.

        False where a store that does not answer keeps what was sent to it: that has no manifest and counts for nothing,
        and the way back does not wait for it. Raises: StepFailed when pg_dump does not go.
        """
        run = self._run
        self._unwanted.set()
        deadline = time.monotonic() + _END_S
        while self._thread.is_alive():  # a program that is asked between two connections does not hear it
            sessions.terminate_run(run.the_admin(), run.id, roles=_KEPT_ROLES, timeout_s=_END_S)
            self._thread.join(_LOOK_AGAIN_S)
            if time.monotonic() > deadline:
                if self._dump.sink is None:
                    raise StepFailed(f"pg_dump did not end within {_END_S:g} s.")
                run.warn(
                    f"{stores.of(run).place} does not answer, so the upload of the dump could not be given up within "
                    f"{_END_S:g} s: what was sent counts for nothing. A rule of the bucket for unfinished uploads "
                    "deletes it."
                )
                self._session.close()
                return False
        self._session.close()
        return True

    def _heed(self) -> None:
        """What sends the dump asks now and then whether it is still wanted. Raises: BackupFailed; the watch's alarm."""
        if self._unwanted.is_set():
            raise BackupFailed("The dump is not wanted any more: the run goes back.")
        self._run.heed_alarm()

    def _work(self) -> None:
        try:
            self._made = self._dump.create(self._source, self.folder)
        except Exception as error:  # noqa: BLE001  told to the thread that waits
            self._failure = error
