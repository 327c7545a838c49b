"""The threads that do a backfill's batches, each in a session of its own."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

from migrator.backfills import batch
from migrator.backfills.batch import Deed, Done
from migrator.backfills.definition import Backfill
from migrator.backfills.pace import SMALLEST, Pace, Tally
from migrator.backfills.proof import Proof
from migrator.errors import MigrationFailed, Place, StepFailed
from migrator.postgres.connect import PgSession
from migrator.postgres.transactions import sqlstate

_PATIENCE_S = 600.0  # for one batch, with everybody else's locks
_LIMIT_S = 30.0  # for a statement: at least, and as a multiple of what a batch is meant to take
_LIMIT_TARGETS = 30
_LONGEST_PAUSE_S = 2.0
_TURN_S = 0.05
_CANCELED = "57014"
_OVERRUN = 100  # how much smaller the next batch is after one that came to the limit


class _Stopped(Exception):
    """The work is to end; the batch under way is done or undone."""


class Workers:
    """`jobs` threads. Used by the thread that made it; the others see what it says."""

    def __init__(
        self, *, backfill: Backfill, deed: Deed, tally: Tally, wait: Callable[[Callable[[], None]], None]
    ) -> None:
        """`wait` holds a worker back for the sake of others; it calls what it is given, which may raise."""
        self._backfill = backfill
        self._deed = deed
        self._tally = tally
        self._wait = wait
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._errors: list[BaseException] = []
        self._locked_since: dict[int, float] = {}

    @property
    def waiting_for(self) -> str | None:
        """What every worker waits for that is under way."""
        alive = sum(thread.is_alive() for thread in self._threads)
        return "rows or tables that others hold" if alive and len(self._locked_since) >= alive else None

    @contextmanager
    def started(self, connect: Callable[[int], PgSession]) -> Iterator[None]:
        """The threads are at work; behind the block none is. An error in it lets them end their batches first.

        Raises: the first error of a worker.
        """
        sessions: list[PgSession] = []
        try:
            for number in range(1, self._backfill.jobs + 1):
                sessions.append(connect(number))  # noqa: PERF401  those that are open are closed if one is not to be had
            self._threads = [
                threading.Thread(target=self._work, args=(session,), name=session.name) for session in sessions
            ]
            for thread in self._threads:
                thread.start()
            yield
        finally:
            self._stop.set()
            for thread in self._threads:
                if thread.ident is not None:
                    thread.join()
            for session in sessions:
                session.close()
            self._stop.clear()
        if self._errors:
            raise self._errors[0]

    def join(self, timeout_s: float) -> bool:
        """Whether all have come to their end, or one to an error, after so long at most."""
        until = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        return bool(self._errors) or not any(thread.is_alive() for thread in self._threads)

    def _work(self, session: PgSession) -> None:
        try:
            with closing(session):
                self._batches(session)
        except _Stopped:
            pass
        except BaseException as error:  # noqa: BLE001  raised again by the thread that waits
            self._errors.append(error)
            self._stop.set()
        finally:
            self._locked_since.pop(session.pid, None)

    def _batches(self, session: PgSession) -> None:
        pace = Pace(target_s=self._backfill.target_batch_s, size=self._backfill.batch_rows)
        proof = batch.proof_of(self._deed)
        while True:
            self._wait(self._go_on)
            self._go_on()
            begun = time.monotonic()
            done = self._one(session, pace, proof)
            if done is batch.NOTHING:
                return
            if isinstance(done, Done):
                pace.took(time.monotonic() - begun, full=done.full)
                self._tally.add(rows=done.rows, walked=done.walked, written=done.written, writes=done.writes)

    def _one(self, session: PgSession, pace: Pace, proof: Proof) -> Done | batch.Nothing | None:
        """None: it is to be tried again. Raises: MigrationFailed; StepFailed."""
        limit_s = max(_LIMIT_S, _LIMIT_TARGETS * self._backfill.target_batch_s)
        begun = time.monotonic()
        try:
            done = batch.one(
                session, self._deed, pace.size, proof, lock_timeout_s=self._backfill.lock_timeout_s, limit_s=limit_s
            )
        except StepFailed as error:
            if sqlstate(error) not in batch.RETRIED or session.closed:
                raise
            self._tried(session, pace, error, took_s=time.monotonic() - begun, limit_s=limit_s)
            return None
        self._locked_since.pop(session.pid, None)
        if done is batch.NOT_YET:
            self._stop.wait(_TURN_S)
            return None
        return done

    def _tried(self, session: PgSession, pace: Pace, error: StepFailed, *, took_s: float, limit_s: float) -> None:
        """A smaller batch is due, after a while. Raises: MigrationFailed when there is no use in it."""
        since = self._locked_since.setdefault(session.pid, time.monotonic())
        waited_s = time.monotonic() - since
        overran = sqlstate(error) == _CANCELED and took_s >= limit_s
        if pace.size <= SMALLEST and (overran or waited_s > _PATIENCE_S):
            tried = f"for {waited_s:.0f} s" if not overran else f"in vain: it takes more than {limit_s:.0f} s"
            raise MigrationFailed(
                f"Backfill {self._deed.name} has tried a batch of one row {tried}: {error.message}",
                hint="A statement that takes so long does not keep to the rows of its batch, or cannot find them by"
                " their key; for locks see pg_locks. Then go on with `migrator backfill resume"
                f" {self._deed.name}`.",
                place=Place(file=self._deed.place.file, sqlstate=sqlstate(error)),
            ) from error
        pace.failed(by=_OVERRUN if overran else 2)
        self._stop.wait(random.uniform(0.02, min(0.1 + waited_s / 4, _LONGEST_PAUSE_S)))  # noqa: S311  not a secret

    def _go_on(self) -> None:
        if self._stop.is_set():
            raise _Stopped
