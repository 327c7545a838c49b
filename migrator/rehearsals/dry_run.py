"""The hard dry run: everything is executed by the run's own means, measured, and rolled back.

On a copy of the target (its schema, its data, a backup of it), or on the target itself, where it keeps to limits that
its users do not notice. What remained of it is proven, not assumed.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass

from migrator import __version__
from migrator.errors import Locked, Refused
from migrator.liquibase import changelog as screening
from migrator.liquibase import ledger
from migrator.liquibase.changelog import Seen
from migrator.plans import impact, obstacles
from migrator.postgres import in_the_way, stature
from migrator.postgres.connect import APPLICATION_PREFIX
from migrator.postgres.stature import Stature
from migrator.rehearsals import outlook, outside, remains, scratch
from migrator.rehearsals.dry_run_record import DryRunRecord, InTheWay, TriedChangeset
from migrator.rehearsals.effects import is_strong
from migrator.rehearsals.origin import Origin
from migrator.rehearsals.outlook import Outlook
from migrator.rehearsals.places import Place
from migrator.rehearsals.scratch import Scratch
from migrator.rehearsals.trying import Limits, Trying
from migrator.runs import inspection
from migrator.runs.byhand import refuse_if_at_work
from migrator.runs.record import StepName
from migrator.runs.run import Run
from migrator.runs.signals import signals
from migrator.runs.steps import lock
from migrator.runs.words import count


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What the person says who wants to know."""

    origin: Origin | None  # None: on the target itself
    place: Place | None = None  # of the copy; None: the first that will do


def dry_run(run: Run, wish: Wish) -> DryRunRecord:
    """The changelog of `run` was tried, and nothing of it was committed; what it did is in the record.

    `run` is no run of the target: it is not in the journal. On the target itself it holds the run's lock.
    Raises: Refused, UsageError, Locked, BackupFailed where it cannot be tried there; Interrupted. Nothing is left then.
    """
    record = DryRunRecord(
        id=run.id,
        environment=run.environment.name,
        database=str(run.login),
        changelog=run.record.changelog,
        on=str(wish.origin) if wish.origin is not None else "target",
        durations_known=wish.origin is None or wish.origin.has_data,
        started_at=run.now(),
    )
    with signals.installed():
        try:
            _DryRun(run=run, wish=wish, record=record).go()
        finally:
            run.close()
            run.journal.close()
    return record


