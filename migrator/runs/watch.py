"""Keeps an eye on a run while it works: its lease, its lock, intruders behind the fence, sessions that it blocks.

The watch never decides. It remembers the first alarm, ends the run's working sessions so that the step in progress
fails at once, and the engine goes back with the alarm as the cause. On the way back, and after the commit, nothing is
ended any more: the lease is renewed, and whoever comes in spite of the fence is ended and written down.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from migrator.errors import FenceBreached, MigratorError, StepFailed
from migrator.postgres import fence, sessions, waits
from migrator.postgres.connect import APPLICATION_PREFIX, PgSession
from migrator.runs import samples
from migrator.runs.record import Way
from migrator.runs.run import Run
from migrator.runs.samples import Sample

_ROLES_THAT_STAY = frozenset({"lock", "orchestrator", "watch"})
_TERMINATE_S = 5.0


class LockLost(MigratorError):
    """This run no longer owns its database: another may have taken over, so nothing more may be done."""

    exit_code = 10
    code = "lock_lost"


class Watch:
    """A thread of its own with a session of its own; `start` it when the lock is held, `stop` it at the end."""

    def __init__(self, run: Run, session: PgSession, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._run = run
        self._session = session
        self._monotonic = monotonic
        self._stop = threading.Event()
        self._wake_s = 1.0
        self._renewed_at = monotonic()
        self._maintained_since: float | None = None
        self._fenced: fence.Mode | None = None
        self._thread = threading.Thread(target=self._loop, name="watch", daemon=True)
        self._guard = threading.Lock()
        self._looking = threading.Lock()  # for intruders: not while the fence is taken down
        self._ending = threading.Lock()  # held while an alarm ends sessions: the next step's are not among them
        self._going_back = False
        self.alarm: MigratorError | None = None

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """The thread has ended and its session is closed. Safe to repeat."""
        self._stop.set()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(10.0)
        self._session.close()

    def fenced(self, mode: fence.Mode | None) -> None:
        """From now on (until called with None) intruders are looked for, and downtime counts."""
        with self._looking:
            self._fenced = mode
            self._maintained_since = self._monotonic() if mode is not None else None

    def going_back(self) -> None:
        """From now on no limit ends a session of this run: what works now is the way back."""
        with self._ending:
            self._going_back = True

    def check(self) -> None:
        """The run still owns its database, looked up now.

        Raises: LockLost, or the first alarm; after the commit only LockLost, since users are to be let in.
        """
        self.check_ownership()
        self.check_alarm()

    def check_alarm(self) -> None:
        """Nothing has been seen that ends the run; nobody is asked. Raises: the first alarm."""
        with self._ending:
            alarm = self.alarm
        if alarm is not None and not self._run.facts.committed:
            raise alarm

    def check_ownership(self) -> None:
        """The lock is held and the lease renewed, now. Raises: LockLost; StepFailed when the journal is out of use."""
        if isinstance(self.alarm, LockLost):
            raise self.alarm
        self._look_at_ownership()

    @property
    def _only_watches(self) -> bool:
        return self.alarm is not None or self._going_back or self._run.facts.committed

    def _loop(self) -> None:
        while not self._stop.wait(self._wake_s):
            try:
                self._look()
            except LockLost as error:
                self._give_up(error)
                return
            except MigratorError as error:
                with self._ending:
                    if not self._only_watches:
                        self._raise_alarm(error)

    def _look(self) -> None:
        limits = self._run.environment.limits
        age_s = self._monotonic() - self._renewed_at
        if age_s > limits.lease_s / 4:
            try:
                self._look_at_ownership()
            except StepFailed:  # the journal: a moment's trouble is no reason to go back while the lease lasts
                if age_s > limits.lease_s / 2:
                    raise
        if self._session.closed:
            self._session = self._connect()
        with self._looking:
            self._look_for_intruders()
        try:
            waiting = self._waiting()
        except StepFailed:
            if limits.max_blocked_s is not None:
                raise
            waiting = []  # it was only for the report
        if self._only_watches:
            return
        self._look_at_who_waits(waiting, limits.max_blocked_s)
        since = self._maintained_since
        by_hand = self._run.record.way is Way.RESTORE  # a person decided that it is worth the time
        if since is not None and self._monotonic() - since > limits.max_downtime_s and not by_hand:
            raise StepFailed(
                f"Maintenance has lasted longer than limits.max_downtime_s = {limits.max_downtime_s:g}.",
                code="downtime",
                hint="Allow more time, or choose a cheaper proof or backup.",
            )

    def _look_at_ownership(self) -> None:
        with self._guard:
            lock = self._run.lock
            if lock is None:
                return
            try:
                lock.execute("select 1")
            except StepFailed as error:
                raise LockLost(
                    f"The session that holds the lock on {self._run.database} is gone: {error.message}",
                    hint=f"See what is there with: migrator status --env {self._run.record.environment}",
                ) from error
            renewed = self._run.journal.renew(self._run.id, self._run.environment.limits.lease_s)
            if not renewed:
                raise LockLost(
                    f"Another process has taken over run {self._run.id}.",
                    hint=f"Follow it with: migrator show {self._run.id}",
                )
            self._renewed_at = self._monotonic()

    def _look_for_intruders(self) -> None:
        mode = self._fenced
        if mode is None:
            return
        database = self._run.database
        found = fence.intruders(self._session, database, run_id=self._run.id, mode=mode)
        if not found and self._run.work_login.database != database:
            database = self._run.work_login.database
            found = fence.intruders(self._session, database, run_id=self._run.id, mode=mode)
        if not found:
            return
        who = ", ".join(f"{s.user} ({s.application or 'no name'}, pid {s.pid})" for s in found[:3])
        if who not in self._run.facts.breaches:
            self._run.facts.breaches.append(who)
        if mode is fence.Mode.OFFLINE:
            for session in found:
                sessions.end_foreign(self._session, database, session.pid, own_run=self._run.id)
            raise FenceBreached(f"Sessions came in spite of the offline fence: {who}.")
        raise FenceBreached(f"Sessions wrote in spite of read-only: {who}.")

    def _waiting(self) -> list[waits.Waiter]:
        """Who waits for this run, put down for its report, with what it has locked."""
        own = f"{APPLICATION_PREFIX}{self._run.id}:"
        waiting = waits.waiters(self._session, own)
        samples.append(self._run.folder, Sample.of(self._run.now(), waiting, waits.held_locks(self._session, own)))
        return waiting

    def _look_at_who_waits(self, waiting: list[waits.Waiter], max_blocked_s: float | None) -> None:
        longest = max((waiter.waiting_s for waiter in waiting), default=0.0)
        if max_blocked_s is not None and longest > max_blocked_s:
            raise StepFailed(
                f"{len(waiting)} sessions waited for this run's locks, the longest for {longest:.1f} s "
                f"(limits.max_blocked_s = {max_blocked_s:g}).",
                code="blocked_others",
                hint="Run it under maintenance, or split the changeset that holds the lock.",
            )

    def _connect(self) -> PgSession:
        return self._run.session("watch", database=self._run.environment.maintenance_database)

    def _give_up(self, error: LockLost) -> None:
        """The step in progress fails. Sessions are not ended: those of this run may be its new owner's by now."""
        self.alarm = error
        liquibase = self._run.liquibase
        if liquibase is not None:
            liquibase.kill()

    def _raise_alarm(self, error: MigratorError) -> None:
        self.alarm = error
        liquibase = self._run.liquibase
        if liquibase is not None:
            liquibase.kill()
        try:
            sessions.terminate_run(self._session, self._run.id, roles=_ROLES_THAT_STAY, timeout_s=_TERMINATE_S)
        except StepFailed as failure:
            self._run.warn(f"Sessions of this run could not be ended at once: {failure.message}")
