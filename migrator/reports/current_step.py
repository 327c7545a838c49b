"""The line of the step that runs: a spinner, how long it has taken, and how far it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from migrator.reports.symbols import Symbols
from migrator.reports.wording import duration
from migrator.runs.record import StepName

_FRAMES_PER_S = 8
_BAR_WIDTH = 12
_TITLE_WIDTH = 21
_DURATION_WIDTH = 11


@dataclass(kw_only=True)
class CurrentStep:
    """Drawn anew by rich several times a second; `clock` is monotonic, in seconds."""

    name: StepName
    title: str
    symbols: Symbols
    clock: Callable[[], float]
    since: float
    text: str = field(default="", init=False)
    done: float | None = field(default=None, init=False)

    def tell(self, text: str, done: float | None) -> None:
        """How far it is: one line, and the fraction done or None."""
        self.text, self.done = text, None if done is None else min(1.0, max(0.0, done))

    def progress(self) -> str:
        """Fraction and text: "45% dumping public.orders"."""
        percent = "" if self.done is None else f"{self.done:.0%} "
        return (percent + self.text).strip()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        elapsed_s = self.clock() - self.since
        frames = self.symbols.spinner
        line = Text(f"{frames[int(elapsed_s * _FRAMES_PER_S) % len(frames)]} ", no_wrap=True, overflow="ellipsis")
        line.append(f"{self.title:<{_TITLE_WIDTH}} ", style="bold")
        line.append(f"{duration(elapsed_s):>{_DURATION_WIDTH}}  ")
        if self.done is not None:
            full = round(self.done * _BAR_WIDTH)
            line.append(self.symbols.bar_full * full + self.symbols.bar_empty * (_BAR_WIDTH - full), style="dim")
            line.append(f" {self.done:4.0%} ", style="dim")
        line.append(self.text, style="dim")
        line.truncate(options.max_width, overflow="ellipsis" if self.symbols.bullet == "•" else "crop")
        yield line
