"""What came of one check."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Phase = Literal["before", "after"]
Severity = Literal["critical", "warning", "info"]


@dataclass(frozen=True, kw_only=True)
class CheckResult:
    """A rule was looked at. A rule that could not be looked at has no success, and `detail` says why."""

    name: str  # suite and expectation, or the invariant's name
    phase: Phase
    success: bool
    severity: Severity = "critical"  # anything else is reported only
    table: str | None = None  # what the rule is about; None for a query or an invariant
    detail: str | None = None
    duration_s: float | None = None  # None where the rule was part of a batch


def failures(results: Iterable[CheckResult]) -> list[CheckResult]:
    """The results that end a run: critical rules that did not hold or could not be looked at."""
    return [result for result in results if result.severity == "critical" and not result.success]
