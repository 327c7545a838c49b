"""The verdict on the console: a panel on a terminal, lines in a log. The only place with colour."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from migrator.reports import verdict
from migrator.reports.symbols import Symbols
from migrator.reports.verdict import Tone, Verdict
from migrator.reports.wording import one_line
from migrator.runs.record import RunRecord

LABEL_WIDTH = 15
MAX_LINES = 8  # of one fact; the report has them all
_COLOURS = {Tone.GOOD: "green", Tone.CAUTION: "yellow", Tone.BAD: "red"}
_LISTS = {"proven", "not proven", "gates", "warnings", "kept", "surprises", "checks failed"}


def parts(record: RunRecord, symbols: Symbols, *, plain: bool, width: int) -> Iterator[RenderableType]:
    """The verdict, to be printed in this order."""
    found = Verdict.of(record)
    facts = [(label, list(_shortened(lines))) for label, lines in verdict.facts(record)]
    if plain:
        yield from _lines(found, facts, symbols, width)
    else:
        yield _panel(found, facts, symbols)


def _panel(found: Verdict, facts: list[tuple[str, list[str]]], symbols: Symbols) -> Panel:
    colour = _COLOURS[found.tone]
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="dim", no_wrap=True, width=LABEL_WIDTH - 2)
    grid.add_column(overflow="fold")
    for label, lines in facts:
        value = Table.grid(padding=(0, 1, 0, 0))
        listed = label in _LISTS and len(lines) > 1
        if listed:
            value.add_column()
        value.add_column(overflow="fold")
        for line in lines:
            value.add_row(*([symbols.bullet] if listed else []), Text(line))
        grid.add_row(label, value)
    return Panel(
        Group(Text(found.database), Padding(grid, (1, 0, 0, 0))),
        title=Text(found.headline, style=f"bold {colour}"),
        title_align="left",
        border_style=colour,
        box=box.ROUNDED if symbols.bullet == "•" else box.ASCII,
        padding=(1, 1),
    )


def _lines(found: Verdict, facts: list[tuple[str, list[str]]], symbols: Symbols, width: int) -> Iterator[Text]:
    yield Text(found.headline, style=f"bold {_COLOURS[found.tone]}")
    yield from (Text(line) for line in textwrap.wrap(found.database, width))
    for label, lines in facts:
        listed = label in _LISTS and len(lines) > 1
        for number, line in enumerate(lines):
            head = f"  {label if number == 0 else '':<{LABEL_WIDTH}}" + (f"{symbols.bullet} " if listed else "")
            wrapped = textwrap.wrap(
                line,
                width,
                initial_indent=head,
                subsequent_indent=" " * len(head),
                break_long_words=False,
                break_on_hyphens=False,
            )
            yield from (Text(part, no_wrap=True, overflow="ignore") for part in wrapped)


def _shortened(lines: list[str]) -> Iterator[str]:
    yield from (one_line(line) for line in lines[:MAX_LINES])
    if len(lines) > MAX_LINES:
        yield f"and {len(lines) - MAX_LINES} more, in the report"
