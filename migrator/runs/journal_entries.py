"""What the journal tells of a run."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeAlias

from pydantic import ValidationError

from migrator.runs import holder as holders
from migrator.runs.record import Outcome, RunRecord

if TYPE_CHECKING:
    from migrator.runs.journal_tables import RunRow, StepRow

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"


@dataclass(frozen=True, kw_only=True)
class JournalStep:
    """One attempt at a step, as the journal saw it."""

    attempt: int
    name: str
    status: str
    started_at: datetime
    ended_at: datetime | None
    note: str | None


@dataclass(frozen=True, kw_only=True)
class OpenRun:
    """A run that has not ended."""

    run_id: str
    target: str
    environment: str
    database: str
    changelog: str
    begun_at: datetime
    holder: str
    lease_until: datetime  # by the journal's clock
    alive: bool  # its lease has not ended, and its process is not known to be gone
    version: str  # of the migrator that wrote last
    step: str | None  # the last that was started

    @property
    def held_by(self) -> str:
        """The holder in words: "process 4711 on build-7"."""
        return holders.describe(self.holder)


@dataclass(frozen=True, kw_only=True)
class StoredRun:
    """All that the journal knows of one run."""

    record: RunRecord
    facts: dict[str, Json]
    target: str
    holder: str
    lease_until: datetime  # by the journal's clock
    alive: bool  # it has not ended, its lease has not either, and its process is not known to be gone
    closed: bool
    version: str  # of the migrator that wrote last
    steps: tuple[JournalStep, ...]


def is_alive(row: RunRow, now: float) -> bool:
    """Whether somebody works on the run: it is open, its lease has not ended, its process is not known to be gone.

    A lease that ends later than it can have been given was given before the clock was set back: it counts as ended.
    """
    return row.closed_at is None and now < row.lease_until <= now + row.lease_s + 1 and not holders.is_gone(row.holder)


def open_run(row: RunRow, steps: list[StepRow], now: float) -> OpenRun:
    """The row as an open run, even where its record cannot be read by this version."""
    outline = _outline(row)
    return OpenRun(
        run_id=row.run_id,
        target=row.target,
        environment=row.environment,
        database=outline.database,
        changelog=outline.changelog,
        begun_at=_time(row.begun_at),
        holder=row.holder,
        lease_until=_time(row.lease_until),
        alive=is_alive(row, now),
        version=row.version,
        step=steps[-1].name if steps else None,
    )


def stored_run(row: RunRow, steps: list[StepRow], now: float, *, or_outline: bool = False) -> StoredRun:
    """The row with its record; with `or_outline` a record that cannot be read is shown in outline, with a warning.

    Raises: ValueError when the record cannot be read.
    """
    try:
        record = RunRecord.model_validate_json(row.record)
    except ValidationError:
        if not or_outline:
            raise
        record = _outline(row)
    try:
        facts = json.loads(row.facts)
    except ValueError:
        if not or_outline:
            raise
        facts = {}
    return StoredRun(
        record=record,
        facts=facts,
        target=row.target,
        holder=row.holder,
        lease_until=_time(row.lease_until),
        alive=is_alive(row, now),
        closed=row.closed_at is not None,
        version=row.version,
        steps=tuple(
            JournalStep(
                attempt=step.attempt,
                name=step.name,
                status=step.status,
                started_at=_time(step.started_at),
                ended_at=None if step.ended_at is None else _time(step.ended_at),
                note=step.note,
            )
            for step in steps
        ),
    )


def _outline(row: RunRow) -> RunRecord:
    try:
        found = json.loads(row.record)
    except ValueError:
        found = {}
    fields = found if isinstance(found, dict) else {}
    outcome = fields.get("outcome")
    return RunRecord(
        run_id=row.run_id,
        environment=row.environment,
        database=str(fields.get("database", "not known")),
        changelog=str(fields.get("changelog", "not known")),
        started_at=_time(row.begun_at),
        ended_at=None if row.closed_at is None else _time(row.closed_at),
        outcome=Outcome(outcome) if outcome in list(Outcome) else None,
        exit_code=Outcome(outcome).exit_code if outcome in list(Outcome) else None,
        warnings=[f"The record of this run was written by migrator {row.version} and cannot be read by this one."],
    )


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, tz=UTC)
