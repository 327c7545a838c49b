"""Annotations as GitHub Actions reads them from a job's log: at a file and a line, ten of each level a step.

The limits and the escaping are those of GitHub's "Workflow commands for GitHub Actions".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from migrator.reports.wording import one_line, visible

Level = Literal["error", "warning", "notice"]
MOST = 10  # of a level: GitHub drops what comes after


@dataclass(frozen=True, kw_only=True)
class Annotation:
    level: Level
    title: str
    message: str
    file: str | None = None  # relative to the repository
    line: int | None = None


def commands(annotations: Sequence[Annotation]) -> Iterator[str]:
    """The lines to be written to the log, the most severe first; those beyond the limit are counted in one of them."""
    levels: tuple[Level, ...] = ("error", "warning", "notice")
    for level in levels:
        of_level = [one for one in annotations if one.level == level]
        shown = of_level if len(of_level) <= MOST else of_level[: MOST - 1]
        yield from (command(one) for one in shown)
        if len(shown) < len(of_level):
            message = f"{len(of_level) - len(shown)} more {level}s: see the report"
            yield command(Annotation(level=level, title="migrator", message=message))


def command(one: Annotation) -> str:
    """`::error file=...,line=...,title=...::message`; nothing in it ends the command or begins another."""
    properties = [f"file={_property(one.file)}"] if one.file else []
    if one.file and one.line is not None:
        properties.append(f"line={one.line}")
    properties.append(f"title={_property(one.title)}")
    return f"::{one.level} {','.join(properties)}::{data(visible(one.message))}"


def data(text: str) -> str:
    """The text as a command's message."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return data(one_line(text)).replace(":", "%3A").replace(",", "%2C")
