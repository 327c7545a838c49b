"""What a changelog does that a person should know before it runs: `find` answers for a plan, for lint and for a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from migrator.plans.findings.model import Circumstances, Finding, Findings, Rule, Severity, Stake, Subject, SwitchedOff

if TYPE_CHECKING:
    from migrator.config.lint import LintSettings
    from migrator.plans.findings.database import Database

__all__ = [
    "Circumstances",
    "Finding",
    "Findings",
    "Rule",
    "Severity",
    "Stake",
    "Subject",
    "SwitchedOff",
    "find",
]


def find(
    subject: Subject, settings: LintSettings, circumstances: Circumstances, *, database: Database | None = None
) -> Findings:
    """Everything that the rules find in what would run, save what is switched off with a reason. Writes nothing.

    `database`: the target as a session reads it; None where there is none (lint), then no rows are counted.
    Never raises for what it finds: SQL that it cannot read is a finding too. Raises: StepFailed when the database
    cannot be asked.
    """
    from migrator.plans.findings import finder

    return finder.find(subject, settings, circumstances, database)