@dataclass(frozen=True, kw_only=True)
class _DryRun:
    run: Run
    wish: Wish
    record: DryRunRecord

    def go(self) -> None:
        self._screen()
        if self.wish.origin is None:
            self._on_target()
        else:
            self._on_copy(self.wish.origin)
        record = self.record
        record.passed = not record.errors
        record.exit_code = 0 if record.passed else 3
        record.versions["migrator"] = __version__
        record.ended_at = self.run.now()
        record.next_command = self._next()

    # -- on a copy -------------------------------------------------------------------------------------------------

    def _on_copy(self, origin: Origin) -> None:
        record = self.record
        with self._told(StepName.PREFLIGHT, "look at the target") as notes:
            before = remains.look(self.run)
            target = self._statures()
            notes.append(count(len(before.relations), "table"))
        with self._copy(origin, outside.found(self.run, origin)) as copy:
            record.place, record.how, record.copy_s = copy.where, copy.how, round(copy.made_in_s, 3)
            record.not_represented = list(copy.not_represented)
            with closing(copy.run_of(self.run)) as trial:
                found = self._look(trial)
                if found.changesets:
                    self._try(Trying(trial=trial, outlook=found, record=record, target=target))
                    self._look_in_the_way()
        with self._told(StepName.VERIFY, "prove nothing is left"):
            remains.prove_only_read(self.run, before, record)

    @contextmanager
    def _copy(self, origin: Origin, reaches: Seen | None) -> Iterator[Scratch]:
        with ExitStack() as stack:
            with self._told(StepName.COPY, f"copy: {origin}") as notes:
                copy = stack.enter_context(
                    scratch.made(
                        self.run,
                        origin,
                        place=self.wish.place,
                        outside=reaches,
                        say=lambda text: self.run.progress(StepName.COPY, text),
                    )
                )
                notes.append(f"{copy.how}, on {copy.where}")
            yield copy

    # -- on the target ---------------------------------------------------------------------------------------------

    def _on_target(self) -> None:
        run, record = self.run, self.record
        settings = run.environment.scratch
        limits = Limits(
            lock_timeout_s=settings.lock_timeout_s or run.environment.limits.lock_timeout_s,
            statement_timeout_s=settings.statement_timeout_s,
            max_blocked_s=min(settings.max_blocked_s, run.environment.limits.max_blocked_s or settings.max_blocked_s),
        )
        with self._told(StepName.PREFLIGHT, "look at the target") as notes:
            self._refuse_on_target()
            record.place = f"the target itself ({run.login.host}:{run.login.port})"
            found = self._look(run)
            if not found.changesets:
                return
            self._refuse_what_stays(found)
            target = self._statures()
            self._look_in_the_way(impact.of(found.changesets, found.relations).named)
            before = remains.look_closely(run, impact.of(found.changesets, found.relations).named)
            notes.append(count(len(found.changesets), "pending changeset"))
        tried = Trying(trial=run, outlook=found, record=record, target=target, limits=limits)
        try:
            self._try(tried)
        finally:
            with self._told(StepName.VERIFY, "prove nothing is left"):
                remains.prove_rolled_back(run, before, tried, record)

    def _refuse_on_target(self) -> None:
        run = self.run
        if run.environment.protected and not run.environment.scratch.on_target:
            raise Refused(
                f"{run.environment.name} is protected, and a dry run on it takes its locks.",
                hint="Try it on a copy: --on schema, --on clone, --on backup:ID; or set scratch.on_target = true.",
                code="protected",
            )
        lock.refuse_system_databases(run)
        refuse_if_at_work(run)
        lock.take(run)
        found = list(obstacles.of_server(run.server)) if run.server is not None else []
        with closing(run.session("preflight", read_only=True)) as target:
            found += obstacles.of_pooler(target)
            holder = ledger.lock_holder(target, run.ledger_schema)
        obstacles.refuse(found)
        if holder is not None:
            raise Locked(
                f"Liquibase's changelog lock is set by {holder.locked_by} (since {holder.granted_at}).",
                hint="Wait until it is done, or try it on a copy: --on clone.",
            )

    def _refuse_what_stays(self, found: Outlook) -> None:
        """Nothing is tried on the target that its rollback would not take back. Raises: Refused."""
        alone = [one.key for one in found.changesets if not one.run_in_transaction]
        control = [one for one in self.record.findings if one.code == "transaction_control"]
        if alone:
            raise Refused(
                f"{alone[0]} cannot run in a transaction, so it could not be rolled back on the target.",
                hint="Such a changeset is tried on a copy only: --on schema, --on clone, --on backup:ID.",
                code="outside_transaction",
            )
        if control:
            raise Refused(
                f"{control[0].message} ({control[0].file}:{control[0].line}): on the target that could commit.",
                hint="It is tried on a copy only: --on schema, --on clone, --on backup:ID.",
                code="transaction_control",
            )
        stays = outside.not_taken_back(outside.pending(self.run))
        if stays is not None:
            raise Refused(
                f"{outside.told(stays)}: no rollback takes that back.",
                hint="Such a changeset is tried on another server than the target's: --on schema --at embedded.",
                code=outside.CODE,
            )

    # -- both ------------------------------------------------------------------------------------------------------

    def _screen(self) -> None:
        run = self.run
        for one in screening.screen(run.config.liquibase.root, run.record.changelog, run.parameters).findings:
            found = self.record.find(one.code, one.message, severity="warning")
            found.file, found.line = one.file, one.line

    def _look(self, trial: Run) -> Outlook:
        if trial.environment.checks.suites:
            inspection.start(trial)  # its import takes seconds
        found = outlook.look(self.run, trial)
        record = self.record
        record.way, record.way_reason = found.choice.way, found.choice.reason
        record.changesets = [
            TriedChangeset(
                path=one.path,
                id=one.id,
                author=one.author,
                file=one.file,
                line=one.line,
                in_transaction=one.run_in_transaction,
            )
            for one in found.changesets
        ]
        trial.facts.existing = [relation.qualified for relation in found.relations]
        return found

    def _try(self, tried: Trying) -> None:
        record = self.record
        held = tried.limits is not None or tried.outlook.choice.way == "atomic"
        with self._told(StepName.APPLY, "try it, and roll back" if held else "try it step by step") as notes:
            try:
                tried.check_before()
                if tried.go(held=held):
                    self._again(tried)
                done = sum(one.status == "executed" for one in record.changesets)
                notes.append(f"{done} of {count(len(record.changesets), 'changeset')} executed")
            finally:
                record.checks = list(tried.trial.record.checks)

    def _again(self, tried: Trying) -> None:
        """The one transaction was rolled back: the copy is as it was, and the other way is tried on it."""
        for changeset in self.record.changesets:
            changeset.status = "pending"
        self.record.wal_bytes = None
        tried.go(held=False)

    def _statures(self) -> Mapping[str, Stature]:
        with closing(self.run.session("preflight", read_only=True)) as session:
            return stature.of_tables(session)

    def _look_in_the_way(self, names: Collection[str] | None = None) -> None:
        """Who works on the target, just now, with what would be locked strongly."""
        if names is None:
            changesets = self.record.changesets
            names = {lock.relation for one in changesets for lock in one.locks if is_strong(lock)}
        bares = {impact.bare(name) for name in names}
        own = f"{APPLICATION_PREFIX}{self.run.id}:"
        with closing(self.run.session("preflight", read_only=True)) as session:
            found = in_the_way.of_tables(session, bares, own=own)
        self.record.in_the_way = [
            InTheWay(
                who=f"pid {one.pid or '-'}, {one.user}, {one.application or 'no name'}, {one.state or 'state hidden'}",
                age_s=one.age_s,
                locks=list(one.locks),
                query=one.query,
            )
            for one in found
        ]

    def _next(self) -> str:
        record = self.record
        changelog = shlex.quote(record.changelog)
        if not record.passed or not record.changesets:
            return f"migrator plan {changelog} --env {record.environment}"
        if not record.durations_known:
            return f"migrator dry-run {changelog} --env {record.environment} --on clone"
        return f"migrator run {changelog} --env {record.environment}"

    @contextmanager
    def _told(self, name: StepName, title: str) -> Iterator[list[str]]:
        """A part of the story: it begins, and ends with the notes that were taken."""
        notes: list[str] = []
        self.run.reporter.step_started(name, title)
        began, status = time.monotonic(), "failed"
        try:
            yield notes
            status = "done"
        finally:
            self.run.reporter.step_ended(name, status, time.monotonic() - began, "; ".join(notes) or None)
