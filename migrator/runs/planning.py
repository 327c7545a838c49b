"""What a run would do, found out without writing: the one way in which a run's preflight and a plan come to it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from migrator.errors import MigratorError, Refused, StepFailed, ToolFailed
from migrator.liquibase import changelog, ledger
from migrator.liquibase.changelog import Screened
from migrator.liquibase.ledger import LedgerRow
from migrator.liquibase.models import Changeset, ChangesetState, Undoable
from migrator.liquibase.session import Liquibase
from migrator.plans import copying, estimate, impact, obstacles, own_tables, pending, proof, undo, way
from migrator.plans.estimate import Work
from migrator.plans.impact import Impact
from migrator.plans.obstacles import Obstacle
from migrator.plans.plan import Estimate
from migrator.plans.proof import ProofPlan
from migrator.plans.way import Applicable
from migrator.postgres import catalog, schema_fingerprint, soundness
from migrator.postgres import obstacles as swap_obstacles
from migrator.postgres.catalog import Relation
from migrator.postgres.schema_fingerprint import SchemaFingerprint
from migrator.postgres.session import Session
from migrator.runs import due, earlier, linting, liquibase_session, pinned, state, stores, undoing
from migrator.runs.facts import Planned
from migrator.runs.record import ChangesetRecord, ProofLevel, StepName, Way
from migrator.runs.run import Picture, Run

_NO_RESTORE = "mend it, or set backup.restore = 'never', or way = 'atomic'"


@dataclass(kw_only=True)
class Planning:
    """What was found out so far. A run lets an error through; a plan (`looks`) notes it as an obstacle and goes on."""

    run: Run
    looks: bool = False
    obstacles: list[Obstacle] = field(default_factory=list)
    screened: Screened | None = None
    held: list[LedgerRow] | None = None
    known: list[Changeset] = field(default_factory=list)  # every changeset of the changelog, and of the ledger
    chosen: Sequence[Changeset | Undoable] = ()  # what is to be executed, or undone
    schema: SchemaFingerprint | None = None
    impact: Impact | None = None
    proof: ProofPlan | None = None

    def screen(self) -> None:
        """The changelog asks for nothing that is refused outright; of a rollback the ledger says first which it is.

        Raises: Refused.
        """
        run = self.run
        if run.undoes:
            return
        self.screened = changelog.screen(run.config.liquibase.root, run.record.changelog, run.parameters)
        if not self.looks:
            pinned.remember(run)

    def make(self, target: Session) -> bool:
        """The record and the facts say what would be done, how, and with which proof; False: there is nothing to do.

        Raises: Refused, StepFailed.
        """
        run = self.run
        if run.server is not None:
            self.obstacles += obstacles.of_server(run.server)
        self.obstacles += obstacles.of_pooler(target)
        run.relations = catalog.tables(target)
        run.facts.existing = [relation.qualified for relation in run.relations]
        run.facts.tables_bytes = _size_bytes(run.relations)
        self.held = ledger.read(target, run.ledger_schema)
        run.facts.unsound_before = sorted(soundness.unsound(target))
        self.chosen = self._undoable(target) if run.undoes else self._pending(target)
        if not self.chosen:
            if not run.undoes:
                due.tell(run, target, self.known)
            return False
        self._note()
        with self.noting():
            self._note_backfills(target)
        self._look_for_findings(target)
        self._choose_way()
        self._choose_proof()
        return True

    def find_obstacles(self, target: Session) -> None:
        """Whatever else a run would be refused for is among the obstacles. Raises: StepFailed."""
        run, environment = self.run, self.run.environment
        mode, kinds = environment.maintenance.database, environment.backup.kinds
        admin = run.the_admin()
        with self.noting():
            found = obstacles.of_database(admin, run.database, offline=run.offline, own_run=run.id)
            found += obstacles.of_privileges(
                admin,
                run.database,
                fenced=mode != "none",
                creates_databases=may_need_restore(run) or "clone" in kinds,
                terminates=mode != "none",
            )
            if may_need_restore(run) and not found:  # else it would say the same in other words
                found += [Obstacle(what=one, remedy=_NO_RESTORE) for one in swap_obstacles.to_swap(admin, run.database)]
            self.obstacles += found
        with self.noting():
            read = run.relations if "dump" in kinds else state.wanted(run.relations, run.facts.fingerprinted)
            self.obstacles += obstacles.of_reading(target, read)
            passing = obstacles.passes_the_fence(admin, run.database, mode=mode, user=run.login.user)
            if passing is not None:
                run.not_proven(passing)
        if "dump" in kinds:
            with self.noting():
                stores.tools(run)
            with self.noting():
                self.obstacles += _room(run)

    def estimate(self) -> Estimate:
        """How long backup, proof and a restore take; the facts know it of the restore."""
        run, environment = self.run, self.run.environment
        found = estimate.of(
            Work(
                size_bytes=run.facts.tables_bytes,
                jobs=environment.backup.jobs,
                dumps="dump" in environment.backup.kinds,
                copies=run.record.way is Way.BLUEGREEN,
                hashed_s=catalog.scan_estimate_s(state.wanted(run.relations, run.facts.fingerprinted)),
            ),
            earlier.measured(run),
        )
        run.facts.restore_estimate_s = found.restore_s
        return found

    def _pending(self, target: Session) -> Sequence[Changeset | Undoable]:
        run = self.run
        run.progress(StepName.PREFLIGHT, "reading the changelog")
        with liquibase_session.opened(run, mode="read_only") as liquibase:
            self.known = liquibase.changesets(run.record.changelog, preconditions=self.looks and self.held is not None)
            found = [one for one in self.known if one.state is ChangesetState.PENDING]
            with self.noting():
                found = pending.pending(self.known, self.held, run.config.liquibase.root)
            if found:
                self.schema = schema_fingerprint.of_schema(target)
                self._take_picture(liquibase)
        return found

    def _undoable(self, target: Session) -> Sequence[Changeset | Undoable]:
        run = self.run
        rows = undoing.rows(run, self.held)
        if not rows:
            return []
        undoing.name_changelogs(run, rows)
        run.progress(StepName.PREFLIGHT, "reading the changelog")
        with liquibase_session.opened(run, mode="read_only") as liquibase:
            found = undoing.plan(run, rows, liquibase)
            self.schema = schema_fingerprint.of_schema(target)
            self._take_picture(liquibase)
        return found

    def _take_picture(self, liquibase: Liquibase) -> None:
        """Taken here, where nobody waits; the backup takes another one if the schema is no longer the same."""
        if self.looks or self.schema is None or "dump" not in self.run.environment.backup.kinds:
            return
        try:
            self.run.picture = Picture(text=liquibase.snapshot(), schema_digest=self.schema.digest)
        except ToolFailed:
            raise
        except StepFailed:
            return  # the backup tries again, and says so

    def _note(self) -> None:
        run, facts, changesets = self.run, self.run.facts, self.chosen
        had = {row.key for row in self.held or []}
        facts.planned = [
            Planned(
                path=c.path,
                id=c.id,
                author=c.author,
                has_rollback=c.has_rollback,
                checksum=c.checksum if isinstance(c, Changeset) else None,
                always=isinstance(c, Changeset) and c.run_always,
                rerun=not run.undoes and (c.path, c.id, c.author) in had,
                hides_writes=_hides_writes(c),
            )
            for c in changesets
        ]
        run.record.changesets = [
            ChangesetRecord(id=c.id, author=c.author, path=c.path, status=run.status_before) for c in changesets
        ]
        undone = [one for one in changesets if isinstance(one, Undoable)]
        found = undoing.impact_of(undone, run.relations) if undone else impact.of(changesets, run.relations)
        facts.words, facts.named, facts.written = sorted(found.words), sorted(found.named), sorted(found.written)
        self.impact = found

    def _note_backfills(self, target: Session) -> None:
        """What backfills read and write is named like what changesets do. Raises: Refused, StepFailed."""
        run, facts = self.run, self.run.facts
        if run.undoes:
            due.note_undone(run, target, [one for one in self.chosen if isinstance(one, Undoable)])
        else:
            files = self.screened.files if self.screened is not None else ()
            due.note(run, target, self.known, [one for one in self.chosen if isinstance(one, Changeset)], files)
        if not facts.backfills and not facts.required:
            return
        found = due.impact_of(run)
        facts.words = sorted({*facts.words, *found.words})
        facts.named = sorted({*facts.named, *found.named})
        facts.written = sorted({*facts.written, *found.written})
        facts.backfill_tables = sorted(found.named)
        self.obstacles += due.obstacles(run, target)

    def _look_for_findings(self, target: Session) -> None:
        """The run knows what the rules find; a plan shows it, a run's report tells it as warnings."""
        run = self.run
        if self.screened is None or run.options.rehearsal:
            return
        with self.noting():
            found = linting.look(run, self.screened, self.known, target)
            if not self.looks:
                linting.warn(run, found)

    def _choose_way(self) -> None:
        run, environment = self.run, self.run.environment
        changesets: Sequence[Applicable] = self.chosen
        run.record.way = run.record.fallback = None
        with self.noting():
            choice = way.choose(
                environment.way,
                changesets,
                protected=environment.protected,
                maintenance=environment.maintenance.database,
                hindrances=self._hindrances(),
                backfills=run.facts.backfills,
            )
            run.record.way, run.record.way_reason = Way(choice.way), choice.reason
            has_dump = "dump" in environment.backup.kinds
            accepted = run.options.accept_no_way_back
            mode, policy = environment.maintenance.database, environment.backup.restore
            if run.undoes:  # nobody writes the rollback of a rollback: what was committed halfway needs a restore
                changesets = [replace(one, has_rollback=False) for one in self.chosen]
            leading = [*changesets, *(due.AsChangeset(one) for one in run.facts.backfills)]
            refuse = undo.refuse_without_way_back if run.undoes else way.refuse_without_way_back
            for warning in refuse(
                choice, leading, maintenance=mode, has_dump=has_dump, restore=policy, accepted=accepted
            ):
                run.warn(warning)
            choice = way.without_hopeless_fallback(
                choice, leading, maintenance=mode, has_dump=has_dump, restore=policy, accepted=accepted
            )
            run.record.fallback = Way(choice.fallback) if choice.fallback else None

    def _hindrances(self) -> list[Obstacle] | None:
        """What keeps the database from being copied and swapped; None where nobody asks for that."""
        run, environment = self.run, self.run.environment
        by_itself = environment.way == "auto" and environment.bluegreen
        if run.server is None or not (by_itself or environment.way == "bluegreen"):
            return None
        copies = 2 if "clone" in environment.backup.kinds else 1
        return copying.hindrances(
            copying.Target(admin=run.the_admin(), login=run.login, server=run.server, copies=copies),
            maintenance=environment.maintenance.database,
            by_itself=by_itself,
        )

    def _choose_proof(self) -> None:
        run, environment = self.run, self.run.environment
        self.proof = proof.choose(
            environment.proof,
            [r for r in run.relations if not own_tables.is_own(r.qualified)],
            frozenset(run.facts.named),
            budget_s=environment.limits.proof_budget_s,
            jobs=environment.backup.jobs,
            estimate_s=catalog.scan_estimate_s,
        )
        run.record.proof.level = ProofLevel(self.proof.level)
        run.facts.fingerprinted = None if self.proof.level == "full" else sorted(self.proof.tables)

    @contextmanager
    def noting(self) -> Iterator[None]:
        """Of a plan: what would refuse a run, or what this login may not see, is an obstacle, and ends the block."""
        try:
            yield
        except (Refused, StepFailed) as error:
            if not self.looks or error.code == "connection_lost":
                raise
            self.note(error)

    def note(self, error: MigratorError) -> None:
        """The error is something that stands in a run's way."""
        remedy = error.hint or "see the message: a run would end there too"
        self.obstacles.append(Obstacle(what=error.message.rstrip("."), remedy=remedy.rstrip(".")))


