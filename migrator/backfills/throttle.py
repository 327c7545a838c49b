"""Holds a backfill back for the sake of others: replicas that lag, a busy server, sessions that it blocks, a person.

Between batches every worker calls `wait`. While batches run, a thread looks for sessions of others that wait for them;
a batch that holds somebody up for longer than `max_blocked_s` is cancelled, and its worker does less at a time.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from psycopg import sql

from migrator.backfills import ledger
from migrator.backfills.definition import Backfill
from migrator.errors import StepFailed
from migrator.failpoints import Effect, effect
from migrator.postgres import waits
from migrator.postgres.connect import PgSession, application_name
from migrator.postgres.session import Session
from migrator.postgres.transactions import statement

ROLE = "backfill"  # with which the names of all sessions of a backfill begin
_STALE_S = 0.1  # several workers may go by one look
_LOOK_S = 0.25
_RECENT = 0.9  # how much of the biggest batch counts from batch to batch


@dataclass(frozen=True, kw_only=True)
class Lag:
    """How far the replica is behind that is furthest behind."""

    wal: int  # the server's own position
    replica: str | None = None
    behind_bytes: int | None = None  # None: there is no replica, or none whose position may be seen
    hidden: bool = False  # there are replicas, and this login may not see where they are


def lag(session: Session) -> Lag:
    """Raises: StepFailed."""
    rows = session.rows(_LAG)
    known = [(int(behind), name or "") for _, name, behind in rows if behind is not None]
    behind, replica = max(known, default=(None, None))
    hidden = any(name is not None and behind is None for _, name, behind in rows)
    return Lag(wal=int(rows[0][0] or 0), replica=replica, behind_bytes=behind, hidden=hidden)


class Throttle:
    """One for all workers of a backfill; safe to use from their threads. A context manager, for its thread."""

    def __init__(
        self,
        session_of: Callable[[], PgSession],
        backfill: Backfill,
        *,
        run_id: str,
        schema: str | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`session_of` opens a session of the run, in the role that it has for looking; `schema`: the ledger's."""
        self._session_of = session_of
        self._session: PgSession | None = None
        self._backfill = backfill
        self._ours = application_name(run_id, ROLE)
        self._schema = schema
        self._monotonic = monotonic
        self._asking = threading.Lock()  # one session, one question at a time
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="throttle", daemon=True)
        self._looked_at = float("-inf")
        self._waiting_since: float | None = None
        self._waited_s = 0.0
        self._way_until = 0.0  # for so long others, who were held up, go first
        self._wal = 0  # the server's position at the last look
        self._begun: dict[int, int] = {}  # worker -> the position when its batch began
        self._batch_wal = 0.0  # what the server has gained during a batch, of late
        self._lagging = False
        self.lag_bytes: int | None = None  # of the replica furthest behind; None: there is none, or `unknown`
        self.max_lag_bytes: int | None = None
        self.waiting_for: str | None = None
        self.unknown: dict[str, str] = {}  # what cannot be looked at -> why
        self.cancelled = 0  # batches, because others waited

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join(10.0)
        with self._asking:
            if self._session is not None:
                self._session.close()

    @property
    def waited_s(self) -> float:
        """For how long, in all, no batch could begin."""
        since = self._waiting_since
        return self._waited_s + (0.0 if since is None else self._monotonic() - since)

    def wait(self, check: Callable[[], None]) -> None:
        """Nothing speaks against another batch, and `pause_s` is over. What `check` raises ends the wait.

        Raises: StepFailed when the server cannot be asked.
        """
        self._rest(self._backfill.pause_s, check)
        worker = threading.get_ident()
        self._end_batch(worker)
        while self._look() is not None:
            self._rest(_STALE_S, check)
        check()
        self._begun[worker] = self._wal

    def _rest(self, seconds: float, check: Callable[[], None]) -> None:
        until = self._monotonic() + seconds
        while (left := until - self._monotonic()) > 0:
            check()
            if self._over.wait(min(left, 0.1)):
                return

    def _look(self) -> str | None:
        """What speaks against another batch now."""
        with self._asking:
            now = self._monotonic()
            if now - self._looked_at >= _STALE_S:
                self.waiting_for = self._reason()
                self._looked_at = now
                if self.waiting_for is None:
                    self._waited_s, self._waiting_since = self.waited_s, None
                elif self._waiting_since is None:
                    self._waiting_since = now
            return self.waiting_for

    def _reason(self) -> str | None:
        session = self._open()
        lag, load = self._lag(session), self._load(session)
        entry = ledger.read(session, self._schema).get(self._backfill.name)
        if entry is not None and entry.state is ledger.State.PAUSED:
            return f"a person: {entry.paused_because or 'paused'}"
        if self._monotonic() < self._way_until:
            return "others, whom a batch has held up"
        return lag or load

    def _lag(self, session: PgSession) -> str | None:
        found = lag(session)
        self._wal = found.wal
        if found.hidden:
            self.unknown["replication lag"] = "this login is not in pg_monitor"
        self.lag_bytes = found.behind_bytes
        if self.lag_bytes is None:
            return None
        self.max_lag_bytes = max(self.lag_bytes, self.max_lag_bytes or 0)
        limit = self._backfill.max_lag_bytes
        if limit is None:
            return None
        # What is about to begin adds to it, and may be twice as large as before; once over, it is to come well below.
        coming = min(2 * self._batch_wal, limit * 0.75)
        self._lagging = self.lag_bytes > (min(limit / 2, limit - coming) if self._lagging else limit - coming)
        if not self._lagging:
            return None
        return f"replica {found.replica}, {_megabytes(self.lag_bytes)} behind (limit {_megabytes(limit)})"

    def _end_batch(self, worker: int) -> None:
        """The worker's batch is over: what the server has gained meanwhile, all workers' writes and others' counted."""
        begun = self._begun.pop(worker, None)
        if begun is None:
            return
        with self._asking:
            self._wal = lag(self._open()).wal
            self._batch_wal = max(self._wal - begun, self._batch_wal * _RECENT)

    def _load(self, session: PgSession) -> str | None:
        limit = self._backfill.max_active_sessions
        if limit is None:
            return None
        [(active, hidden)] = session.rows(statement(_ACTIVE, sql.Literal(self._ours)))
        if hidden != "0":
            self.unknown["active sessions"] = "this login is not in pg_monitor"
        return f"the server: {active} sessions at work (limit {limit})" if int(active or 0) > limit else None

    def _watch(self) -> None:
        pause_s = min(_LOOK_S, self._backfill.max_blocked_s / 4)
        while not self._over.wait(pause_s):
            # not to be able to look for a moment is no reason to fail; a batch that has lost its server fails by itself
            with suppress(StepFailed), self._asking:
                self._make_way(self._open())

    def _make_way(self, session: PgSession) -> None:
        waiting = waits.waiters(session, self._ours)
        if not any(waiter.waiting_s > self._backfill.max_blocked_s for waiter in waiting):
            return
        blockers = sorted({pid for waiter in waiting for pid in waiter.blocked_by})
        stopped = self._cancel(session, blockers)
        if stopped:
            self.cancelled += stopped
            self._way_until = self._monotonic() + self._backfill.max_blocked_s * random.uniform(0.5, 1.0)  # noqa: S311

    @effect(Effect.BACKFILL_CANCEL)
    def _cancel(self, session: PgSession, pids: list[int]) -> int:
        """How many of these sessions of ours were told to give up what they are doing."""
        return len(session.rows(statement(_CANCEL, sql.Literal(pids), sql.Literal(self._ours))))

    def _open(self) -> PgSession:
        if self._session is None or self._session.closed:
            self._session = self._session_of()
        return self._session


