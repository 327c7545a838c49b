"""A changelog is executed to see what it does: in one transaction, rolled back, or commit by commit on a copy."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from functools import cached_property

from psycopg import sql

from migrator.errors import MigrationFailed, StepFailed, TransactionLost, VerificationFailed
from migrator.liquibase.models import Changeset, ChangesetEvent
from migrator.liquibase.session import Liquibase
from migrator.postgres import connect
from migrator.postgres.stature import Stature
from migrator.postgres.transactions import statement
from migrator.rehearsals import effects
from migrator.rehearsals.dry_run_record import DryRunRecord, TriedChangeset
from migrator.rehearsals.effects import Measured
from migrator.rehearsals.outlook import Outlook
from migrator.rehearsals.sentry import Sentry
from migrator.runs import inspection, liquibase_session
from migrator.runs.record import StepName, Way
from migrator.runs.run import Run
from migrator.runs.words import count

_OF_DATA = ("02", "21", "22", "23", "P0")  # classes of SQLSTATE in which rows, or the lack of them, are at fault
_LACK_OF_ROWS = "There are no rows in the copy, which may be the reason. Try it where there are: --on clone."
_STATUSES = {"reran": "executed", "mark_ran": "skipped", "failed_ignored": "failed"}


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What keeps a dry run on the target from being noticed there."""

    lock_timeout_s: float
    statement_timeout_s: float
    max_blocked_s: float


