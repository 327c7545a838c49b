"""What a person or a program reads of a run."""

from __future__ import annotations

from pathlib import Path

from migrator.plans.plan import Plan
from migrator.runs.record import RunRecord


def write(record: RunRecord, folder: Path) -> list[Path]:
    """The reports are in the folder as JSON, Markdown, HTML and JUnit's XML, mode 0600; their paths. Safe to repeat.

    Raises: StepFailed when one cannot be written.
    """
    from migrator.reports import html, json_report, junit, markdown

    return [
        json_report.write(record, folder / "report.json"),
        markdown.write(record, folder / "report.md"),
        html.write(record, folder / "report.html"),
        junit.write(record, folder / "report.junit.xml"),
    ]


def write_plan(plan: Plan, folder: Path) -> Path:
    """`plan.json`, what the run was to do, is in the folder, mode 0600. Safe to repeat. Raises: StepFailed."""
    from migrator.reports import files, html

    return files.write(folder / html.PLAN, plan.model_dump_json(indent=2) + "\n")
