"""Findings as annotations of GitHub Actions, at the changelog's file and line."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from migrator.plans.findings import Findings, Severity
from migrator.reports.workflow_commands import Annotation, Level, commands

_LEVELS: Mapping[Severity, Level] = MappingProxyType(
    {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "notice"}
)


def render(found: Findings, *, prefix: str = "") -> str:
    """One command a line; `prefix` is what stands before a changelog's path in the repository."""
    annotations = [
        Annotation(
            level=_LEVELS[one.severity],
            title=one.rule,
            message=f"{one.message}\nWhy: {one.why}\nSafer: {one.safer}",
            file=None if one.file is None else f"{prefix}{one.file}",
            line=one.line,
        )
        for one in found.found
    ]
    return "\n".join(commands(annotations))
