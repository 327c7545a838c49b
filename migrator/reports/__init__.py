"""What a person or a program reads of a run."""

from __future__ import annotations

from pathlib import Path

from migrator.runs.record import RunRecord


def write(record: RunRecord, folder: Path) -> list[Path]:
    """`report.json`, `report.md` and `report.html` are in the folder, mode 0600; their paths. Safe to repeat.

    Raises: StepFailed when one cannot be written.
    """
    from migrator.reports import html, json_report, markdown

    return [
        json_report.write(record, folder / "report.json"),
        markdown.write(record, folder / "report.md"),
        html.write(record, folder / "report.html"),
    ]
