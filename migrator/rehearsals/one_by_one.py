"""Each changeset by itself: applied, undone, compared with what was there, applied again.

So a rollback answers for itself alone, whatever those of other changesets do. Liquibase commits each, as the stepwise
way and its ladder let it. A backfill is done once, after its changeset: those that follow need its rows. That it can be
taken back is shown by the run's own rollback, on another copy.
"""

from __future__ import annotations

import time
from contextlib import closing

from migrator.backfills import mover, verifying
from migrator.backfills.definition import Backfill
from migrator.backfills.mover import Work
from migrator.errors import MigrationFailed, Refused, StepFailed
from migrator.liquibase.models import Changeset, ChangesetEvent, Updated
from migrator.liquibase.session import Liquibase
from migrator.plans.attestation import Rollback
from migrator.rehearsals import moment
from migrator.rehearsals.moment import Moment
from migrator.rehearsals.outlook import Outlook
from migrator.rehearsals.record import RehearsalRecord, RehearsedRecord
from migrator.runs import liquibase_session
from migrator.runs.record import StepName
from migrator.runs.run import Run
from migrator.runs.signals import signals

_STAYS_PENDING = {"skipped", "failed_ignored"}
_NOT_UNDONE = {
    "mark_ran": "was only marked as ran, so its rollback would undo what was never done",
    "reran": "had run before, so its rollback would undo more than this",
}