@dataclass(kw_only=True)
class Trying:
    """On `trial`, whose database is the target or a copy of it; what is found goes into `record`."""

    trial: Run
    outlook: Outlook
    record: DryRunRecord
    target: Mapping[str, Stature]
    limits: Limits | None = None  # None: on a copy
    xid: str | None = None  # of the transaction that was rolled back
    others_seen: bool = False  # whether anybody else was connected meanwhile
    _began_at: dict[str, float] = field(default_factory=dict)  # changeset -> seconds from the first one on

    def go(self, *, held: bool) -> bool:
        """Every pending changeset was executed, the checks looked at the result, and all findings are in the record.

        Whether it can go on in the other way: it was `held`, and PostgreSQL cannot do it in one transaction.
        Raises: StepFailed when the server or the worker cannot be used; Interrupted.
        """
        self.record.held = held
        self.trial.record.way = Way.ATOMIC if held else Way.STEPWISE
        liquibase = liquibase_session.connect(
            self.trial,
            mode="held" if held else "stepwise",
            measure="copy" if self.limits is None else "target",
            lock_timeout_s=self.limits.lock_timeout_s if self.limits is not None else None,
        )
        self.record.versions |= self.trial.record.versions
        sentry = self._sentry(liquibase)
        sentry.start()
        try:
            return self._try(liquibase, sentry, held=held)
        finally:
            sentry.stop()
            self._note_temporary(sentry)
            liquibase.disconnect()  # and with it goes the transaction

    def _try(self, liquibase: Liquibase, sentry: Sentry, *, held: bool) -> bool:
        if self.limits is not None:
            timeout_ms = max(1, round(self.limits.statement_timeout_s * 1000))
            liquibase.execute(statement("SET statement_timeout = {}", sql.Literal(timeout_ms)))
        if held:
            self.xid = liquibase.begin().xid
        self._tell_of_backfills()
        began = time.monotonic()
        try:
            liquibase.update(
                self.record.changelog,
                on_event=lambda event: self._heard(event, sentry),
                timeout_s=self.trial.environment.limits.migration_timeout_s,
            )
        except TransactionLost as error:
            return self._lost(error, sentry)
        except MigrationFailed as error:
            self._failed(error, sentry)
            return False
        applied = time.monotonic()
        if self.record.durations_known:
            self.record.apply_s = round(applied - began, 3)
        sentry.running(None)
        try:
            self._check(liquibase, sentry, held=held)
        except StepFailed:
            if sentry.blocked is None:  # else it was the sentry who ended it
                raise
        if sentry.blocked is not None:
            self._blocked(sentry)
        elif self.record.durations_known:
            self.record.checks_s = round(time.monotonic() - applied, 3)
        if held:
            self._hold(time.monotonic() - began)
        return False

    def _tell_of_backfills(self) -> None:
        names = [one.backfill.name for one in self.outlook.backfills]
        told = any(one.code == "backfills_not_done" for one in self.record.findings)
        if names and not told:
            self.record.find(
                "backfills_not_done",
                f"{count(len(names), 'backfill')} of the changelog not done here ({', '.join(names)}): the changesets "
                "behind see the rows as they were.",
                severity="warning",
                hint="A rehearsal does them: migrator rehearse.",
            )

    # -- what is heard --------------------------------------------------------------------------------------------

    def _heard(self, event: ChangesetEvent, sentry: Sentry) -> None:
        key = f"{event.path}::{event.id}::{event.author}"
        number, changeset = self._places.get(key, (0, None))
        if changeset is None:
            return
        match event.kind:
            case "will_run":
                sentry.running(key)
                total = len(self._places)
                self.trial.progress(StepName.APPLY, f"{number}/{total} {key}", (number - 1) / total)
            case "measured":
                self._measured(changeset, effects.heard(event.measured))
            case "ran" | "skipped":
                changeset.status = _STATUSES.get(event.status or "", event.status or "executed")
            case "failed":
                changeset.status = "failed"

    def _measured(self, changeset: TriedChangeset, found: Measured) -> None:
        named = self.outlook.tables_of(self._planned[changeset.key]) if found.rows else frozenset()
        effects.note(changeset, found, named=named, target=self.target, real=self.record.durations_known)
        self._began_at[changeset.key] = found.at_s
        if self.record.durations_known and not self.record.held:
            for lock in changeset.locks:  # until the changeset's own commit; in one transaction longer, see `_hold`
                lock.held_s = round(found.for_s, 3)
        self.record.wal_bytes = (self.record.wal_bytes or 0) + (found.wal_bytes or 0)
        if changeset.status == "failed":
            self.record.find(
                "hidden_error",
                f"{changeset.key} failed, and failOnError=false hid it.",
                severity="error",
                hint="Correct the changeset; a run refuses what is hidden.",
            )

    @cached_property
    def _places(self) -> Mapping[str, tuple[int, TriedChangeset]]:
        """Key of a changeset -> its number, from 1 on, and its part of the record."""
        return {one.key: (number, one) for number, one in enumerate(self.record.changesets, start=1)}

    @cached_property
    def _planned(self) -> Mapping[str, Changeset]:
        return {one.key: one for one in self.outlook.changesets}

    def _hold(self, until_s: float) -> None:
        """In one transaction a lock is held from its changeset to the commit."""
        for changeset in self.record.changesets:
            for lock in changeset.locks:
                if self.record.durations_known:
                    lock.held_s = round(max(0.0, until_s - self._began_at[changeset.key]), 3)

    def _note_temporary(self, sentry: Sentry) -> None:
        if not sentry.sees_files:
            return
        for changeset in self.record.changesets:
            if changeset.key in self._began_at:
                changeset.temp_bytes = sentry.temp_bytes.get(changeset.key, 0)
        self.others_seen = self.others_seen or sentry.others_seen

    # -- what went wrong -------------------------------------------------------------------------------------------

    def _lost(self, error: TransactionLost, sentry: Sentry) -> bool:
        if sentry.blocked is not None:
            self._blocked(sentry)
            return False
        if error.committed:
            self._failed(error, sentry)
            return False
        if self.limits is None and self.outlook.choice.fallback is not None:
            self.record.find(
                "fallback",
                f"Not possible in one transaction: {error.message} A run would go on {self.outlook.choice.fallback}.",
                severity="warning",
            )
            return True
        self._failed(error, sentry)
        return False

    def _failed(self, error: MigrationFailed, sentry: Sentry) -> None:
        if sentry.blocked is not None:
            self._blocked(sentry)
            return
        for_lack_of_rows = not self.record.durations_known and (error.place.sqlstate or "").startswith(_OF_DATA)
        found = self.record.find(
            "committed" if isinstance(error, TransactionLost) and error.committed else error.code,
            error.message,
            severity="error",
            hint=_LACK_OF_ROWS if for_lack_of_rows else error.hint,
        )
        found.changeset, found.file = error.place.changeset, error.place.file
        found.line, found.sqlstate = error.place.line, error.place.sqlstate
        for changeset in self.record.changesets:
            if changeset.key == error.place.changeset:
                changeset.status = "failed"

    def _blocked(self, sentry: Sentry) -> None:
        limit_s = self.limits.max_blocked_s if self.limits is not None else 0.0
        found = self.record.find(
            "blocked_others",
            f"The dry run was ended after it had kept others waiting for more than {limit_s:g} s: {sentry.blocked}."
            + (f" It was at {sentry.at}." if sentry.at else ""),
            severity="error",
            hint="Run it under maintenance, or split the changeset; scratch.max_blocked_s is the limit.",
        )
        found.changeset = sentry.at

    # -- the result ------------------------------------------------------------------------------------------------

    def _check(self, liquibase: Liquibase, sentry: Sentry, *, held: bool) -> None:
        self.trial.progress(StepName.VERIFY, "suites and invariants")
        if held:
            problems = inspection.after(self.trial, liquibase)
        else:
            with closing(self.trial.session("checks", read_only=True)) as session:
                session.execute("begin isolation level repeatable read read only")
                problems = inspection.after(self.trial, session)
        if sentry.blocked is None:  # a check that the sentry cut off says nothing
            self._judge(problems)

    def _judge(self, problems: list[str]) -> None:
        """What does not hold afterwards speaks against a run; without rows it says little."""
        failed = {phase: self._failed_checks(phase) for phase in ("before", "after")}
        if not self.record.durations_known:
            names = sorted(failed["before"] | failed["after"])
            if names:
                self.record.find(
                    "checks_without_rows",
                    f"{count(len(names), 'check')} cannot be judged on a copy without rows: {', '.join(names[:5])}"
                    f"{' ...' if names[5:] else ''}.",
                    severity="warning",
                    hint="Try it where there are rows: --on clone, or --on backup:ID.",
                )
            return
        for problem in problems:
            if problem.removeprefix("check ").partition(":")[0] not in failed["before"]:  # else it is told already
                self.record.find("check", f"{problem[0].upper()}{problem[1:]}.", severity="error")

    def _failed_checks(self, phase: str) -> set[str]:
        return {check.name for check in self.trial.record.checks if check.phase == phase and not check.success}

    def check_before(self) -> None:
        """The checks have looked at what there is before; what does not hold then is told, and a run would refuse."""
        if not self.outlook.relations:
            return
        self.trial.progress(StepName.PREFLIGHT, "checks before")
        try:
            inspection.before(self.trial)
        except VerificationFailed as error:
            if self.record.durations_known:
                self.record.find(
                    "check_before",
                    f"The data does not hold already, before the migration: {error.message}",
                    severity="error",
                    hint="Correct the data or the check.",
                )

    def _sentry(self, liquibase: Liquibase) -> Sentry:
        [(pid,)] = liquibase.rows("select pg_backend_pid()")
        session = connect.connect(
            self.trial.login,
            role="watch",
            run_id=self.trial.id,
            database=self.trial.environment.maintenance_database,
            connect_timeout_s=self.trial.environment.limits.connect_timeout_s,
        )
        limit_s = self.limits.max_blocked_s if self.limits is not None else None
        return Sentry(self.trial, session, pid=int(pid or 0), max_blocked_s=limit_s)
