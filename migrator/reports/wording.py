"""Durations, sizes and counts as a person reads them, and foreign text made fit to be shown."""

from __future__ import annotations

import textwrap
import unicodedata
from collections.abc import Iterator

from migrator.plans.words import count, size

__all__ = ["count", "duration", "labelled", "one_line", "size", "visible"]

CONSOLE_WIDTH = 80  # characters; a narrow console, and a log that nobody asked

_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn"}  # controls, direction marks, halves of pairs, no characters at all
_KEPT = {"\n", "\t", "\u200c", "\u200d"}  # the last two join letters in some scripts


def visible(text: str) -> str:
    """The text without anything that a terminal obeys or that hides or turns what is read."""
    return "".join(
        char if char in _KEPT or unicodedata.category(char) not in _HIDDEN else "\N{REPLACEMENT CHARACTER}"
        for char in text.replace("\r\n", "\n")
    )


def one_line(text: str) -> str:
    """The visible text on one line."""
    return " ".join(visible(text).split())


def labelled(label: str, value: str, *, width: int, indent: int = 2) -> Iterator[str]:
    """Lines of a console: the label in a column of `width` characters, the value beside it, no word broken.

    An empty value has no line.
    """
    yield from textwrap.wrap(
        one_line(value),
        CONSOLE_WIDTH,
        initial_indent=" " * indent + f"{label:<{width}}",
        subsequent_indent=" " * (indent + width),
        break_long_words=False,
        break_on_hyphens=False,
    )


def duration(seconds: float) -> str:
    """4.2 s, 2 min 05 s, 1 h 02 min."""
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min"