class OneByOne:
    """The changesets of `outlook` on one scratch copy, whose run is `trial`; what is found goes into `record`."""

    def __init__(self, trial: Run, outlook: Outlook, record: RehearsalRecord) -> None:
        self._trial = trial
        self._outlook = outlook
        self._record = record
        self._tried = 0  # changesets that stay pending although they ran, so that they come first again
        self._run_again: set[str] = set()  # tables that those of them write which run every time
        self._applied = 0  # rows that the ledger has got
        self._now = Moment(objects={}, tables={}, sequences={})
        self.start = self._now  # the copy before anything was done
        self.written: dict[str, frozenset[str]] = {}  # key of a changeset -> the tables that it wrote

    def go(self) -> bool:
        """Every changeset was tried, as far as they can be applied. Whether the copy is what it was.

        Raises: StepFailed when the copy cannot be looked at.
        """
        with liquibase_session.opened(self._trial, mode="stepwise") as liquibase:
            self.start = self._now = self._look()
            for place, changeset in enumerate(self._outlook.changesets):
                if not self._try(liquibase, changeset, self._record.changesets[place], place):
                    return False
                for one in self._outlook.backfills:
                    if one.changeset == changeset.key and not self._move(one.backfill):
                        return False
            return self._back_to_start(liquibase)

    def _try(self, liquibase: Liquibase, changeset: Changeset, told: RehearsedRecord, place: int) -> bool:
        """Whether the changeset is applied in the end, or passed over as it would be, so that the next can be tried."""
        self._say("applying", changeset, place)
        before, updated = self._now, self._apply(liquibase, changeset, "apply_failed")
        if updated is None:
            told.status = "failed"
            return False
        told.status, told.apply_s = _result(updated, changeset)
        if told.status in _STAYS_PENDING:
            self._tried += 1
            return True
        self._applied += 1
        self.written[changeset.key] = updated.write_set
        if told.status not in _NOT_UNDONE and changeset.has_rollback:
            self._say("undoing", changeset, place)
            is_applied = self._undo(liquibase, changeset, told, before=before, applied=updated)
        else:
            is_applied = True
            self._now = self._look(_written(updated), before)
            if changeset.has_rollback:
                self._record.find("not_undone", f"{changeset.key} {_NOT_UNDONE[told.status]}.", severity="warning")
            else:
                told.rollback = "none"
        if changeset.run_always:
            self._tried += 1
            self._run_again |= updated.write_set
        return is_applied

    def _undo(
        self, liquibase: Liquibase, changeset: Changeset, told: RehearsedRecord, *, before: Moment, applied: Updated
    ) -> bool:
        """What the rollback loses is in the record. Whether the changeset is applied again."""
        began = time.monotonic()
        try:
            undone = liquibase.rollback_count(self._record.changelog, 1, timeout_s=self._timeout_s)
        except MigrationFailed as error:
            told.rollback = "fails"
            self._record.find(
                "rollback_fails",
                f"The rollback of {changeset.key} failed: {error.message}",
                severity="error",
                hint="Correct the rollback in the changelog.",
            )
            self._now = self._look()  # what it did before it failed may have been committed
            return True
        told.rollback_s = round(time.monotonic() - began, 3)
        after = self._look(_both(applied, undone), before)
        told.losses = [loss for loss in moment.losses(before, after) if loss.what not in self._run_again]
        told.rollback = "loses" if told.losses else self._restores
        again = self._apply(liquibase, changeset, "apply_again_failed")
        self._now = self._look() if again is None else self._look(_written(again), after)
        return again is not None

    def _move(self, backfill: Backfill) -> bool:
        """Whether the rows are moved, and as they should be."""
        trial = self._trial
        work = Work(login=trial.work_login, schema=trial.ledger_schema, run_id=trial.id, connect=trial.session)
        try:
            mover.move(
                backfill,
                work,
                on_progress=lambda told: trial.progress(StepName.VERIFY, f"backfill {told.name}: {told.rows:,} rows"),
                check=signals.check,
            )
        except (MigrationFailed, Refused) as error:
            self._record.find("backfill_failed", error.message, severity="error", hint=error.hint)
            return False
        with closing(trial.session("verify", read_only=True)) as session:
            verdict = verifying.ask(session, backfill)
        if verdict.violations:
            self._record.find(
                "backfill_wrong",
                f"Backfill {backfill.name}: its verify query finds {verdict.violations:,} rows that are not as they "
                f"should be: {', '.join(verdict.sample[:3])}.",
                severity="error",
                hint="Correct its statement, or its query.",
            )
        self._now = self._look()
        return not verdict.violations

    def _apply(self, liquibase: Liquibase, changeset: Changeset, code: str) -> Updated | None:
        """None where it failed, which is in the record."""
        try:
            return liquibase.update(
                self._record.changelog, count=self._tried + 1, on_event=_ignore, timeout_s=self._timeout_s
            )
        except MigrationFailed as error:
            named = error.message if changeset.key in error.message else f"{changeset.key}: {error.message}"
            when = "after its rollback, " if code == "apply_again_failed" else ""
            self._record.find(code, _sentence(f"{when}{named}"), severity="error", hint=error.hint)
            return None

    def _back_to_start(self, liquibase: Liquibase) -> bool:
        """Whether all of it could be undone, and the copy is what it was before."""
        if any(one.rollback != self._restores for one in self._record.changesets) or self._run_again:
            return False
        if self._outlook.backfills:
            return False
        try:
            liquibase.rollback_count(self._record.changelog, self._applied, timeout_s=self._timeout_s)
        except MigrationFailed:
            return False  # a copy of its own will tell: in the run's own rollback
        return not moment.losses(self.start, self._look())

    def _look(self, written: frozenset[str] | None = None, since: Moment | None = None) -> Moment:
        with closing(self._trial.session("verify", read_only=True)) as session:
            return moment.take(session, words=self._outlook.words, since=since, written=written)

    def _say(self, doing: str, changeset: Changeset, place: int) -> None:
        total = len(self._outlook.changesets)
        self._trial.progress(StepName.VERIFY, f"{doing} {place + 1}/{total} {changeset.key}", place / total)

    @property
    def _restores(self) -> Rollback:
        """Without rows nobody has seen what becomes of them."""
        return "restores" if self._record.with_data else "restores_schema"

    @property
    def _timeout_s(self) -> float:
        return self._trial.environment.limits.migration_timeout_s


def _result(updated: Updated, changeset: Changeset) -> tuple[str, float | None]:
    for result in reversed(updated.changesets):
        if (result.path, result.id, result.author) == (changeset.path, changeset.id, changeset.author):
            return result.status, None if result.duration_s is None else round(result.duration_s, 3)
    raise StepFailed(
        f"Liquibase was to run {changeset.key} and ran {', '.join(r.id for r in updated.changesets) or 'nothing'}.",
        code="another_changeset",
    )


def _written(updated: Updated) -> frozenset[str] | None:
    """None where some of it ran outside a transaction, with no moment to look at its locks."""
    return None if updated.outside_transaction else updated.write_set


def _both(one: Updated, other: Updated) -> frozenset[str] | None:
    first, second = _written(one), _written(other)
    return None if first is None or second is None else first | second


def _ignore(_event: ChangesetEvent) -> None:
    pass


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."
