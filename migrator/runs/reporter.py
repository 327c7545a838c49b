"""Who is told what a run does while it does it. The console is one; a silent one serves `--json` and tests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from migrator.runs.record import BackfillRecord, ChangesetRecord, CheckRecord, RunRecord, StepName


class Reporter(Protocol):
    """Told of a run's progress, in order, from any thread. A reporter never raises."""

    def started(self, record: RunRecord) -> None:
        """The run has an id; nothing was touched yet. Also called when a run is resumed."""
        ...

    def step_started(self, name: StepName, title: str) -> None:
        """A step begins. `title` says in a few words what it does: "back up"."""
        ...

    def step_progress(self, name: StepName, text: str, done: float | None) -> None:
        """How far a step is: one line, and the fraction done (0 to 1) or None where that is not known."""
        ...

    def step_ended(self, name: StepName, status: str, duration_s: float, note: str | None) -> None:
        """A step ended. `status` is that of StepRecord: done, failed, undone or interrupted."""
        ...

    def changeset(self, changeset: ChangesetRecord, number: int, total: int) -> None:
        """A changeset was begun (status "running") or ended (its final status); `number` counts from 1 to `total`."""
        ...

    def backfill(self, backfill: BackfillRecord) -> None:
        """A backfill was begun (state "running") or ended (verified, undone)."""
        ...

    def check(self, check: CheckRecord) -> None:
        """A data-integrity check was evaluated."""
        ...

    def warning(self, text: str) -> None:
        """Something that a person should know, though the run goes on."""
        ...

    def finished(self, record: RunRecord, files: Sequence[Path]) -> None:
        """The run has ended and its reports, `files`, are written. Called once, last."""
        ...


class SilentReporter:
    """A reporter that says nothing."""

    def started(self, record: RunRecord) -> None:
        pass

    def step_started(self, name: StepName, title: str) -> None:
        pass

    def step_progress(self, name: StepName, text: str, done: float | None) -> None:
        pass

    def step_ended(self, name: StepName, status: str, duration_s: float, note: str | None) -> None:
        pass

    def changeset(self, changeset: ChangesetRecord, number: int, total: int) -> None:
        pass

    def backfill(self, backfill: BackfillRecord) -> None:
        pass

    def check(self, check: CheckRecord) -> None:
        pass

    def warning(self, text: str) -> None:
        pass

    def finished(self, record: RunRecord, files: Sequence[Path]) -> None:
        pass


class PassedOn:
    """Everything is passed on to the next reporter, save what a subclass tells somebody else besides."""

    def __init__(self, then: Reporter) -> None:
        self._then = then

    def started(self, record: RunRecord) -> None:
        self._then.started(record)

    def step_started(self, name: StepName, title: str) -> None:
        self._then.step_started(name, title)

    def step_progress(self, name: StepName, text: str, done: float | None) -> None:
        self._then.step_progress(name, text, done)

    def step_ended(self, name: StepName, status: str, duration_s: float, note: str | None) -> None:
        self._then.step_ended(name, status, duration_s, note)

    def changeset(self, changeset: ChangesetRecord, number: int, total: int) -> None:
        self._then.changeset(changeset, number, total)

    def backfill(self, backfill: BackfillRecord) -> None:
        self._then.backfill(backfill)

    def check(self, check: CheckRecord) -> None:
        self._then.check(check)

    def warning(self, text: str) -> None:
        self._then.warning(text)

    def finished(self, record: RunRecord, files: Sequence[Path]) -> None:
        self._then.finished(record, files)
