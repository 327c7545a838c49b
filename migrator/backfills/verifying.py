"""Proves that a backfill is right: its own question, asked in the server, about every row."""

from __future__ import annotations

from dataclasses import dataclass

from migrator.backfills.definition import Backfill
from migrator.postgres.session import Session


@dataclass(frozen=True, kw_only=True)
class Verdict:
    violations: int
    sample: tuple[str, ...]  # the first ten rows that the question returned
    seconds: float


def verify(session: Session, backfill: Backfill, schema: str | None) -> Verdict:
    """What `verify` finds now. Without a violation, and with all ranges done, the ledger says `verified`.

    Raises: StepFailed.
    """
    raise NotImplementedError


def ask(session: Session, backfill: Backfill) -> Verdict:
    """What `verify` finds now; nothing is written. Raises: StepFailed."""
    raise NotImplementedError
