"""Everything that can refuse refuses here, before a user notices anything."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace

from migrator.errors import Locked, Refused, StepFailed, ToolFailed, VerificationFailed
from migrator.liquibase import changelog, ledger
from migrator.liquibase.models import Changeset, Undoable
from migrator.liquibase.session import Liquibase
from migrator.plans import copying, impact, obstacles, pending, proof, undo, way
from migrator.plans.obstacles import Obstacle
from migrator.postgres import catalog, schema_fingerprint, sessions, soundness
from migrator.postgres import obstacles as swap_obstacles
from migrator.postgres.catalog import Relation
from migrator.postgres.session import Session
from migrator.runs import gates, inspection, liquibase_session, restore, state, stores, undoing, windows
from migrator.runs.facts import Planned
from migrator.runs.record import ChangesetRecord, Outcome, ProofLevel, StepName, Way
from migrator.runs.run import Picture, Run
from migrator.runs.words import count

_DUMP_BYTES_PER_S = 60e6  # one connection, compressed; slow on purpose, so that the estimate is on the safe side
_NO_RESTORE = "mend it, or set backup.restore = 'never', or way = 'atomic'"
_RESTORE_BYTES_PER_S = 40e6
_COPY_BYTES_PER_S = 200e6


class PreflightStep:
    name = StepName.PREFLIGHT
    title = "preflight"
    undo_title: str | None = None

    def run(self, run: Run) -> str | None:
        """The plan is made and nothing stands in its way; or nothing is pending and the outcome is set.

        Raises: Refused naming everything that stands in the way, with the remedy of each.
        """
        if not run.undoes:  # else the ledger says first which changelogs there are to look at
            screened = changelog.screen(run.config.liquibase.root, run.record.changelog, run.parameters)
            for one in screened.findings:
                run.warn(f"{one.file}{f':{one.line}' if one.line else ''}: {one.message}")
        liquibase_session.start(run)  # the JVM starts while the server is asked
        if run.environment.checks.suites:
            inspection.start(run)  # its import takes seconds
        found = list(obstacles.of_server(run.server)) if run.server is not None else []
        with closing(run.session("preflight", read_only=True)) as target:
            found += obstacles.of_pooler(target)
            run.relations = catalog.tables(target)
            run.facts.existing = [relation.qualified for relation in run.relations]
            held = ledger.read(target, run.ledger_schema)
            run.facts.unsound_before = sorted(soundness.unsound(target))
            changesets = self._undoable(run, target, held) if run.undoes else self._pending(run, target, held)
            if not changesets:
                run.record.outcome = Outcome.NOTHING_TO_DO
                return "nothing to do"
            self._plan(run, changesets, held)
            found += self._obstacles(run, target)
        _refuse(found)
        gates.pass_through(run)
        self._liquibase_lock(run)
        self._estimate(run)
        self._confirm(run)
        self._trial(run)
        self._checks_before(run)  # last: the process that runs the suites has been importing meanwhile
        return f"{count(len(changesets), 'changeset')}, {run.record.way}; proof {run.record.proof.level}"

    def undo(self, run: Run) -> str | None:
        """Nothing: preflight only looks."""
        return None

    def _pending(
        self, run: Run, target: Session, held: list[ledger.LedgerRow] | None
    ) -> Sequence[Changeset | Undoable]:
        run.progress(self.name, "reading the changelog")
        with liquibase_session.opened(run, mode="read_only") as liquibase:
            known = liquibase.changesets(run.record.changelog)
            found = pending.pending(known, held, run.config.liquibase.root)
            if found and "dump" in run.environment.backup.kinds:
                run.picture = self._picture(run, target, liquibase)
        return found

    def _undoable(
        self, run: Run, target: Session, held: list[ledger.LedgerRow] | None
    ) -> Sequence[Changeset | Undoable]:
        chosen = undoing.rows(run, held)
        if not chosen:
            return []
        undoing.name_changelogs(run, chosen)
        run.progress(self.name, "reading the changelog")
        with liquibase_session.opened(run, mode="read_only") as liquibase:
            found = undoing.plan(run, chosen, liquibase)
            if "dump" in run.environment.backup.kinds:
                run.picture = self._picture(run, target, liquibase)
        return found

    def _picture(self, run: Run, target: Session, liquibase: Liquibase) -> Picture | None:
        """Taken here, where nobody waits; the backup takes another one if the schema is no longer the same."""
        digest = schema_fingerprint.of_schema(target).digest
        try:
            return Picture(text=liquibase.snapshot(), schema_digest=digest)
        except ToolFailed:
            raise
        except StepFailed:
            return None  # the backup tries again, and says so

    def _plan(self, run: Run, changesets: Sequence[Changeset | Undoable], held: list[ledger.LedgerRow] | None) -> None:
        environment, facts = run.environment, run.facts
        had = {row.key for row in held or []}
        facts.planned = [
            Planned(
                path=c.path,
                id=c.id,
                author=c.author,
                has_rollback=c.has_rollback,
                checksum=c.checksum if isinstance(c, Changeset) else None,
                rerun=not run.undoes and (c.path, c.id, c.author) in had,
            )
            for c in changesets
        ]
        run.record.changesets = [
            ChangesetRecord(id=c.id, author=c.author, path=c.path, status=run.status_before) for c in changesets
        ]
        undone = [one for one in changesets if isinstance(one, Undoable)]
        found = undoing.impact_of(undone, run.relations) if undone else impact.of(changesets, run.relations)
        facts.words, facts.named, facts.written = sorted(found.words), sorted(found.named), sorted(found.written)
        choice = way.choose(
            environment.way,
            changesets,
            protected=environment.protected,
            maintenance=environment.maintenance.database,
            hindrances=self._hindrances(run),
        )
        has_dump = "dump" in environment.backup.kinds
        accepted = run.options.accept_no_way_back
        mode, policy = environment.maintenance.database, environment.backup.restore
        if run.undoes:  # nobody writes the rollback of a rollback: what was committed halfway needs a restore
            changesets = [replace(one, has_rollback=False) for one in changesets]
        refuse = undo.refuse_without_way_back if run.undoes else way.refuse_without_way_back
        for warning in refuse(
            choice, changesets, maintenance=mode, has_dump=has_dump, restore=policy, accepted=accepted
        ):
            run.warn(warning)
        choice = way.without_hopeless_fallback(
            choice, changesets, maintenance=mode, has_dump=has_dump, restore=policy, accepted=accepted
        )
        run.record.way, run.record.way_reason = Way(choice.way), choice.reason
        run.record.fallback = Way(choice.fallback) if choice.fallback else None
        planned = proof.choose(
            environment.proof,
            [r for r in run.relations if not inspection.is_ledger(r.qualified)],
            found.named,
            budget_s=environment.limits.proof_budget_s,
            jobs=environment.backup.jobs,
            estimate_s=catalog.scan_estimate_s,
        )
        run.record.proof.level = ProofLevel(planned.level)
        facts.fingerprinted = None if planned.level == "full" else sorted(planned.tables)

    def _hindrances(self, run: Run) -> list[Obstacle] | None:
        """What keeps the database from being copied and swapped; None where nobody asks for that."""
        environment = run.environment
        by_itself = environment.way == "auto" and environment.bluegreen
        if run.server is None or not (by_itself or environment.way == "bluegreen"):
            return None
        copies = 2 if "clone" in environment.backup.kinds else 1
        return copying.hindrances(
            copying.Target(admin=run.the_admin(), login=run.login, server=run.server, copies=copies),
            maintenance=environment.maintenance.database,
            by_itself=by_itself,
        )

    def _obstacles(self, run: Run, target: Session) -> list[Obstacle]:
        environment = run.environment
        mode = environment.maintenance.database
        admin = run.the_admin()
        found = obstacles.of_database(admin, run.database, offline=run.offline, own_run=run.id)
        found += obstacles.of_privileges(
            admin,
            run.database,
            fenced=mode != "none",
            creates_databases=may_need_restore(run) or "clone" in environment.backup.kinds,
            terminates=mode != "none",
        )
        if may_need_restore(run) and not found:  # else it would say the same in other words
            found += [Obstacle(what=one, remedy=_NO_RESTORE) for one in swap_obstacles.to_swap(admin, run.database)]
        read = run.relations if environment.backup.kinds else state.wanted(run.relations, run.facts.fingerprinted)
        found += obstacles.of_reading(target, read)
        passing = obstacles.passes_the_fence(admin, run.database, mode=mode, user=run.login.user)
        if passing is not None:
            run.not_proven(f"{passing} None of them was seen while it stood, unless this report says so.")
        if "dump" in environment.backup.kinds:
            stores.tools(run)
            found += self._room(run)
        return found

    def _room(self, run: Run) -> list[Obstacle]:
        needed = _size_bytes(run.relations)
        free = stores.of(run).free_bytes()
        if free >= needed:
            return []
        return [
            Obstacle(
                what=f"the store {run.environment.backup.store} has {free / 1e6:.0f} MB free, "
                f"the tables are {needed / 1e6:.0f} MB",
                remedy="make room, or name another folder as backup.store",
            )
        ]

    def _liquibase_lock(self, run: Run) -> None:
        """Raises: Locked for a lock whose holder lives, Refused for a stale one where nobody is fenced off."""
        with closing(run.session("preflight", read_only=True)) as target:
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

    def _estimate(self, run: Run) -> None:
        """Raises: Refused when backup and proof alone would outlast limits.max_downtime_s."""
        mode = run.environment.maintenance.database
        if mode == "none":
            return
        jobs = run.environment.backup.jobs
        size = _size_bytes(run.relations)
        backup_s = size / _DUMP_BYTES_PER_S / jobs if "dump" in run.environment.backup.kinds else 0.0
        proof_s = catalog.scan_estimate_s(state.wanted(run.relations, run.facts.fingerprinted)) / jobs
        if run.record.way is Way.BLUEGREEN:
            backup_s += size / _COPY_BYTES_PER_S
        limit_s = run.environment.limits.max_downtime_s
        if backup_s + proof_s > limit_s:
            raise Refused(
                f"Backup (about {backup_s:.0f} s) and proof (about {proof_s:.0f} s) would take longer than "
                f"limits.max_downtime_s = {limit_s:g}.",
                hint="Raise the limit, choose proof = 'touched' or 'write_set', or profile = 'online'.",
            )
        windows.refuse_overrun(run, backup_s + proof_s)
        restore_s = run.facts.restore_estimate_s = size / _RESTORE_BYTES_PER_S / jobs
        if may_need_restore(run) and restore_s > run.environment.limits.restore_max_s:
            run.warn(
                f"A restore would take about {restore_s:.0f} s, more than limits.restore_max_s: "
                "it would not be started without a person."
            )

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
        if not may_need_restore(run):
            return
        run.progress(self.name, "trying a restore of the schema")
        restore.try_schema(run)


def may_need_restore(run: Run) -> bool:
    """Whether the ladder may reach the backup: only a run that commits on its way, or may fall back to one."""
    backup = run.environment.backup
    stepwise = Way.STEPWISE in {run.record.way, run.record.fallback}
    return stepwise and run.offline and "dump" in backup.kinds and backup.restore != "never"


def _refuse(found: list[Obstacle]) -> None:
    if not found:
        return
    if len(found) == 1:
        raise Refused(f"{found[0].what[0].upper()}{found[0].what[1:]}.", hint=f"{found[0].remedy}.")
    raise Refused(
        f"{len(found)} things stand in the way: " + "; ".join(one.what for one in found) + ".",
        hint="; ".join(dict.fromkeys(one.remedy for one in found)) + ".",
    )


def _size_bytes(relations: list[Relation]) -> int:
    return sum(relation.pages_bytes for relation in relations)
