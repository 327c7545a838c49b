"""The program `migrator`, with a fate: at a chosen moment it, or a process that it has started, comes to harm.

    python -m tests.acceptance.victim MOMENT DEED [ARGUMENT OF MIGRATOR ...]

A moment is what a reporter is told (`started:apply`, `ended:commit`, `changeset:2:running`, `progress:pg_dump`,
`title:let users in again`), or a call: `before:migrator.runs.restore:databases.swap`, `after:...`. The first counts.
"""

from __future__ import annotations

import functools
import importlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from migrator.runs.record import BackfillRecord, ChangesetRecord, CheckRecord, RunRecord, StepName

_TOOLS = ("pg_dump", "pg_restore")
_WORKER = "migrator.liquibase.worker"


class Fate:
    """What is to happen, and when; it happens once."""

    def __init__(self, moment: str, deed: str) -> None:
        self.moment = moment
        self._deed = deed
        self._once = threading.Lock()

    def reached(self, moment: str) -> None:
        if moment == self.moment and self._once.acquire(blocking=False):
            _DEEDS[self._deed.partition("=")[0]](self._deed.partition("=")[2])


class Told:
    """A reporter whose every word is a moment."""

    def __init__(self, fate: Fate) -> None:
        self._fate = fate

    def started(self, record: RunRecord) -> None:
        sys.stderr.write(f"run {record.run_id}\n")
        sys.stderr.flush()

    def step_started(self, name: StepName, title: str) -> None:
        sys.stderr.write(f"{title}\n")
        self._fate.reached(f"started:{name.value}")
        self._fate.reached(f"title:{title}")

    def step_progress(self, name: StepName, text: str, done: float | None) -> None:
        self._fate.reached(f"progress:{text}")
        self._fate.reached(f"progress:{text.split(maxsplit=1)[0]}")

    def step_ended(self, name: StepName, status: str, duration_s: float, note: str | None) -> None:
        sys.stderr.write(f"{name.value} {status}: {note}\n")
        self._fate.reached(f"ended:{name.value}" if status == "done" else f"{status}:{name.value}")

    def changeset(self, changeset: ChangesetRecord, number: int, total: int) -> None:
        self._fate.reached(f"changeset:{number}:{changeset.status}")

    def backfill(self, backfill: BackfillRecord) -> None:
        self._fate.reached(f"backfill:{backfill.name}:{backfill.state}")

    def check(self, check: CheckRecord) -> None:
        self._fate.reached(f"check:{check.phase}")

    def warning(self, text: str) -> None:
        sys.stderr.write(f"warning: {text}\n")

    def finished(self, record: RunRecord, files: Sequence[Path]) -> None:
        sys.stderr.write(f"{record.outcome}: {record.error.message if record.error else 'no error'}\n")


def main(moment: str, deed: str, arguments: Sequence[str]) -> int:
    from migrator.cli import boundary, conduct
    from migrator.cli.app import app

    fate = Fate(moment, deed)
    conduct.reporter = lambda *, silent: Told(fate)
    when, _, where = moment.partition(":")
    if when in {"before", "after"}:
        _intercept(fate, when, where)
    return boundary.run(app, arguments)


def _intercept(fate: Fate, when: str, where: str) -> None:
    module, _, path = where.partition(":")
    *outer, name = path.split(".")
    owner = functools.reduce(getattr, outer, importlib.import_module(module))
    original = getattr(owner, name)

    @functools.wraps(original)
    def replacement(*args: Any, **kwargs: Any) -> Any:
        if when == "before":
            fate.reached(fate.moment)
        result = original(*args, **kwargs)
        if when == "after":
            fate.reached(fate.moment)
        return result

    setattr(owner, name, replacement)


def _signal(number: signal.Signals) -> Callable[[str], None]:
    return lambda _: os.kill(os.getpid(), number)


def _soon(number: signal.Signals) -> Callable[[str], None]:
    """While the statement that is about to begin is at work: another thread sends it when the server says so."""

    def send() -> None:
        time.sleep(0.5)
        os.kill(os.getpid(), number)

    return lambda _: threading.Thread(target=send, daemon=True).start()


def _kill_worker(_: str) -> None:
    for pid in _descendants(lambda pid: _WORKER in _command_line(pid)):
        os.kill(pid, signal.SIGKILL)


def _when_a_tool_runs(act: Callable[[int], None]) -> Callable[[str], None]:
    def wait() -> None:
        while True:
            for pid in _descendants(lambda pid: _name(pid) in _TOOLS and _is_at_work(pid)):
                act(pid)
                return
            time.sleep(0.001)

    return lambda _: threading.Thread(target=wait, daemon=True).start()


def _hold(place: str) -> None:
    """Tells the test that the moment is reached, and waits for its word."""
    Path(place).with_suffix(".reached").touch()
    while not Path(place).with_suffix(".go").exists():
        time.sleep(0.01)


def _set_clock(forward_s: str) -> None:
    """The machine's clock was set, as far as this process can tell; what counts seconds only goes on."""
    offset_s, seconds, nanoseconds, original = float(forward_s), time.time, time.time_ns, datetime
    time.time = lambda: seconds() + offset_s
    time.time_ns = lambda: nanoseconds() + int(offset_s * 1e9)

    class Set(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return original.now(tz) + timedelta(seconds=offset_s)

        @classmethod
        def __get_pydantic_core_schema__(cls, _source: Any, handler: Any) -> Any:
            return handler(original)  # for models of modules that are imported later

    for name, module in list(sys.modules.items()):
        if name.startswith("migrator.") and getattr(module, "datetime", None) is original:
            module.datetime = Set  # type: ignore[attr-defined]


def _descendants(wanted: Callable[[int], bool]) -> list[int]:
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, IndexError):
                continue
    found, front = [], {os.getpid()}
    while front:
        front = {pid for pid, parent in parents.items() if parent in front}
        found += [pid for pid in front if wanted(pid)]
    return found


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def _is_at_work(pid: int) -> bool:
    """It has loaded its program, so it will be told of as killed, and has not ended."""
    return bool(_command_line(pid))


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


_DEEDS: dict[str, Callable[[str], None]] = {
    "kill": _signal(signal.SIGKILL),
    "int": _signal(signal.SIGINT),
    "term": _signal(signal.SIGTERM),
    "hup": _signal(signal.SIGHUP),
    "term-soon": _soon(signal.SIGTERM),
    "kill-soon": _soon(signal.SIGKILL),
    "kill-worker": _kill_worker,
    "kill-tool": _when_a_tool_runs(lambda pid: os.kill(pid, signal.SIGKILL)),
    "kill-while-tool-runs": _when_a_tool_runs(lambda _pid: os.kill(os.getpid(), signal.SIGKILL)),
    "hold": _hold,
    "clock": _set_clock,
    "none": lambda _: None,
}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], sys.argv[3:]))
