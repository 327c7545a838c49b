"""What a run came to, in the words that every report uses: the outcome first, then the state of the database."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from migrator.plans.gate import GateState
from migrator.reports.wording import count, duration, one_line, size
from migrator.runs.record import (
    BackfillRecord,
    BackupRecord,
    ChangesetRecord,
    Direction,
    Outcome,
    RunRecord,
    StepName,
    Way,
)


class Tone(StrEnum):
    """How good the news is."""

    GOOD = "good"  # as was asked for
    CAUTION = "caution"  # not as was asked for, and the database is safe
    BAD = "bad"  # a person is needed


HEADLINES = {
    Outcome.MIGRATED: "Migrated and verified",
    Outcome.NOTHING_TO_DO: "Nothing to do",
    Outcome.REFUSED: "Refused",
    Outcome.LOCKED: "Another run holds this database",
    Outcome.FAILED_BEFORE: "Failed before the migration began",
    Outcome.ROLLED_BACK: "Failed, and rolled back",
    Outcome.RESTORED: "Failed, and restored from the backup",
    Outcome.BROUGHT_BACK: "Brought back from the backup",
    Outcome.UNFINISHED: "Migrated and verified, but not finished",
    Outcome.HALTED: "Halted: a person is needed",
    Outcome.INTERRUPTED: "Interrupted: the run has not ended",
}
_STATES = {
    Outcome.MIGRATED: "The database is migrated.",
    Outcome.NOTHING_TO_DO: "The database holds every changeset already; it was not touched.",
    Outcome.REFUSED: "The database was not touched.",
    Outcome.LOCKED: "This run did not touch the database, nor the run that holds it.",
    Outcome.FAILED_BEFORE: "The database is what it was before the run.",
    Outcome.ROLLED_BACK: "The database is proven to be what it was before the run.",
    Outcome.RESTORED: "The database was restored from this run's backup and is proven to be what it was before.",
    Outcome.BROUGHT_BACK: "The database is the backup that was asked for, compared with its manifest before the swap.",
    Outcome.UNFINISHED: "The database is migrated; something after that is left to do.",
    Outcome.HALTED: "The state of the database is not proven; nothing of it was thrown away.",
}
# What brings a database back by hand has no changelog, or goes against its direction.
_HEADLINES_OF: Mapping[Way | Direction, Mapping[Outcome, str]] = {
    Direction.ROLLBACK: {
        Outcome.MIGRATED: "Rolled back and verified",
        Outcome.NOTHING_TO_DO: "Nothing to undo",
        Outcome.FAILED_BEFORE: "Failed before anything was undone",
        Outcome.ROLLED_BACK: "The rollback failed, and was taken back",
        Outcome.RESTORED: "The rollback failed, and the backup was restored",
        Outcome.UNFINISHED: "Rolled back and verified, but not finished",
    },
    Way.RESTORE: {
        Outcome.FAILED_BEFORE: "Nothing was restored",
        Outcome.UNFINISHED: "Brought back, but not finished",
    },
    Way.SWAP_BACK: {
        Outcome.BROUGHT_BACK: "Swapped back",
        Outcome.FAILED_BEFORE: "Nothing was swapped back",
        Outcome.UNFINISHED: "Swapped back, but not finished",
    },
}
_STATES_OF: Mapping[Way | Direction, Mapping[Outcome, str]] = {
    Direction.ROLLBACK: {
        Outcome.MIGRATED: "The changesets are undone.",
        Outcome.NOTHING_TO_DO: "The ledger holds nothing that was to be undone; the database was not touched.",
        Outcome.UNFINISHED: "The changesets are undone; something after that is left to do.",
    },
    Way.RESTORE: {
        Outcome.UNFINISHED: "The database is the backup that was asked for; something after that is left to do.",
    },
    Way.SWAP_BACK: {
        Outcome.BROUGHT_BACK: "The database is the one from before the run that was taken back.",
        Outcome.UNFINISHED: "The database is the one from before; something after that is left to do.",
    },
}
_TONES = {
    Outcome.MIGRATED: Tone.GOOD,
    Outcome.BROUGHT_BACK: Tone.GOOD,
    Outcome.NOTHING_TO_DO: Tone.GOOD,
    Outcome.HALTED: Tone.BAD,
    Outcome.INTERRUPTED: Tone.BAD,
}
_WORDS = {"rolled_back": "rolled back", "failed_ignored": "failed unnoticed (failOnError=false)"}
_BEFORE_ANY_EFFECT = {StepName.LOCK, StepName.PREFLIGHT}


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The outcome of a run, and the one sentence on the database that a person needs first."""

    tone: Tone
    headline: str
    database: str

    @classmethod
    def of(cls, record: RunRecord) -> Verdict:
        """The verdict on a run, or on how far it is."""
        outcome = record.outcome
        if outcome is None:
            return cls(tone=Tone.CAUTION, headline="The run has not ended", database=_where_it_stands(record))
        headline = _of_kind(_HEADLINES_OF, record).get(outcome, HEADLINES[outcome])
        if outcome is Outcome.INTERRUPTED and not _had_effect(record):
            headline = "An earlier run has not ended" if _is_anothers(record) else "Interrupted"
        return cls(tone=_TONES.get(outcome, Tone.CAUTION), headline=headline, database=_state(outcome, record))


