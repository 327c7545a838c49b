"""What one look of the doctor has found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from migrator.errors import MigratorError

Status = Literal["ok", "warning", "problem"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was looked at. `remedy` is there unless the status is ok."""

    name: str
    status: Status
    detail: str
    remedy: str | None = None


def failed(name: str, error: MigratorError) -> Finding:
    """The finding that an error is."""
    return Finding(name=name, status="problem", detail=error.message, remedy=error.hint)
