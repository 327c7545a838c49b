"""The name a person probably meant."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known name that looks most like `word`, or None when none does."""
    names = {name.casefold(): name for name in known}
    found = get_close_matches(word.casefold(), names, n=1, cutoff=0.6)
    return names[found[0]] if found else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A sentence that suggests: the nearest name, or all of them where none is near."""
    known = list(known)
    match = nearest(word, known)
    if match is not None:
        return f"did you mean {match!r}?"
    return f"known here: {', '.join(sorted(known))}" if known else "there is none"
