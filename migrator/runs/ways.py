"""A way is a list of steps; lock and preflight come before, the report after."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence

from migrator.runs.record import Outcome, Way
from migrator.runs.run import Run, Step
from migrator.runs.steps.apply import ApplyStep
from migrator.runs.steps.back_up import BackUpStep
from migrator.runs.steps.clone import CloneStep
from migrator.runs.steps.commit import CommitStep
from migrator.runs.steps.copy import CopyStep
from migrator.runs.steps.hold import HoldStep
from migrator.runs.steps.lift import LiftStep
from migrator.runs.steps.maintain import MaintainStep
from migrator.runs.steps.preflight import PreflightStep
from migrator.runs.steps.restore import RestorePreflightStep, RestoreStep
from migrator.runs.steps.swap import SwapStep
from migrator.runs.steps.swap_back import SwapBackPreflightStep, UnwrittenStep
from migrator.runs.steps.verify import VerifyStep

_WAYS: Mapping[Way, Sequence[Callable[[], Step]]] = {
    Way.ATOMIC: (MaintainStep, CloneStep, HoldStep, BackUpStep, ApplyStep, VerifyStep, CommitStep, LiftStep),
    Way.BLUEGREEN: (MaintainStep, CloneStep, CopyStep, BackUpStep, ApplyStep, VerifyStep, SwapStep, LiftStep),
    Way.STEPWISE: (MaintainStep, CloneStep, BackUpStep, ApplyStep, VerifyStep, LiftStep),
    Way.RESTORE: (MaintainStep, RestoreStep, SwapStep, LiftStep),
    Way.SWAP_BACK: (MaintainStep, UnwrittenStep, SwapStep, LiftStep),
}


def preflight_of(run: Run) -> Step:
    """What looks before anything is touched: for a changelog it chooses the way, what is done by hand has its own."""
    match run.record.way:
        case Way.RESTORE:
            return RestorePreflightStep()
        case Way.SWAP_BACK:
            return SwapBackPreflightStep()
    return PreflightStep()


def success_of(run: Run) -> Outcome:
    """The outcome of a run whose last step has ended."""
    return Outcome.BROUGHT_BACK if run.record.way in {Way.RESTORE, Way.SWAP_BACK} else Outcome.MIGRATED


def command_of(run: Run) -> str:
    """What begins the same once more, to be typed."""
    if run.facts.takes_back is not None:
        return f"migrator rollback {run.facts.takes_back} --env {run.record.environment}"
    if run.record.way is Way.RESTORE:
        return f"migrator backup restore {run.facts.backup_id} --env {run.record.environment}"
    if run.undoes:
        return f"migrator rollback {run.undo} --env {run.record.environment}"
    return f"migrator run {shlex.quote(run.record.changelog)} --env {run.record.environment}"


def steps_of(run: Run) -> list[Step]:
    """The steps after preflight, in order; a clone is a step only where the environment asks for one."""
    if run.record.way is None:
        return []
    without = set() if "clone" in run.environment.backup.kinds else {CloneStep}
    return [make() for make in _WAYS[run.record.way] if make not in without]
