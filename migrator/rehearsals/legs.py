"""The real thing on a scratch copy: the steps of a run, of its rollback, and of the run once more."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from migrator.errors import Interrupted
from migrator.failpoints import Effect, effect
from migrator.postgres.connect import PgSession
from migrator.rehearsals import moment
from migrator.rehearsals.outlook import Outlook
from migrator.rehearsals.record import LegRecord, RehearsalRecord
from migrator.rehearsals.scratch import Scratch
from migrator.runs import engine, opening
from migrator.runs.facts import Facts, Undo
from migrator.runs.journal import Journal
from migrator.runs.record import (
    BackfillRecord,
    ChangesetRecord,
    CheckRecord,
    Direction,
    Outcome,
    RunRecord,
    StepName,
)
from migrator.runs.reporter import Reporter
from migrator.runs.run import Run
from migrator.runs.signals import signals
from migrator.runs.words import count

_LEFT_OUT = "left out"


class Legs:
    """Apply, roll back, apply again, each a run of its own in a journal of their own."""

    def __init__(self, run: Run, copy: Scratch, outlook: Outlook, record: RehearsalRecord) -> None:
        self._run = run
        self._copy = copy
        self._outlook = outlook
        self._record = record
        self._way = "stepwise" if outlook.choice.way == "bluegreen" else outlook.choice.way
        self._journal = run.folder / "journal.db"

    def go(self) -> RunRecord | None:
        """The legs are in the record, with what they proved; the first of them, where it was migrated.

        Raises: Interrupted.
        """
        with closing(self._session()) as session:
            before = moment.take(session, words=self._outlook.words)
        first = self._apply("apply")
        if first.outcome is not Outcome.MIGRATED:
            self._leave_out(["roll back", "apply again"], "the changelog was not applied")
            return None
        without = [one.key for one in self._outlook.changesets if not one.has_rollback]
        if without:
            more = f" (nor have {len(without) - 1} others)" if without[1:] else ""
            self._leave_out(["roll back", "apply again"], f"{without[0]} has no rollback{more}")
            return first
        undone = self._roll_back(first)
        if undone.outcome is not Outcome.MIGRATED:
            self._leave_out(["apply again"], "the changelog was not rolled back")
            return first
        self._prove(before)
        self._apply("apply again")
        return first

    def _apply(self, name: str) -> RunRecord:
        leg = self._leg(name, way=self._way)
        self._execute(leg, name)
        error = leg.record.error
        if error is not None and error.code == "transaction_lost" and self._outlook.choice.fallback is not None:
            self._record.find(
                "fallback",
                f"Not possible in one transaction: {error.message} A run would go on {self._outlook.choice.fallback}, "
                "and so does this rehearsal.",
                severity="warning",
            )
            self._record.legs.pop()
            self._way = "stepwise"
            return self._apply(name)
        if leg.record.outcome is not Outcome.MIGRATED:
            self._failed(name.replace(" ", "_"), leg.record)
        return leg.record

    def _roll_back(self, first: RunRecord) -> RunRecord:
        undo = Undo(run_id=first.run_id)
        leg = self._leg("roll back", way="auto", undo=undo)
        self._execute(leg, "roll back")
        if leg.record.outcome is not Outcome.MIGRATED:
            self._failed("roll_back", leg.record)
        return leg.record

    def _prove(self, before: moment.Moment) -> None:
        """The copy is what it was before the first leg; what of it is not is told, once."""
        with closing(self._session()) as session:
            found = moment.losses(before, moment.take(session, words=self._outlook.words))
        leg = self._record.legs[-1]
        if not found:
            tables = count(len(before.tables), "table")
            what = f"rows and values of {tables}, sequences" if self._copy.has_data else "sequences; no row was there"
            leg.proven.append(f"After it the copy is what it was: schema, {what}.")
            return
        leg.not_proven.append(
            f"The copy is what it was: {'; '.join(loss.sentence for loss in found[:5])}{' ...' if found[5:] else ''}."
        )
        if not any(one.losses for one in self._record.changesets):
            self._record.find(
                "not_restored",
                f"After the rollback of all changesets the copy is not what it was: {found[0].sentence}"
                + (f" (and {len(found) - 1} more)." if found[1:] else "."),
                severity="error",
                hint="Correct the rollbacks in the changelog.",
            )

    @effect(Effect.WORK_FILE)
    def _leg(self, name: str, *, way: str, undo: Undo | None = None) -> Run:
        trial = self._copy.run_of(self._run)
        environment = trial.environment
        limits = environment.limits.model_copy(update={"max_blocked_s": None})
        proof = "touched" if environment.proof == "write_set" else environment.proof
        checks = (
            environment.checks
            if self._copy.has_data
            else environment.checks.model_copy(update={"suites": (), "invariants": ()})
        )
        run_id = opening.new_id(self._run.now())
        folder = self._run.folder / name.replace(" ", "-")
        folder.mkdir(mode=0o700, exist_ok=True)
        record = trial.record.model_copy(
            update={
                "run_id": run_id,
                "started_at": self._run.now(),
                "direction": Direction.UPDATE if undo is None else Direction.ROLLBACK,
                "changelog": self._run.record.changelog if undo is None else str(undo),
                "versions": {},
            },
            deep=True,
        )
        return replace(
            trial,
            environment=environment.model_copy(
                update={"way": way, "bluegreen": False, "limits": limits, "checks": checks, "proof": proof}
            ),
            record=record,
            facts=Facts(changelog_parameters=dict(self._run.facts.changelog_parameters), undo=undo),
            options=replace(self._run.options, accept_no_way_back=True, rehearsal=True),
            journal=Journal.open(f"sqlite:///{self._journal}", self._run.folder),
            reporter=_Quiet(self._run.reporter),
            folder=folder,
            write_reports=_nowhere,
        )

    def _execute(self, leg: Run, name: str) -> None:
        self._run.progress(StepName.VERIFY, name)
        try:
            engine.execute(leg)
        finally:
            leg.journal.close()
            signals.deaf = False  # the engine closes its ears at the end of a run; the rehearsal goes on
        record = leg.record
        took_s = ((record.ended_at or leg.now()) - record.started_at).total_seconds()
        self._record.legs.append(
            LegRecord(
                name=name,
                run_id=record.run_id,
                outcome=str(record.outcome),
                duration_s=round(took_s, 3),
                proven=list(record.proof.proven),
                not_proven=list(record.proof.not_proven),
                note=record.error.message if record.error is not None else None,
            )
        )
        self._record.versions |= record.versions
        if record.error is not None and record.error.code == "interrupted":
            raise Interrupted(record.error.message, hint="The scratch copy is dropped; the target was only read.")

    def _failed(self, code: str, record: RunRecord) -> None:
        error = record.error
        what = error.message if error is not None else str(record.outcome)
        if code == "apply" and any(one.code == "apply_failed" for one in self._record.findings):
            return  # told of already, changeset by changeset
        self._record.find(
            f"{code}_failed",
            f"{_DOING[code]} failed on the copy ({record.outcome}): {what}",
            severity="error",
            hint=error.hint if error is not None else None,
        )

    def _leave_out(self, names: Sequence[str], why: str) -> None:
        for name in names:
            self._record.legs.append(LegRecord(name=name, outcome=_LEFT_OUT, note=why))

    def _session(self) -> PgSession:
        return self._copy.session("verify", read_only=True)


_DOING = {"apply": "The run", "roll_back": "The rollback of the run", "apply_again": "The run after the rollback"}


def _nowhere(_record: RunRecord) -> None:
    """A leg has no report of its own: the rehearsal's speaks of it."""


class _Quiet:
    """Passes on how far a leg is, as progress of the rehearsal; its verdict is the rehearsal's to tell."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter

    def started(self, record: RunRecord) -> None:
        pass

    def step_started(self, name: StepName, title: str) -> None:  # noqa: ARG002
        self._reporter.step_progress(StepName.VERIFY, title, None)

    def step_progress(self, name: StepName, text: str, done: float | None) -> None:  # noqa: ARG002
        self._reporter.step_progress(StepName.VERIFY, text, done)

    def step_ended(self, name: StepName, status: str, duration_s: float, note: str | None) -> None:
        pass

    def changeset(self, changeset: ChangesetRecord, number: int, total: int) -> None:
        self._reporter.step_progress(StepName.VERIFY, f"{number}/{total} {changeset.id} {changeset.status}", None)

    def backfill(self, backfill: BackfillRecord) -> None:
        self._reporter.step_progress(StepName.VERIFY, f"backfill {backfill.name} {backfill.state}", None)

    def check(self, check: CheckRecord) -> None:
        if not check.success:
            self._reporter.check(check)

    def warning(self, text: str) -> None:
        self._reporter.warning(text)

    def finished(self, record: RunRecord, files: Sequence[Path]) -> None:
        pass
