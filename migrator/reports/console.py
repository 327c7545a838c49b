"""The story of a run on standard error: live on a terminal, plain lines elsewhere, and the verdict at the end."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TextIO, cast

from rich.console import Console as RichConsole
from rich.live import Live
from rich.text import Text

from migrator.reports import verdict, verdict_view
from migrator.reports.current_step import CurrentStep
from migrator.reports.stream import ForgivingStream
from migrator.reports.symbols import Symbols
from migrator.reports.wording import duration, one_line
from migrator.runs.record import BackfillRecord, ChangesetRecord, CheckRecord, Direction, RunRecord, StepName

WIDTH = 80
MAX_WIDTH = 100  # longer lines are hard to read
TITLE_WIDTH = 21
DURATION_WIDTH = 11
LISTED_CHANGESETS = 40  # of a longer changelog only those that fail are kept on the screen
PLAIN_PROGRESS_S = 10.0  # between two lines of progress in a log


class Console:
    """A Reporter for a person. Safe to use from several threads; a stream that is gone is no longer written to."""

    def __init__(
        self,
        stream: TextIO | None = None,
        *,
        environ: Mapping[str, str] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        target = ForgivingStream(sys.stderr if stream is None else stream)
        self._owns_stderr = stream is None
        self._symbols = Symbols.for_encoding(target.encoding)
        self._rich = RichConsole(
            file=cast("TextIO", target), highlight=False, markup=False, emoji=False, _environ=environ
        )
        self._live_allowed = target.isatty() and not self._rich.is_dumb_terminal
        self._rich.width = min(self._rich.width, MAX_WIDTH) if target.isatty() else WIDTH
        self._clock = clock
        self._lock = threading.RLock()
        self._current: CurrentStep | None = None
        self._live: Live | None = None
        self._progress_said_at = clock()

    def __enter__(self) -> Console:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """The terminal is as it was before. Safe to repeat."""
        with self._lock:
            live, self._live, self._current = self._live, None, None
            if live is not None:
                live.stop()

    def started(self, record: RunRecord) -> None:
        """The run, its environment, database and changelog are named."""
        word = "resumed" if record.steps else "run" if record.direction is Direction.UPDATE else "rollback"
        with self._lock:
            self._say(Text(one_line(f"{word} {record.run_id} of {record.changelog}"), style="bold"))
            self._say(Text(one_line(f"{record.environment}: {record.database}"), style="dim"))
            self._say(Text())

    def step_started(self, name: StepName, title: str) -> None:
        with self._lock:
            self.close()
            self._current = CurrentStep(
                name=name, title=one_line(title), symbols=self._symbols, clock=self._clock, since=self._clock()
            )
            self._progress_said_at = self._clock()
            if not self._live_allowed:
                self._say(Text(f"{self._symbols.running} {self._current.title}"))
                return
            self._live = Live(
                self._current,
                console=self._rich,
                transient=True,
                refresh_per_second=8,
                redirect_stdout=False,
                redirect_stderr=self._owns_stderr,
            )
            self._live.start()
            self._rich.show_cursor(show=True)  # a run that is killed leaves the terminal usable

    def step_progress(self, name: StepName, text: str, done: float | None) -> None:
        with self._lock:
            if self._current is None or self._current.name is not name:
                return
            self._current.tell(one_line(text), done)
            if self._live_allowed or self._clock() - self._progress_said_at < PLAIN_PROGRESS_S:
                return
            self._progress_said_at = self._clock()
            self._say(Text(f"  {self._symbols.running} {self._current.progress()}"))

    def step_ended(self, name: StepName, status: str, duration_s: float, note: str | None) -> None:
        with self._lock:
            title = self._current.title if self._current is not None else name.value.replace("_", " ")
            self.close()
            line = Text(f"{self._symbols.of(status)} ", style="bold")
            line.append(f"{title:<{TITLE_WIDTH}} ", style="bold" if status != "done" else "not bold")
            line.append(f"{duration(duration_s):>{DURATION_WIDTH}}", style="not bold")
            words = [] if status in {"done", "undone"} else [status]
            words += [one_line(note)] if note else []
            line.append("  " + ": ".join(words) if words else "", style="not bold dim")
            self._say(line, hanging=TITLE_WIDTH + DURATION_WIDTH + 5)

    def changeset(self, changeset: ChangesetRecord, number: int, total: int) -> None:
        label = one_line(f"{changeset.path}::{changeset.id}::{changeset.author}")
        with self._lock:
            if self._current is not None:
                self._current.tell(f"{number}/{total} {label}", (number - 1) / total if total else None)
            if changeset.status in {"running", "pending"}:
                return
            if total > LISTED_CHANGESETS and changeset.status != "failed":
                return
            line = Text(f"  {self._symbols.of(changeset.status)} {number}/{total} {label}", style="dim")
            if changeset.status != "executed":
                line.append(f"  {verdict.changeset_status(changeset)}", style="not dim bold")
            if changeset.duration_s is not None:
                line.append(f"  {duration(changeset.duration_s)}")
            self._say(line, hanging=6)

    def backfill(self, backfill: BackfillRecord) -> None:
        with self._lock:
            if self._current is not None:
                self._current.tell(f"backfill {backfill.name} of {backfill.table}", None)
            if backfill.state in {"running", "pending"}:
                return
            line = Text(f"  {self._symbols.of('done')} {one_line(verdict.backfill(backfill))}", style="dim")
            self._say(line, hanging=6)

    def check(self, check: CheckRecord) -> None:
        with self._lock:
            if self._current is not None:
                self._current.tell(one_line(check.name), None)
            if check.success:
                return
            about = f" on {check.table}" if check.table else ""
            line = Text(f"  {self._symbols.failed} ", style="bold")
            line.append(one_line(f"check {check.name}{about} ({check.phase}, {check.severity})"))
            line.append(one_line(f": {check.detail}") if check.detail else "", style="not bold")
            self._say(line, hanging=4)

    def warning(self, text: str) -> None:
        with self._lock:
            self._say(Text(f"  {self._symbols.warning} {one_line(text)}"), hanging=4)

    def finished(self, record: RunRecord, files: Sequence[Path]) -> None:
        """The verdict stands at the end, the next command on the last line, whole, to be copied."""
        with self._lock:
            self.close()
            self._say(Text())
            for part in verdict_view.parts(record, self._symbols, plain=not self._live_allowed, width=self._rich.width):
                self._rich.print(part, soft_wrap=isinstance(part, Text))  # wrapped already, but for a path
            page = [path for path in files if path.suffix == ".html"]
            for path in page or files:  # the others lie beside it
                self._say_whole("report", str(path))
            if record.next_command:
                self._say_whole("next", record.next_command)

    def _say(self, line: Text, *, hanging: int = 0) -> None:
        """One line of the story: on a terminal it is wrapped below itself, in a log it stays one line."""
        if not self._live_allowed or not hanging:
            self._rich.print(line, soft_wrap=not self._live_allowed, no_wrap=not self._live_allowed)
            return
        first, *rest = line.wrap(self._rich, self._rich.width)
        self._rich.print(first)
        if rest:
            below = Text(" ").join(rest)
            for more in below.wrap(self._rich, self._rich.width - hanging):
                self._rich.print(Text(" " * hanging) + more)

    def _say_whole(self, label: str, value: str) -> None:
        line = Text(f"  {label:<{verdict_view.LABEL_WIDTH}}", style="dim")
        line.append(one_line(value), style="not dim bold" if label == "next" else "not dim")
        self._rich.print(line, soft_wrap=True)
