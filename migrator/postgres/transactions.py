"""Transactions of our own on an autocommit session: all or nothing, never waiting for a lock without a limit."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from psycopg import sql

from migrator.errors import StepFailed
from migrator.failpoints import Effect, doing
from migrator.postgres.session import Session

INSUFFICIENT_PRIVILEGE = "42501"
OBJECT_IN_USE = "55006"
LOCK_NOT_AVAILABLE = "55P03"


class Deadline:
    """A limit to a wait, on a clock that nobody can set."""

    def __init__(
        self,
        timeout_s: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._clock = clock
        self._sleep = sleep
        self._start = clock()
        self._timeout_s = timeout_s
        self._pause_s = 0.02

    @property
    def waited_s(self) -> float:
        return self._clock() - self._start

    @property
    def left_s(self) -> float:
        """Seconds until the limit; 0 from there on."""
        return max(0.0, self._timeout_s - self.waited_s)

    @property
    def passed(self) -> bool:
        return self.left_s <= 0

    def pause(self) -> None:
        """A little time has passed: longer from call to call, 0.5 s at most, never beyond the limit."""
        self._sleep(min(self._pause_s, self.left_s))
        self._pause_s = min(self._pause_s * 1.5, 0.5)


@contextmanager
def transaction(session: Session, *, lock_timeout_s: float = 10.0) -> Iterator[None]:
    """What the block did is committed, durably; or, after an error, none of it.

    Raises: StepFailed, also when the commit was not acknowledged: then it may have happened.
    """
    session.execute("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE")
    try:
        # an acknowledged commit with synchronous_commit = off is lost in a crash
        session.execute(
            statement(
                "SET LOCAL synchronous_commit = on; SET LOCAL lock_timeout = {}",
                sql.Literal(int(lock_timeout_s * 1000)),
            )
        )
        yield
        with doing(Effect.COMMIT_OURS):
            session.execute("COMMIT")
    except BaseException:
        with suppress(StepFailed):  # a lost session has rolled back already; the first error is the one that counts
            session.execute("ROLLBACK")
        raise


@contextmanager
def rehearsal(session: Session) -> Iterator[None]:
    """What the block did is undone, whether it failed or not. Inside a transaction only."""
    session.execute("SAVEPOINT rehearsal")
    try:
        yield
    finally:
        session.execute("ROLLBACK TO SAVEPOINT rehearsal; RELEASE SAVEPOINT rehearsal")


@contextmanager
def acting_as(session: Session, role: str) -> Iterator[None]:
    """The block runs with the rights of `role`. Inside a transaction only, whose rollback ends it too."""
    session.execute(statement("SET LOCAL ROLE {}", sql.Identifier(role)))
    yield
    session.execute("RESET ROLE")


def statement(template: str, *parts: sql.Composable, **named: sql.Composable) -> str:
    """The text of a statement, with its names and values quoted: a Session takes no parameters."""
    return sql.SQL(template).format(*parts, **named).as_string(None)


def sqlstate(error: StepFailed) -> str | None:
    """PostgreSQL's five characters, where the error came from a statement."""
    state = getattr(error, "sqlstate", None)
    return state if isinstance(state, str) else None
