"""`run.jsonl`: the story of a run for programs, one JSON object a line, as it happens."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from migrator.runs.record import BackfillRecord, ChangesetRecord, CheckRecord, RunRecord, StepName
from migrator.runs.reporter import PassedOn, Reporter

NAME = "run.jsonl"


class Logged(PassedOn):
    """A reporter that writes down what it is told, and passes it on to the next one.

    Every line has `at` (UTC) and `event`. A log that cannot be written is given up: the run goes on, and its record
    in the journal has all of it but the progress.
    """

    def __init__(
        self, folder: Path, then: Reporter, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._path = folder / NAME
        super().__init__(then)
        self._now = now
        self._guard = threading.Lock()

    def started(self, record: RunRecord) -> None:
        self._write(
            "started",
            run_id=record.run_id,
            environment=record.environment,
            database=record.database,
            changelog=record.changelog,
            direction=record.direction.value,
        )
        super().started(record)

    def step_started(self, name: StepName, title: str) -> None:
        self._write("step_started", step=name.value, title=title)
        super().step_started(name, title)

    def step_progress(self, name: StepName, text: str, done: float | None) -> None:
        self._write("step_progress", step=name.value, text=text, done=done)
        super().step_progress(name, text, done)

    def step_ended(self, name: StepName, status: str, duration_s: float, note: str | None) -> None:
        self._write("step_ended", step=name.value, status=status, duration_s=duration_s, note=note)
        super().step_ended(name, status, duration_s, note)

    def changeset(self, changeset: ChangesetRecord, number: int, total: int) -> None:
        self._write("changeset", number=number, total=total, **changeset.model_dump(mode="json"))
        super().changeset(changeset, number, total)

    def backfill(self, backfill: BackfillRecord) -> None:
        self._write("backfill", **backfill.model_dump(mode="json"))
        super().backfill(backfill)

    def check(self, check: CheckRecord) -> None:
        self._write("check", **check.model_dump(mode="json"))
        super().check(check)

    def warning(self, text: str) -> None:
        self._write("warning", text=text)
        super().warning(text)

    def finished(self, record: RunRecord, files: Sequence[Path]) -> None:
        error = record.error.model_dump(mode="json") if record.error is not None else None
        self._write(
            "finished",
            outcome=record.outcome.value if record.outcome is not None else None,
            exit_code=record.exit_code,
            error=error,
            next_command=record.next_command,
            files=[str(file) for file in files],
        )
        super().finished(record, files)

    def _write(self, event: str, **fields: object) -> None:
        line = json.dumps({"at": self._now().isoformat(), "event": event, **fields}, ensure_ascii=False)
        with self._guard, suppress(OSError):
            descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            with open(descriptor, "a", encoding="utf-8", errors="backslashreplace") as file:
                file.write(line + "\n")