def _state(outcome: Outcome, record: RunRecord) -> str:
    if outcome is Outcome.INTERRUPTED:
        return _where_it_stands(record)
    sentence = _of_kind(_STATES_OF, record).get(outcome, _STATES[outcome])
    if outcome is Outcome.ROLLED_BACK and record.proof.others_wrote:
        tables = ", ".join(record.proof.others_wrote)
        sentence = f"{sentence[:-1]}, but for the rows of {tables}, which others were free to write."
    if outcome in {Outcome.MIGRATED, Outcome.BROUGHT_BACK, Outcome.FAILED_BEFORE} and _held_off(record):
        sentence += " Users are let in again."
    return f"{sentence} {_maintenance_on(record)}".strip()


def _of_kind(words: Mapping[Way | Direction, Mapping[Outcome, str]], record: RunRecord) -> Mapping[Outcome, str]:
    of_way = words.get(record.way) if record.way is not None else None
    return of_way if of_way is not None else words.get(record.direction, {})


def _where_it_stands(record: RunRecord) -> str:
    if not _had_effect(record):
        return "This run did not touch the database."
    last = record.steps[-1]
    return f"The database was left in step {last.name.value} ({last.status}). {_maintenance_on(record)}".strip()


def _had_effect(record: RunRecord) -> bool:
    return any(step.name not in _BEFORE_ANY_EFFECT for step in record.steps)


def _is_anothers(record: RunRecord) -> bool:
    return record.error is not None and record.error.code == "unfinished"


def _held_off(record: RunRecord) -> bool:
    return record.maintenance.started_at is not None and record.maintenance.ended_at is not None


def _maintenance_on(record: RunRecord) -> str:
    if record.maintenance.started_at is None or record.maintenance.ended_at is not None:
        return ""
    mode = "" if record.maintenance.mode == "none" else f" ({record.maintenance.mode})"
    return f"Maintenance{mode} is still on."


def facts(record: RunRecord) -> Iterator[tuple[str, list[str]]]:
    """What stands beside the verdict, label and lines, in the order of importance; what there is not is left out."""
    yield from _bad_news(record)
    if record.proof.proven or record.proof.not_proven:
        yield "proven", [one_line(line) for line in record.proof.proven] or ["nothing"]
        yield "not proven", [one_line(line) for line in record.proof.not_proven] or ["nothing was left out"]
    if record.gates:
        yield "gates", [gate(one) for one in record.gates]
    if record.changesets:
        yield "changesets", [changesets(record)]
    if record.backfills:
        yield "backfills", [one_line(backfill(one)) for one in record.backfills]
    if changed := rows_changed(record):
        yield "rows", [changed]
    if record.backups:
        yield "backup", [backup(entry) for entry in record.backups]
    elif _had_effect(record):
        yield "backup", ["none was made"]
    yield "downtime", [downtime(record)]
    if (took := took_s(record)) is not None:
        yield "took", [duration(took)]
    if record.runbook and record.outcome is Outcome.HALTED:
        yield "runbook", list(record.runbook)
    if record.kept:
        yield "kept", [one_line(line) for line in record.kept]
    if record.warnings:
        yield "warnings", [one_line(line) for line in record.warnings]


def _bad_news(record: RunRecord) -> Iterator[tuple[str, list[str]]]:
    if record.error is not None:
        yield "error", list(error_lines(record))
        if record.error.hint:
            yield "what to do", [one_line(record.error.hint)]
    if failed := [check for check in record.checks if not check.success]:
        seen = [f"{check.name} ({check.phase}): {check.detail or check.severity}" for check in failed]
        yield "checks failed", [one_line(line) for line in seen]
    if record.surprises:
        yield "surprises", [one_line(f"{name} was written, and no changeset names it") for name in record.surprises]


