"""Durations, sizes and counts as a person reads them, and foreign text made fit to be shown."""

from __future__ import annotations

import unicodedata

from migrator.plans.words import count, size

__all__ = ["count", "duration", "one_line", "size", "visible"]

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


def duration(seconds: float) -> str:
    """4.2 s, 2 min 05 s, 1 h 02 min."""
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min"