def _megabytes(size_bytes: int) -> str:
    return f"{size_bytes / 1_000_000:.1f} MB"


# A base backup streams too, and is no replica. Without pg_monitor the positions are NULL.
_LAG = """
SELECT pg_wal_lsn_diff(here.lsn, '0/0')::bigint, r.name, abs(pg_wal_lsn_diff(here.lsn, r.replay_lsn))::bigint
FROM (SELECT pg_current_wal_lsn() AS lsn) AS here
LEFT JOIN (SELECT coalesce(nullif(application_name, ''), 'without a name') AS name, replay_lsn
           FROM pg_stat_replication WHERE state IS NULL OR state IN ('streaming', 'catchup')) AS r ON true
"""
_ACTIVE = """
SELECT count(*) FILTER (WHERE state = 'active'), count(*) FILTER (WHERE state IS NULL AND usename IS NOT NULL)
FROM pg_stat_activity
WHERE datname = current_database() AND coalesce(backend_type, 'client backend') = 'client backend'
      AND NOT starts_with(coalesce(application_name, ''), {})
"""
_CANCEL = """
SELECT pg_cancel_backend(pid) FROM pg_stat_activity
WHERE pid = ANY ({}::int[]) AND starts_with(application_name, {}) AND usename = current_user AND state = 'active'
"""
