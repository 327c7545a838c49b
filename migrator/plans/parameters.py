"""Changelog parameters in what is shown and kept: digests in place of values, and no secret in an SQL text."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Mapping

_COST = {"n": 2**13, "r": 8, "p": 1}
_WHOLE_WORD = 6  # a shorter secret is looked for as a word of its own: else half of the text would go


def digests(parameters: Mapping[str, str], *, salt: str) -> dict[str, str]:
    """Name -> digest of its value, equal for equal values; costly to compute, so that a value is hard to guess by it.

    `salt` tells two environments apart.
    """
    return {
        name: hashlib.scrypt(value.encode(), salt=f"{salt}\0{name}".encode(), dklen=16, **_COST).hex()
        for name, value in sorted(parameters.items())
    }


class Mask:
    """Puts `${name}` where the value of a secret parameter stands."""

    def __init__(self, parameters: Mapping[str, str], secret: Collection[str]) -> None:
        values = {parameters[name]: name for name in secret if parameters.get(name)}
        values |= {value.replace("'", "''"): name for value, name in values.items()}
        self._names = values
        longest_first = sorted(values, key=len, reverse=True)
        parts = [
            re.escape(one) if len(one) >= _WHOLE_WORD else rf"(?<!\w){re.escape(one)}(?!\w)" for one in longest_first
        ]
        self._pattern = re.compile("|".join(parts)) if parts else None

    def text(self, text: str) -> str:
        """The text without a secret in it."""
        if self._pattern is None:
            return text
        return self._pattern.sub(lambda found: f"${{{self._names[found[0]]}}}", text)

    def all(self, texts: Collection[str]) -> tuple[str, ...]:
        """As `text`, of each."""
        return tuple(self.text(one) for one in texts)


def _pattern(value: str) -> str:
    return re.escape(value) if len(value) >= _WHOLE_WORD else rf"(?<!\w){re.escape(value)}(?!\w)"