def backfill(one: BackfillRecord) -> str:
    """A backfill in one line: "backfill split-name of customer: verified, 2,000,000 rows in 31 s (64,000/s)"."""
    said = f"backfill {one.name} of {one.table}: {one.state}"
    if one.state == "required":
        return said + (", and proven" if one.violations == 0 else "")
    if one.rows is not None and one.duration_s is not None:
        said += f", {count(one.rows, 'row')} in {duration(one.duration_s)}"
        said += f" ({one.rate:,.0f}/s)" if one.rate else ""
        said += f", {count(one.batches or 0, 'batch', 'batches')}"
    if one.waited_s:
        said += f", held back for {duration(one.waited_s)}"
    if one.max_lag_bytes:
        said += f", a lag of {size(one.max_lag_bytes)} at most"
    if one.violations:
        said += f"; {count(one.violations, 'row')} not as they should be"
    return said


def error_lines(record: RunRecord) -> Iterator[str]:
    """What went wrong, and where."""
    error = record.error
    if error is None:
        return
    yield one_line(error.message)
    where = []
    if error.changeset and error.changeset not in error.message:
        where.append(f"changeset {one_line(error.changeset)}")
    file = error.file and error.file + (f":{error.line}" if error.line is not None else "")
    if file and file not in error.message:
        where.append(one_line(file))
    if error.sqlstate and error.sqlstate not in error.message:
        where.append(f"SQLSTATE {error.sqlstate}")
    if where:
        yield "at " + ", ".join(where)


def changeset_status(changeset: ChangesetRecord) -> str:
    """What became of it, in words."""
    return _WORDS.get(changeset.status, one_line(changeset.status))


def changesets(record: RunRecord) -> str:
    """5 executed, 1 failed, 1 pending."""
    if not record.changesets:
        return "none"
    tally = Counter(changeset_status(changeset) for changeset in record.changesets)
    return ", ".join(f"{number} {status}" for status, number in tally.items())


def rows_changed(record: RunRecord) -> str | None:
    """How many rows were written, over all tables; None where that is not known of any."""
    known = [t for t in record.tables if t.inserted is not None or t.updated is not None or t.deleted is not None]
    if not known:
        return None
    inserted = sum(table.inserted or 0 for table in known)
    updated = sum(table.updated or 0 for table in known)
    deleted = sum(table.deleted or 0 for table in known)
    touched = [t for t in known if t.inserted or t.updated or t.deleted]
    undone = ", taken back" if touched and record.outcome in {Outcome.ROLLED_BACK, Outcome.RESTORED} else ""
    return f"{inserted:,} inserted, {updated:,} updated, {deleted:,} deleted in {count(len(touched), 'table')}{undone}"


def gate(state: GateState) -> str:
    """attestation: rehearsal 20260301-ab12 in staging, 3 hours ago, from clone, signed by 9f86d081884c7d65."""
    if state.overridden is None:
        return one_line(f"{state.name}: {state.says}")
    return one_line(f"{state.name}: closed, and overridden ({state.overridden}): {state.says}")


def backup(entry: BackupRecord) -> str:
    """dump 20260301-ab12, 312 MB, in 5.2 s: backups/20260301-ab12."""
    parts = [one_line(f"{entry.kind} {entry.id}")]
    if entry.size_bytes is not None:
        parts.append(size(entry.size_bytes))
    if entry.duration_s is not None:
        parts.append(f"in {duration(entry.duration_s)}")
    return ", ".join(parts) + f": {one_line(entry.location)}"


def downtime(record: RunRecord) -> str:
    """How long users were held off."""
    kept_off = record.maintenance
    if kept_off.started_at is None:
        return "none"
    if kept_off.ended_at is None:
        return f"since {kept_off.started_at:%Y-%m-%d %H:%M:%S} UTC ({kept_off.mode}), still on"
    seconds = kept_off.downtime_s
    if seconds is None:
        seconds = (kept_off.ended_at - kept_off.started_at).total_seconds()
    return f"{duration(seconds)} ({kept_off.mode})"


def took_s(record: RunRecord) -> float | None:
    """Seconds from begin to end; None while the run lasts."""
    return None if record.ended_at is None else max(0.0, (record.ended_at - record.started_at).total_seconds())
