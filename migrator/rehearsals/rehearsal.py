"""A rehearsal: on a scratch copy apply, verify, roll back, prove that it is what it was, apply again, verify.

First every changeset by itself, up, down and up (`one_by_one`): what its rollback loses is told by table and column.
Then the real thing (`legs`): the run, its rollback and the run once more, with the steps that they have anywhere. The
target is only read.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass

from migrator import __version__
from migrator.backups.signing import SigningKey
from migrator.errors import MigratorError
from migrator.liquibase.changelog import Seen
from migrator.plans import own_tables
from migrator.postgres import catalog
from migrator.rehearsals import attesting, estimate, outlook, outside, scratch
from migrator.rehearsals.estimate import Sizes
from migrator.rehearsals.legs import Legs
from migrator.rehearsals.one_by_one import OneByOne
from migrator.rehearsals.outlook import Outlook
from migrator.rehearsals.record import RehearsalRecord, RehearsedRecord
from migrator.rehearsals.scratch import Origin, Scratch
from migrator.runs import stores
from migrator.runs.record import RunRecord, StepName
from migrator.runs.run import Run
from migrator.runs.signals import signals
from migrator.runs.words import count

_NO_KEY = "none was written: signing.key names no key to sign it with"


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What the person who rehearses says."""

    origin: Origin
    allow_lossy_rollback: bool = False


def rehearse(run: Run, wish: Wish) -> RehearsalRecord:
    """The changelog of `run` was rehearsed on a copy of its target, of which nothing is left; what was found.

    An attestation is written where it passed and a key is configured. `run` is no run of the target: it is not in the
    journal, holds no lock, and only reads.
    Raises: Refused, UsageError, BackupFailed where there is nothing to rehearse, or to rehearse on; Interrupted.
    """
    record = RehearsalRecord(
        id=run.id,
        environment=run.environment.name,
        database=str(run.login),
        changelog=run.record.changelog,
        source=str(wish.origin),
        with_data=wish.origin.has_data,
        lossy_rollback_allowed=wish.allow_lossy_rollback,
        started_at=run.now(),
    )
    key = stores.signing_key(run)  # one that cannot be read is told of before anything takes long
    with signals.installed():
        try:
            _Rehearsal(run=run, wish=wish, record=record, key=key).go()
        finally:
            run.close()
            run.journal.close()
    return record


