"""Numbers with their nouns."""

from __future__ import annotations

from migrator.plans.words import count

__all__ = ["count"]
