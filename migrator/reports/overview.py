"""`history --html`: one page over many runs: how long they took, how long users were held off, how they ended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from statistics import median

from migrator.reports import files, verdict
from migrator.reports.html import environment
from migrator.reports.plots import nice
from migrator.reports.verdict import Verdict
from migrator.reports.wording import duration
from migrator.runs.record import Outcome, RunRecord

_UNTOUCHED = {Outcome.REFUSED, Outcome.LOCKED, Outcome.NOTHING_TO_DO}


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One run of the page; shares are per cent of the tallest bar."""

    record: RunRecord
    verdict: Verdict
    took_s: float | None
    downtime_s: float | None
    took_share: float
    downtime_share: float

    @property
    def took(self) -> str:
        return "" if self.took_s is None else duration(self.took_s)

    @property
    def downtime(self) -> str:
        if self.downtime_s is not None:
            return duration(self.downtime_s)
        return "still on" if self.record.maintenance.started_at is not None else ""


def render(records: Sequence[RunRecord], *, now: datetime) -> str:
    """The page over these runs, whatever their order; the oldest stands at the left."""
    ordered = sorted(records, key=lambda record: record.started_at)
    top_s = nice(max((verdict.took_s(record) or 0.0 for record in ordered), default=1.0))
    entries = [_entry(record, top_s) for record in ordered]
    touched = [entry for entry in entries if entry.record.outcome not in _UNTOUCHED and entry.took_s is not None]
    return (
        environment()
        .get_template("history.html.j2")
        .render(
            entries=entries,
            newest_first=entries[::-1],
            top_s=top_s,
            tally=Counter(entry.verdict.headline for entry in entries).most_common(),
            figures=_figures(touched),
            environments=sorted({record.environment for record in ordered}),
            now=now,
        )
    )


def write(records: Sequence[RunRecord], path: Path, *, now: datetime) -> Path:
    """The file holds the page, mode 0600. Safe to repeat.

    Raises: StepFailed.
    """
    return files.write(path, render(records, now=now))


def _entry(record: RunRecord, top_s: float) -> Entry:
    took_s, downtime_s = verdict.took_s(record), _downtime_s(record)
    return Entry(
        record=record,
        verdict=Verdict.of(record),
        took_s=took_s,
        downtime_s=downtime_s,
        took_share=round(100 * (took_s or 0.0) / top_s, 2),
        downtime_share=round(min(100.0, 100 * (downtime_s or 0.0) / top_s), 2),
    )


def _downtime_s(record: RunRecord) -> float | None:
    kept_off = record.maintenance
    if kept_off.started_at is None or kept_off.ended_at is None:
        return None
    if kept_off.downtime_s is not None:
        return kept_off.downtime_s
    return (kept_off.ended_at - kept_off.started_at).total_seconds()


def _figures(touched: Sequence[Entry]) -> list[tuple[str, str]]:
    """Label and value; only of runs that did something and have ended."""
    if not touched:
        return []
    good = sum(entry.record.exit_code == 0 for entry in touched)
    figures = [
        ("went well", f"{good} of {len(touched)}"),
        ("took, median", duration(median(entry.took_s or 0.0 for entry in touched))),
        ("took, longest", duration(max(entry.took_s or 0.0 for entry in touched))),
    ]
    held_off = [entry.downtime_s for entry in touched if entry.downtime_s is not None]
    if held_off:
        figures += [
            ("users held off, median", duration(median(held_off))),
            ("users held off, longest", duration(max(held_off))),
        ]
    return figures
