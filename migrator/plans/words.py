"""Numbers with their nouns and units."""

from __future__ import annotations


def count(number: int, noun: str, plural: str | None = None) -> str:
    """1 table, 41 tables, 12,345 rows."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def size(size_bytes: int) -> str:
    """512 B, 4.2 kB, 312 MB, 1.9 TB; a thousand each."""
    amount = float(size_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 999.5:
            return f"{amount:.1f} {unit}" if amount < 9.95 and unit != "B" else f"{amount:.0f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"
