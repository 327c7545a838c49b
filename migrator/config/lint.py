"""What is a finding too many, and which rules are not asked: for `lint`, `plan` and the gate of a run."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from migrator.config.settings import Settings, Text

FailOn = Literal["error", "warning", "never"]


class OffRule(Settings):
    """A rule that is not asked, and why."""

    rule: Text
    """The rule's id, or a pattern such as squawk/prefer-*."""
    reason: Text
    """Why it is not asked here. It stands in every report."""


class LintSettings(Settings):
    fail_on: FailOn | None = None
    """From which severity on the answer is no: error, warning or never. Where it is set, a run is refused too. Where it
    is not, lint and plan answer no for errors, and a run only tells its findings as warnings."""
    off: tuple[OffRule, ...] = ()
    """Rules that are not asked: [{ rule = "...", reason = "..." }]."""
    server_version: Annotated[int, Field(strict=True, ge=10, le=99)] = 14
    """PostgreSQL's major version that lint assumes; a plan and a run ask the server."""
