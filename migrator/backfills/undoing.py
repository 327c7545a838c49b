"""Takes a backfill back, batch by batch, as it was done."""

from __future__ import annotations

from collections.abc import Callable

from migrator.backfills import ledger
from migrator.backfills.definition import Backfill
from migrator.backfills.mover import Moved, Progress, Work
from migrator.postgres.session import Session


def undo(
    backfill: Backfill, work: Work, *, on_progress: Callable[[Progress], None], check: Callable[[], None]
) -> Moved:
    """Every row that was moved was undone, and the state is `undone`. Carries on where it was ended. Safe to repeat.

    The capture is to be gone before: it would do again what is undone here.
    Raises: Refused where nothing but the backup leads back; otherwise as `move`.
    """
    raise NotImplementedError


def forget(session: Session, schema: str | None, name: str) -> None:
    """The ledger does not know the backfill any more. Safe to repeat. Raises: StepFailed."""
    ledger.forget(session, schema, name)
