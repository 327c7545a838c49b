"""Findings for programs."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from migrator.plans.findings import Finding, Findings, Severity


def document(found: Findings) -> dict[str, Any]:
    """Every finding with its numbers, what was switched off, how many are old, and the others by severity."""
    return {
        "findings": [finding(one) for one in found.found],
        "switched_off": [
            {**finding(off.finding), "reason": off.reason, "switched_off_by": off.by} for off in found.switched_off
        ],
        "old": len(found.old),
        "counts": {severity.value: found.count(severity) for severity in Severity},
    }


def finding(one: Finding) -> dict[str, Any]:
    """One finding; `file` is relative to liquibase.root, `rows_at_stake` is null where no database was asked."""
    return {
        "rule": one.rule,
        "severity": one.severity.value,
        "message": one.message,
        "why": one.why,
        "safer": one.safer,
        "changeset": one.changeset,
        "file": one.file,
        "line": one.line,
        "rows_at_stake": one.rows_at_stake,
        "tables": [asdict(stake) for stake in one.stakes],
    }
