"""Secrets do not show in what children say."""

from __future__ import annotations

import json
import urllib.parse
from collections.abc import Iterable
from typing import Protocol

MASK = "********"


class Revealable(Protocol):
    """A secret; `migrator.config.login.Secret` is one. Named here because configuration lies above processes."""

    def reveal(self) -> str: ...


def redact(text: str, secrets: Iterable[Revealable]) -> str:
    """The text without the secrets, in whichever of the usual spellings they occur (plain, URL, JSON, PGPASSFILE)."""
    for spelling in spellings(secrets):
        text = text.replace(spelling, MASK)
    return text


def spellings(secrets: Iterable[Revealable]) -> list[str]:
    """Every text that gives a secret away, the longest first."""
    found: set[str] = set()
    for secret in secrets:
        value = secret.reveal()
        found |= {
            value,
            urllib.parse.quote(value, safe=""),
            urllib.parse.quote_plus(value),
            json.dumps(value)[1:-1],
            json.dumps(value, ensure_ascii=False)[1:-1],
            value.replace("\\", "\\\\").replace(":", "\\:"),
            *(line for line in value.splitlines() if len(line) > 3),
        }
    return sorted(found - {""}, key=len, reverse=True)
