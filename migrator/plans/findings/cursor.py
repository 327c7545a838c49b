"""A place in a list of tokens, and the names that are read there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from migrator.plans.findings.tokens import Token


@dataclass(frozen=True, kw_only=True)
class Name:
    """An object's name as the catalogue holds it."""

    schema: str | None
    name: str

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}" if self.schema else self.name


class Cursor:
    """A place in a list of tokens."""

    def __init__(self, tokens: Sequence[Token], at: int = 0) -> None:
        self.tokens = tokens
        self.at = at

    @property
    def done(self) -> bool:
        return self.at >= len(self.tokens)

    def word(self, ahead: int = 0) -> str:
        place = self.at + ahead
        return self.tokens[place].word if place < len(self.tokens) else ""

    def take(self, *words: str) -> bool:
        """Whether these words came next; then they are behind us."""
        if all(self.word(ahead) == word for ahead, word in enumerate(words)):
            self.at += len(words)
            return True
        return False

    def take_any(self, words: set[str]) -> None:
        while self.word() in words:
            self.at += 1

    def name(self) -> Name | None:
        """The name, qualified or not, that comes next; None where there is none."""
        parts = []
        while not self.done and self.tokens[self.at].kind in {"word", "quoted"}:
            parts.append(self.tokens[self.at].name)
            self.at += 1
            if not self.take("."):
                break
        if not parts:
            return None
        return Name(schema=parts[-2] if len(parts) > 1 else None, name=parts[-1])

    def identifier(self) -> str | None:
        found = self.name()
        return None if found is None else found.name


def parts(tokens: Sequence[Token]) -> Iterator[Sequence[Token]]:
    """Cut at the commas outside parentheses."""
    depth, begin = 0, 0
    for place, token in enumerate(tokens):
        depth += {"(": 1, "[": 1, ")": -1, "]": -1}.get(token.text, 0)
        if token.text == "," and depth == 0:
            if place > begin:
                yield tokens[begin:place]
            begin = place + 1
    if len(tokens) > begin:
        yield tokens[begin:]
