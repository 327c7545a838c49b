"""What an atomic run tries next after its transaction was rolled back: the same again, or the fallback."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass

from migrator.errors import MigrationFailed, TransactionLost
from migrator.runs import ladder, written
from migrator.runs.record import StepName, Way
from migrator.runs.run import Run

_LOCK_NOT_AVAILABLE = "55P03"
_SERIALIZATION = {"40001", "40P01"}
_LONGEST_PAUSE_S = 30.0


@dataclass(frozen=True, kw_only=True)
class Again:
    """The next attempt: `way` is the one it takes, `pause_s` how long others get to finish first."""

    way: Way
    pause_s: float
    why: str

    @classmethod
    def after(cls, run: Run, error: MigrationFailed) -> Again | None:
        """The attempt that may follow this failure, or None when the run goes back."""
        state = error.place.sqlstate
        if isinstance(error, TransactionLost):
            if run.record.fallback is None:
                return None
            return cls(way=run.record.fallback, pause_s=0.0, why=f"not possible in one transaction: {error.message}")
        limits = run.environment.limits
        transient = state == _LOCK_NOT_AVAILABLE or (state in _SERIALIZATION and not run.offline)
        if not transient or run.facts.attempt > limits.lock_retries:
            return None
        pause_s = min(_LONGEST_PAUSE_S, 2.0 ** (run.facts.attempt - 1)) * random.uniform(0.5, 1.0)  # noqa: S311
        return cls(way=Way.ATOMIC, pause_s=pause_s, why=f"{error.message} (SQLSTATE {state})")


def wait_before_retry(run: Run, again: Again) -> None:
    """The failed attempt has left nothing behind, and the next may begin.

    Raises: NotProven when the rolled-back transaction is not gone; FenceBreached where somebody wrote meanwhile.
    """
    ladder.end_sessions(run)
    ladder.prove_rolled_back(run)
    if again.way is not run.record.way:
        written.begin_anew(run)
    for entry in run.record.steps:
        if entry.name in {StepName.HOLD, StepName.APPLY, StepName.VERIFY} and entry.status in {"done", "failed"}:
            entry.status = "undone"
    for changeset in run.record.changesets:
        changeset.status, changeset.duration_s = run.status_before, None
    run.record.write_set, run.record.surprises, run.record.tables = [], [], []
    run.facts.attempt += 1
    run.facts.verified = False
    run.facts.xid = run.facts.snapshot = None
    if again.way is not run.record.way:
        run.record.way, run.record.fallback = again.way, None
        run.record.way_reason = again.why
        run.warn(f"The run goes on {again.way.value}: {again.why}")
    else:
        run.warn(f"Attempt {run.facts.attempt} after {again.pause_s:.1f} s: {again.why}")
    run.save()
    time.sleep(again.pause_s)