@dataclass(frozen=True, kw_only=True)
class _Rehearsal:
    run: Run
    wish: Wish
    record: RehearsalRecord
    key: SigningKey | None

    def go(self) -> None:
        record = self.record
        sizes = self._sizes()
        reaches = outside.found(self.run, self.wish.origin)
        with self._copy(reaches) as copy:
            record.place, record.not_represented = copy.where, list(copy.not_represented)
            with closing(copy.run_of(self.run)) as trial:
                found = self._look(copy, trial)
                if not found.changesets:
                    record.passed, record.exit_code, record.ended_at = True, 0, self.run.now()
                    record.attestation_note = (
                        "none was written: nothing is pending in this copy; one from before: --from backup:ID"
                    )
                    return
                climb, whole = self._one_by_one(trial, found)
            first = self._legs(copy, found) if whole else None
        if not whole:  # what was lost would be missing in the real thing: that begins on a copy as it should be
            with self._copy(reaches) as copy:
                first = self._legs(copy, found)
        self._times(found, climb, sizes, first)
        self._judge(found)
        record.versions["migrator"] = __version__
        record.ended_at = self.run.now()
        self._attest(found)

    def _look(self, copy: Scratch, trial: Run) -> Outlook:
        with self._told("look") as notes:
            found = outlook.look(self.run, trial)
            notes.append(count(len(found.changesets), "pending changeset"))
        self.record.versions |= {**trial.record.versions, "postgresql": copy.server.version}
        self.record.way, self.record.fallback = found.choice.way, found.choice.fallback
        self.record.changesets = [
            RehearsedRecord(path=one.path, id=one.id, author=one.author, checksum=one.checksum)
            for one in found.changesets
        ]
        return found

    def _one_by_one(self, trial: Run, found: Outlook) -> tuple[OneByOne, bool]:
        with self._told("one by one") as notes:
            climb = OneByOne(trial, found, self.record)
            whole = climb.go()
            if self.record.with_data:  # else the sizes are those of the planner's statistics
                self.record.copy_bytes = climb.start.size_bytes
            restored = sum(one.rollback in {"restores", "restores_schema"} for one in self.record.changesets)
            what = "what was there" if self.record.with_data else "the schema; no row was there"
            notes.append(f"{restored} of {count(len(found.changesets), 'rollback')} restore {what}")
        return climb, whole

    def _legs(self, copy: Scratch, found: Outlook) -> RunRecord | None:
        with self._told("run, roll back, run") as notes:
            first = Legs(self.run, copy, found, self.record).go()
            notes.append(", ".join(f"{leg.name}: {leg.outcome.replace('_', ' ')}" for leg in self.record.legs))
        return first

    def _times(self, found: Outlook, climb: OneByOne, target: dict[str, int] | None, first: RunRecord | None) -> None:
        """What each changeset took in the first run on the copy, and would take on the target."""
        took = {(c.path, c.id, c.author): c.duration_s for c in first.changesets} if first is not None else {}
        for told in self.record.changesets:
            seconds = took.get((told.path, told.id, told.author))
            told.apply_s = told.apply_s if seconds is None else round(seconds, 3)
        tables = {one.key: found.tables_of(one) | climb.written.get(one.key, frozenset()) for one in found.changesets}
        copied = {name: table.pages_bytes for name, table in climb.start.tables.items()}
        estimate.of(self.record, tables, Sizes(copied=copied, target=target))

    def _judge(self, found: Outlook) -> None:
        """The findings on rollbacks are in the record, and whether it passed."""
        record = self.record
        needed = "stepwise" in {found.choice.way, found.choice.fallback}
        fatal = needed and not self.wish.allow_lossy_rollback
        for one in record.changesets:
            if one.losses:
                more = f" (and {len(one.losses) - 1} more)" if one.losses[1:] else ""
                record.find(
                    "rollback_loses",
                    f"The rollback of {one.key} does not bring back what was there: {one.losses[0].sentence}{more}.",
                    severity="error" if fatal else "warning",
                    hint=_lossy_hint(needed=needed, allowed=self.wish.allow_lossy_rollback),
                )
        without = [one.key for one in record.changesets if one.rollback == "none"]
        if without:
            record.find(
                "no_rollback",
                f"{count(len(without), 'changeset')} without a rollback: {', '.join(without[:5])}"
                f"{' ...' if without[5:] else ''}. The way back of a run that commits on its way is a restore.",
                severity="warning",
                hint="Write rollbacks into the changelog.",
            )
        record.passed = not record.errors
        record.exit_code = 0 if record.passed else 3

    def _attest(self, found: Outlook) -> None:
        record = self.record
        if not record.passed:
            record.attestation_note = "none was written: the rehearsal did not pass"
            source = "" if self.wish.origin.kind == "clone" else f" --from {shlex.quote(record.source)}"
            record.next_command = (
                f"migrator rehearse {shlex.quote(record.changelog)} --env {record.environment}{source}"
            )
        elif self.key is None:
            record.attestation_note = _NO_KEY
        else:
            path = attesting.attest(self.run, record, found, self.key)
            record.attestation, record.attestation_note = str(path), f"signed by {self.key.id}"

    def _sizes(self) -> dict[str, int] | None:
        """Bytes of every table of the target; None where it is not reached, or not what is rehearsed on."""
        try:
            with closing(self.run.session("preflight", read_only=True)) as session:
                sizes = {
                    one.qualified: one.pages_bytes
                    for one in catalog.tables(session)
                    if not own_tables.is_own(one.qualified)
                }
        except MigratorError:
            return None
        self.record.target_bytes = sum(sizes.values())
        return sizes

    @contextmanager
    def _copy(self, reaches: Seen | None) -> Iterator[Scratch]:
        with ExitStack() as stack:
            with self._told(f"copy: {self.wish.origin}", StepName.COPY) as notes:
                copy = stack.enter_context(
                    scratch.made(
                        self.run,
                        self.wish.origin,
                        outside=reaches,
                        say=lambda text: self.run.progress(StepName.COPY, text),
                    )
                )
                notes.append(f"{copy.how}, on {copy.where}")
            yield copy

    @contextmanager
    def _told(self, title: str, name: StepName = StepName.VERIFY) -> Iterator[list[str]]:
        """A part of the story: it begins, and ends with the notes that were taken."""
        notes: list[str] = []
        self.run.reporter.step_started(name, title)
        began, status = time.monotonic(), "failed"
        try:
            yield notes
            status = "done"
        finally:
            self.run.reporter.step_ended(name, status, time.monotonic() - began, "; ".join(notes) or None)


def _lossy_hint(*, needed: bool, allowed: bool) -> str:
    if allowed:
        return "It was allowed by --allow-lossy-rollback; the attestation says so."
    if not needed:
        return "A run goes back by its transaction alone; `migrator rollback` later on would lose it."
    return "Write a rollback that restores it, keep the data elsewhere, or accept it: --allow-lossy-rollback."
