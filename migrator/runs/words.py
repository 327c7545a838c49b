"""Numbers with their nouns."""

from __future__ import annotations


def count(number: int, noun: str, plural: str | None = None) -> str:
    """1 table, 41 tables, 12,345 rows."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"
