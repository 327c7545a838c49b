"""Each changeset applied by itself, and undone by itself, newest first: does its rollback restore what was there?

Liquibase commits each, as the stepwise way and its ladder let it. Between any two the copy is looked at.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing

from migrator.errors import MigrationFailed, StepFailed
from migrator.liquibase.models import Changeset, ChangesetEvent, Updated
from migrator.liquibase.session import Liquibase
from migrator.rehearsals import moment
from migrator.rehearsals.moment import Moment
from migrator.rehearsals.outlook import Outlook
from migrator.rehearsals.record import RehearsalRecord
from migrator.runs import liquibase_session
from migrator.runs.record import StepName
from migrator.runs.run import Run

_STAYS_PENDING = {"skipped", "failed_ignored"}
_NOT_ITS_OWN = {
    "mark_ran": "was only marked as ran, so its rollback would undo what was never done",
    "reran": "had run before, so its rollback would undo more than this",
}


class OneByOne:
    """The way up and down on one scratch copy, whose run is `trial`; what is found goes into `record`."""

    def __init__(self, trial: Run, outlook: Outlook, record: RehearsalRecord) -> None:
        self._trial = trial
        self._outlook = outlook
        self._record = record
        self._moments: list[Moment] = []  # the one before each changeset that was applied, and the last
        self._applied: list[int] = []  # their places among the changesets
        self.written: dict[str, frozenset[str]] = {}  # key of a changeset -> the tables that it wrote

    @property
    def start(self) -> Moment:
        """The copy before anything was done."""
        return self._moments[0]

    def go(self) -> bool:
        """Every changeset was applied and undone. Whether the copy is what it was.

        Raises: StepFailed when the copy cannot be looked at.
        """
        with liquibase_session.opened(self._trial, mode="stepwise") as liquibase:
            self._moments.append(self._look())
            self._up(liquibase)
            whole = self._down(liquibase)
        return whole and not moment.losses(self.start, self._moments[-1])

    def _up(self, liquibase: Liquibase) -> None:
        tried = 0  # changesets that stay pending although they ran, so that they come first again
        for place, (changeset, told) in enumerate(zip(self._outlook.changesets, self._record.changesets, strict=True)):
            self._say(f"applying {place + 1}/{len(self._outlook.changesets)} {changeset.key}", place)
            began = time.monotonic()
            try:
                updated = liquibase.update(
                    self._record.changelog, count=tried + 1, on_event=_ignore, timeout_s=self._timeout_s
                )
            except MigrationFailed as error:
                told.status = "failed"
                self._record.find(
                    "apply_failed",
                    _sentence(error.message),
                    severity="error",
                    hint=error.hint,
                )
                return
            told.status, took_s = _result(updated, changeset)
            told.apply_s = round(took_s if took_s is not None else time.monotonic() - began, 3)
            if told.status in _STAYS_PENDING or changeset.run_always:
                tried += 1
            if told.status not in _STAYS_PENDING:
                self._applied.append(place)
                self.written[changeset.key] = updated.write_set
                self._moments.append(self._look(_written(updated), self._moments[-1]))

    def _down(self, liquibase: Liquibase) -> bool:
        """Whether every changeset that was applied was undone."""
        now = self._moments[-1]
        for step in reversed(range(len(self._applied))):
            changeset = self._outlook.changesets[self._applied[step]]
            told = self._record.changesets[self._applied[step]]
            if told.status in _NOT_ITS_OWN:
                self._record.find(
                    "not_undone",
                    f"{changeset.key} {_NOT_ITS_OWN[told.status]}: neither it nor what came before it was undone.",
                    severity="warning",
                )
                return False
            if not changeset.has_rollback:
                told.rollback = "none"
                self._note_others_without(self._applied[:step])
                return False
            self._say(f"undoing {len(self._applied) - step}/{len(self._applied)} {changeset.key}", step)
            began = time.monotonic()
            try:
                updated = liquibase.rollback_count(self._record.changelog, 1, timeout_s=self._timeout_s)
            except MigrationFailed as error:
                told.rollback = "fails"
                self._record.find(
                    "rollback_fails",
                    f"The rollback of {changeset.key} failed: {error.message}",
                    severity="error",
                    hint="Correct the rollback in the changelog.",
                )
                self._note_others_without(self._applied[:step])
                return False
            told.rollback_s = round(time.monotonic() - began, 3)
            before, above = self._moments[step], now
            now = self._look(_written(updated), above)
            # What a changeset above has lost already is not this one's fault.
            known = {(loss.what, loss.column) for loss in moment.losses(self._moments[step + 1], above)}
            told.losses = [loss for loss in moment.losses(before, now) if (loss.what, loss.column) not in known]
            told.rollback = "loses" if told.losses else "restores"
        self._moments.append(now)
        return True

    def _note_others_without(self, places: Sequence[int]) -> None:
        for place in places:
            if not self._outlook.changesets[place].has_rollback:
                self._record.changesets[place].rollback = "none"

    def _look(self, written: frozenset[str] | None = None, since: Moment | None = None) -> Moment:
        with closing(self._trial.session("verify", read_only=True)) as session:
            return moment.take(session, words=self._outlook.words, since=since, written=written)

    def _say(self, text: str, done: int) -> None:
        total = max(1, len(self._outlook.changesets))
        self._trial.progress(StepName.APPLY, text, done / total)

    @property
    def _timeout_s(self) -> float:
        return self._trial.environment.limits.migration_timeout_s


def _result(updated: Updated, changeset: Changeset) -> tuple[str, float | None]:
    for result in reversed(updated.changesets):
        if (result.path, result.id, result.author) == (changeset.path, changeset.id, changeset.author):
            return result.status, result.duration_s
    raise StepFailed(
        f"Liquibase was to run {changeset.key} and ran {', '.join(r.id for r in updated.changesets) or 'nothing'}.",
        code="another_changeset",
    )


def _written(updated: Updated) -> frozenset[str] | None:
    """None where some of it ran outside a transaction, with no moment to look at its locks."""
    return None if updated.outside_transaction else updated.write_set


def _ignore(_event: ChangesetEvent) -> None:
    pass


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."
