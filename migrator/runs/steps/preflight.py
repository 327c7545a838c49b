"""Everything that can refuse refuses here, before a user notices anything."""

from __future__ import annotations

from contextlib import closing

from migrator.errors import Locked, Refused, VerificationFailed
from migrator.liquibase import ledger
from migrator.plans import obstacles
from migrator.postgres import sessions
from migrator.postgres.session import Session
from migrator.runs import gates, inspection, liquibase_session, plan_document, planning, restore, stores, windows
from migrator.runs.planning import Planning
from migrator.runs.record import Outcome, StepName
from migrator.runs.run import Run
from migrator.runs.words import count


class PreflightStep:
    name = StepName.PREFLIGHT
    title = "preflight"
    undo_title: str | None = None

    def run(self, run: Run) -> str | None:
        """The plan is made and nothing stands in its way; or nothing is pending and the outcome is set.

        Raises: Refused naming everything that stands in the way, with the remedy of each.
        """
        made = Planning(run=run)
        made.screen()
        liquibase_session.start(run)  # the JVM starts while the server is asked
        if run.environment.checks.suites:
            inspection.start(run)  # its import takes seconds
        with closing(run.session("preflight", read_only=True)) as target:
            if not made.make(target):
                run.record.outcome = Outcome.NOTHING_TO_DO
                return "nothing to do"
            if not run.undoes:
                run.plan = plan_document.of(made)
                run.record.plan_digest = run.plan.digest
            self._liquibase_lock(run, target)  # first: its holder may be in the way himself
            made.find_obstacles(target)
            obstacles.refuse(made.obstacles)
        gates.pass_through(run)
        if run.environment.backup.kinds:
            stores.signing_key(run)  # one that cannot be read is told of before users are held off
        estimate_s = self._estimate(run, made)
        self._confirm(run)
        self._trial(run)
        self._checks_before(run)  # last: the process that runs the suites has been importing meanwhile
        self._ask_the_window_again(run, estimate_s)
        return f"{count(len(made.chosen), 'changeset')}, {run.record.way}; proof {run.record.proof.level}"

    def undo(self, run: Run) -> str | None:
        """Nothing: preflight only looks."""
        return None

    def _liquibase_lock(self, run: Run, target: Session) -> None:
        """Raises: Locked for a lock whose holder lives, Refused for a stale one where nobody is fenced off."""
        holder = ledger.lock_holder(target, run.ledger_schema)
        if holder is None:
            return
        who = f"{holder.locked_by} (since {holder.granted_at})"
        living = [
            one
            for one in sessions.foreign(run.the_admin(), run.database, own_run=run.id)
            if "liquibase" in one.application.lower() or "jdbc" in one.application.lower()
        ]
        if living:
            raise Locked(
                f"Another Liquibase holds the changelog lock: {who}, {living[0]}.",
                hint="Wait until it is done.",
            )
        if not run.offline:
            raise Refused(
                f"The changelog lock is set by {who}, and no session of it is alive.",
                hint="If that process is gone: UPDATE databasechangeloglock SET locked = false;",
            )
        run.warn(f"The changelog lock of {who} has no living holder: it is released behind the fence.")
        run.facts.stale_lock = True

    def _estimate(self, run: Run, made: Planning) -> float:
        """How long the run takes. Raises: Refused when backup and proof alone would outlast limits.max_downtime_s."""
        found = made.estimate()
        takes_s = found.before_s + run.rehearsed_s
        windows.refuse_overrun(run, takes_s)
        if run.environment.maintenance.database == "none":
            return takes_s
        refusal = planning.too_long(run, found)
        if refusal is not None:
            raise refusal
        if planning.may_need_restore(run) and found.restore_s > run.environment.limits.restore_max_s:
            run.warn(
                f"A restore would take about {found.restore_s:.0f} s, more than limits.restore_max_s: "
                "it would not be started without a person."
            )
        return takes_s

    def _ask_the_window_again(self, run: Run, estimate_s: float) -> None:
        """Raises: Refused when it has closed, or has become too short, while a person or the checks took their time."""
        if not run.options.rehearsal:
            windows.gate(run)
            windows.refuse_overrun(run, estimate_s)

    def _confirm(self, run: Run) -> None:
        """Raises: Refused when the answer is no."""
        if not run.environment.protected:
            return
        question = (
            f"{run.environment.name} is protected. {'Undo' if run.undoes else 'Apply'} "
            f"{count(len(run.facts.planned), 'changeset')} of "
            f"{run.record.changelog} {'in' if run.undoes else 'to'} {run.database}, {run.record.way}, maintenance "
            f"{run.environment.maintenance.database}?"
        )
        if not run.options.confirm(question):
            raise Refused("The answer was no.", hint="Nothing was touched. Pass --yes where nobody can answer.")

    def _checks_before(self, run: Run) -> None:
        if not run.relations:
            run.not_proven("The database had no table, so no check could look at it before, and none could compare.")
            return
        run.progress(self.name, "checks before")
        try:
            inspection.before(run)
        except VerificationFailed as error:
            raise Refused(
                f"The data does not hold already, before the migration: {error.message}",
                hint="Correct the data or the check; a rule that only holds afterwards says when: [after].",
            ) from error

    def _trial(self, run: Run) -> None:
        """Raises: Refused when a restore of the schema does not work here, where a restore may be needed."""
        if not planning.may_need_restore(run):
            return
        run.progress(self.name, "trying a restore of the schema")
        restore.try_schema(run)
