"""A run as a picture: one lane for each thing that lasts, on one axis of seconds."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from migrator.reports.wording import duration
from migrator.runs.record import Outcome, RunRecord

_BAD = {"failed", "interrupted"}
_WENT_BACK = {Outcome.ROLLED_BACK, Outcome.RESTORED, Outcome.FAILED_BEFORE, Outcome.HALTED}


@dataclass(frozen=True, kw_only=True)
class Bar:
    """From `start_s` to `end_s` after the run began; `kind` is done, bad, undone, held_off or backup."""

    label: str
    start_s: float
    end_s: float
    kind: str

    @property
    def duration(self) -> str:
        return duration(self.end_s - self.start_s)


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """Lanes from top to bottom, each with its name; `ticks_s` are where the axis is labelled."""

    lanes: tuple[tuple[str, Bar], ...]
    length_s: float
    ticks_s: tuple[float, ...]

    @classmethod
    def of(cls, record: RunRecord) -> Timeline:
        """The timeline of a run, or of how far it is; without lanes where no step has begun."""
        lanes = sorted(_lanes(record), key=lambda lane: (lane[1].start_s, -lane[1].end_s))
        length_s = max((bar.end_s for _, bar in lanes), default=0.0) or 0.1
        return cls(lanes=tuple(lanes), length_s=length_s, ticks_s=tuple(_ticks(length_s)))

    def share(self, seconds: float) -> float:
        """Where on the axis, from 0 to 100."""
        return round(100.0 * min(max(seconds, 0.0), self.length_s) / self.length_s, 3)


def _lanes(record: RunRecord) -> Iterator[tuple[str, Bar]]:
    def since(moment: datetime) -> float:
        return max(0.0, (moment - record.started_at).total_seconds())

    now_s = since(record.ended_at) if record.ended_at is not None else None
    last = record.steps[-1] if record.steps and record.outcome in _WENT_BACK else None  # the one that failed
    for step in record.steps:
        start_s = since(step.started_at)
        end_s = start_s + step.duration_s if step.duration_s is not None else max(now_s or start_s, start_s)
        kind = "bad" if step.status in _BAD or step is last else "undone" if step.status == "undone" else "done"
        name = step.name.value.replace("_", " ") + (f" ({step.attempt})" if step.attempt > 1 else "")
        yield name, Bar(label=step.status, start_s=start_s, end_s=end_s, kind=kind)
        if step is last and now_s is not None and step.status == "undone":
            yield "way back", Bar(label="the way back", start_s=end_s, end_s=max(now_s, end_s), kind="back")
    kept_off = record.maintenance
    if kept_off.started_at is not None:
        start_s = since(kept_off.started_at)
        ended = kept_off.ended_at or record.ended_at
        end_s = max(start_s, since(ended)) if ended is not None else start_s
        label = "users held off" if kept_off.ended_at is not None else "users held off, still"
        yield "maintenance", Bar(label=f"{label} ({kept_off.mode})", start_s=start_s, end_s=end_s, kind="held_off")
    for backup in record.backups:
        if backup.started_at is not None and backup.duration_s is not None:
            start_s = since(backup.started_at)
            yield (
                f"{backup.kind}",
                Bar(label="backup", start_s=start_s, end_s=start_s + backup.duration_s, kind="backup"),
            )


def _ticks(length_s: float) -> Iterator[float]:
    """Round numbers, five to ten of them."""
    rough = length_s / 6
    power = 10.0 ** math.floor(math.log10(rough))
    step_s = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    number = 0
    while number * step_s <= length_s * 1.0001:
        yield round(number * step_s, 6)
        number += 1
