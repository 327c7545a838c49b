"""What the process that runs the suites may say, one record for each of its messages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from migrator.errors import ToolFailed
from migrator.processes import Child, NotUnderstood, decode


@dataclass(frozen=True, kw_only=True)
class Ready:
    """It has imported what it needs."""

    version: str
    import_s: float


@dataclass(frozen=True, kw_only=True)
class Working:
    """It runs a statement on a session of its own."""


@dataclass(frozen=True, kw_only=True)
class Query:
    """It wants the result of a statement."""

    sql: str
    max_rows: int

    def __post_init__(self) -> None:
        if self.max_rows < 1:
            raise ValueError("there is no such number of rows")


@dataclass(frozen=True, kw_only=True)
class Verdict:
    suite: int  # counted from 0, as they were sent
    index: int  # of the expectation in it
    success: bool
    detail: str | None


@dataclass(frozen=True, kw_only=True)
class NotChecked:
    suite: int
    detail: str


@dataclass(frozen=True, kw_only=True)
class Problem:
    """An expectation that Great Expectations would not take."""

    suite: int
    index: int
    message: str


@dataclass(frozen=True, kw_only=True)
class Done:
    problems: tuple[Problem, ...] | None = None  # None: the suites were run, not validated


@dataclass(frozen=True, kw_only=True)
class Failed:
    """It cannot go on, and no verdict is complete."""

    message: str
    code: str
    hint: str | None
    connection: bool  # the database was not reached


Heard = Ready | Working | Query | Verdict | NotChecked | Done | Failed

_EVENTS: Mapping[str, type[Any]] = {
    "ready": Ready,
    "working": Working,
    "query": Query,
    "verdict": Verdict,
    "not_checked": NotChecked,
    "done": Done,
    "failed": Failed,
}


def listen(child: Child, timeout_s: float) -> Heard:
    """Its next message. Raises: ToolFailed, code `protocol` for one that is none of these."""
    said = child.receive(timeout_s)
    event = said.pop("event", None)
    if not isinstance(event, str) or event not in _EVENTS:
        raise not_understood("it names no event that is known here")
    try:
        heard: Heard = decode(_EVENTS[event], said)
    except NotUnderstood as error:
        raise not_understood(f"{event}: {error}") from error
    return heard


def not_understood(why: str) -> ToolFailed:
    """The process cannot be believed any more."""
    return ToolFailed(f"the process that runs the suites said something that is no answer: {why}", code="protocol")