def _hides_writes(changeset: Changeset | Undoable) -> bool:
    if isinstance(changeset, Undoable):
        return impact.hides_writes(changeset.statements, in_transaction=changeset.run_in_transaction)
    undone_unseen = changeset.has_rollback and not changeset.rollback and not changeset.run_in_transaction
    statements = (*changeset.statements, *changeset.rollback) if changeset.statements else ()
    return undone_unseen or impact.hides_writes(statements, in_transaction=changeset.run_in_transaction)


def too_long(run: Run, found: Estimate) -> Refused | None:
    """The refusal of a run whose backup and proof alone would outlast limits.max_downtime_s; None where they fit."""
    limit_s = run.environment.limits.max_downtime_s
    if run.environment.maintenance.database == "none" or found.before_s <= limit_s:
        return None
    return Refused(
        f"Backup (about {found.backup_s:.0f} s) and proof (about {found.proof_s:.0f} s) would take longer than "
        f"limits.max_downtime_s = {limit_s:g}.",
        hint="Raise the limit, choose proof = 'touched' or 'write_set', or profile = 'online'.",
    )


def may_need_restore(run: Run) -> bool:
    """Whether the ladder may reach the backup: only a run that commits on its way, or may fall back to one."""
    backup = run.environment.backup
    stepwise = Way.STEPWISE in {run.record.way, run.record.fallback}
    return stepwise and run.offline and "dump" in backup.kinds and backup.restore != "never"


def _room(run: Run) -> list[Obstacle]:
    return stores.in_the_way(run, run.facts.tables_bytes)


def _size_bytes(relations: Sequence[Relation]) -> int:
    return sum(relation.pages_bytes for relation in relations)
