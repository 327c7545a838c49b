"""`report.html`: a run as one page, for people. It needs nothing but itself: no network, no script."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from migrator.reports import files, verdict
from migrator.reports.plots import Plot
from migrator.reports.timeline import Timeline
from migrator.reports.verdict import Verdict
from migrator.reports.wording import count, duration, one_line, size, visible
from migrator.runs import samples
from migrator.runs.record import CheckRecord, RunRecord, TableRecord
from migrator.runs.samples import Sample

if TYPE_CHECKING:
    from jinja2 import Environment

MAX_ROWS = 500  # of a table; report.json has them all
_LOG_LINES = 400  # of each log, the last ones; the files have them all
_LOGS = {
    "run.jsonl": "the run, as JSON lines",
    "liquibase.log": "Liquibase",
    "pg_dump.log": "pg_dump and pg_restore",
    "checks.log": "Great Expectations",
    "maintenance.log": "maintenance commands",
    "bug.log": "a bug in migrator",
}
PLAN = "plan.json"  # what preflight found out, as it was carried out
_SHOWN_ELSEWHERE = {"proven", "not proven", "error", "what to do", "backup", "warnings", "checks failed", "kept"}


@dataclass(frozen=True, kw_only=True)
class Log:
    """The end of one file of the run's folder."""

    name: str
    what: str
    text: str
    lines: int  # that the file has


@dataclass(frozen=True, kw_only=True)
class Material:
    """What a run's folder has beside its record."""

    statements: Mapping[str, Sequence[str]] = field(default_factory=dict)  # path::id::author -> its SQL
    samples: Sequence[Sample] = ()
    logs: Sequence[Log] = ()

    @classmethod
    def of(cls, folder: Path) -> Material:
        """Everything that is there; what is not, or cannot be read, is left out."""
        return cls(statements=_statements(folder), samples=list(samples.read(folder)), logs=_logs(folder))


def render(record: RunRecord, material: Material) -> str:
    """The page. Every value from outside is escaped, and shown without characters that hide or turn text."""
    told, timeline = Verdict.of(record), Timeline.of(record)
    facts = [(label, lines) for label, lines in verdict.facts(record) if label not in _SHOWN_ELSEWHERE]
    return (
        environment()
        .get_template("report.html.j2")
        .render(
            record=record,
            verdict=told,
            facts=facts,
            error_lines=list(verdict.error_lines(record)),
            timeline=timeline,
            kinds={bar.kind for _, bar in timeline.lanes},
            changesets=record.changesets[:MAX_ROWS],
            backfills=record.backfills,
            statements=material.statements,
            tables=sorted(record.tables, key=_written, reverse=True)[:MAX_ROWS],
            checks=sorted(record.checks, key=_failed_first)[:MAX_ROWS],
            max_rows=MAX_ROWS,
            samples=len(material.samples),
            waits=_waits_plot(record, material.samples),
            logs=material.logs,
        )
    )


def write(record: RunRecord, path: Path) -> Path:
    """The file holds the page, mode 0600; what lies beside it in the folder is drawn into it. Safe to repeat.

    Raises: StepFailed.
    """
    return files.write(path, render(record, Material.of(path.parent)))


@cache
def environment() -> Environment:
    """The templates, with the words that every report uses."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    def shown(value: object) -> object:
        return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value

    made = Environment(
        loader=PackageLoader("migrator.reports", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=shown,
    )
    made.filters |= {"duration": duration, "size": size, "line": one_line, "status": verdict.changeset_status}
    made.globals |= {"count": count, "changesets_tally": verdict.changesets, "rows_changed": verdict.rows_changed}
    return made


def _written(table: TableRecord) -> tuple[bool, int]:
    moved = (table.inserted or 0) + (table.updated or 0) + (table.deleted or 0)
    return bool(moved) or table.rows_before != table.rows_after, moved


def _failed_first(check: CheckRecord) -> tuple[bool, bool]:
    return check.success, check.phase == "before"


def _waits_plot(record: RunRecord, taken: Sequence[Sample]) -> Plot | None:
    """Nothing where there is nothing to be seen: too short a run, or no lock and nobody who waited."""
    if len(taken) < 2 or not any(one.locked or one.waiting for one in taken):
        return None
    at = [(one.at - record.started_at).total_seconds() for one in taken]
    return Plot.of(
        at,
        {
            "tables locked against writers": [float(one.locked) for one in taken],
            "sessions of others waiting": [float(one.waiting) for one in taken],
        },
    )


def _statements(folder: Path) -> dict[str, list[str]]:
    """What the run's own plan says of its changesets' SQL; references in it are masked there."""
    with suppress(OSError, ValueError, TypeError, KeyError):
        plan = json.loads((folder / PLAN).read_text(encoding="utf-8"))
        return {f"{one['path']}::{one['id']}::{one['author']}": list(one["sql"]) for one in plan["changesets"]}
    return {}


def _logs(folder: Path) -> list[Log]:
    found = []
    for name, what in _LOGS.items():
        with suppress(OSError):
            lines = (folder / name).read_text(encoding="utf-8", errors="replace").splitlines()
            if lines:
                found.append(Log(name=name, what=what, text="\n".join(lines[-_LOG_LINES:]), lines=len(lines)))
    return found
