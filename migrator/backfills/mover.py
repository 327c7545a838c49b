"""Moves the rows of a backfill: workers with a session each, on ranges that do not overlap, batch by batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from migrator.backfills.definition import Backfill
from migrator.config.login import Login
from migrator.postgres.connect import PgSession
from migrator.postgres.session import Session


@dataclass(frozen=True, kw_only=True)
class Work:
    """Where a backfill is done, and by whom."""

    login: Login
    schema: str | None  # of the ledger; None: the first of the search path
    run_id: str
    connect: Callable[[str], PgSession]  # role -> a session of that name: backfill, backfill-1 ...


@dataclass(frozen=True, kw_only=True)
class Progress:
    name: str
    rows: int
    total: int | None  # as far as the server knows
    rate: float  # rows a second, of late
    eta_s: float | None
    lag_bytes: int | None
    waiting_for: str | None


@dataclass(frozen=True, kw_only=True)
class Moved:
    name: str
    rows: int  # of this call
    batches: int
    duration_s: float
    waited_s: float
    max_lag_bytes: int | None
    written: frozenset[str]  # tables that batches wrote, qualified


def move(
    backfill: Backfill, work: Work, *, on_progress: Callable[[Progress], None], check: Callable[[], None]
) -> Moved:
    """Every range is done: the state is `moved`. Carries on where an earlier call was ended. Safe to repeat.

    `check` is called between batches and while waiting, in this thread; what it raises ends the work when the batches
    under way are done. Raises: Refused before anything is written; Locked; MigrationFailed for a statement that fails
    or moves other rows than its batch's; StepFailed.
    """
    raise NotImplementedError


def move_inside(backfill: Backfill, session: Session, schema: str | None, *, run_id: str) -> Moved:
    """Every row is moved in the transaction that is open on this session, which also holds the ledger's row.

    Raises: Refused; MigrationFailed; StepFailed.
    """
    raise NotImplementedError
