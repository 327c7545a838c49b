"""What is at work beside the steps of a run, in threads of its own, as the run and its steps know it."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from migrator.backups import Made
from migrator.errors import MigratorError
from migrator.postgres import fence


class Watching(Protocol):
    """Keeps an eye on the run. See `migrator.runs.watch`."""

    alarm: MigratorError | None  # the first

    def start(self) -> None: ...
    def stop(self) -> None: ...
    def fenced(self, mode: fence.Mode | None) -> None: ...
    def going_back(self) -> None: ...
    def check(self) -> None: ...
    def check_alarm(self) -> None: ...
    def check_ownership(self) -> None: ...


class DumpUnderWay(Protocol):
    """A backup that is made while the run goes on. See `migrator.runs.dumping`."""

    folder: Path
    began_at: float  # by the monotonic clock
    snapshot: str  # can be imported until it is waited for or ended

    @property
    def failure(self) -> Exception | None: ...
    def wait(self) -> Made: ...
    def end(self) -> bool: ...
