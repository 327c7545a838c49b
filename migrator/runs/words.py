"""Numbers with their nouns and units."""

from __future__ import annotations

from migrator.plans.words import count, size

__all__ = ["count", "size"]
