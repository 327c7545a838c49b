"""The words of an SQL text with their places, without its comments, cut into statements."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_TOKEN = re.compile(
    r"""
    (?P<line_comment>--[^\n]*)
  | (?P<comment>/\*)
  | (?P<escape>[eE]'(?:[^'\\]|\\.|'')*')
  | (?P<string>'(?:[^']|'')*')
  | (?P<quoted>"(?:[^"]|"")+")
  | (?P<dollar>\$(?:[A-Za-z_\x80-\uffff][\w\x80-\uffff]*)?\$)
  | (?P<word>[A-Za-z_\x80-\uffff][\w$\x80-\uffff]*)
  | (?P<number>\d[\w.]*)
  | (?P<sign>[^\s\w])
  """,
    re.VERBOSE,
)
_IN_COMMENT = re.compile(r"/\*|\*/")
_BODY_OPENS = {"BEGIN", "THEN", "ELSE", "LOOP"}


@dataclass(frozen=True, slots=True)
class Token:
    kind: str  # word, quoted, string, number, sign
    text: str
    start: int  # in the text

    @property
    def word(self) -> str:
        """Upper case; empty for what is quoted."""
        return self.text.upper() if self.kind in {"word", "sign", "number"} else ""

    @property
    def name(self) -> str:
        """As the catalogue holds it."""
        return self.text[1:-1].replace('""', '"') if self.kind == "quoted" else self.text.lower()


def tokens(text: str, start: int = 0, end: int | None = None) -> Iterator[Token]:
    """The tokens between two positions, comments left out. A body in dollar quotes is one string."""
    end = len(text) if end is None else end
    position = start
    while (match := _TOKEN.search(text, position, end)) is not None:
        kind, position = str(match.lastgroup), match.end()
        if kind == "line_comment":
            continue
        if kind == "comment":
            position = _end_of_comment(text, position, end)
        elif kind == "dollar":
            closing = text.find(match.group(), position, end)
            position = end if closing < 0 else closing + len(match.group())
            yield Token("string", text[match.start() : position], match.start())
        elif kind == "escape":
            yield Token("string", match.group(), match.start())
        else:
            yield Token(kind, match.group(), match.start())


def _end_of_comment(text: str, position: int, end: int) -> int:
    depth = 1
    while depth and (match := _IN_COMMENT.search(text, position, end)) is not None:
        depth += 1 if match.group() == "/*" else -1
        position = match.end()
    return end if depth else position


def split(text: str) -> list[list[Token]]:
    """The tokens of each statement. The body of a BEGIN ATOMIC function belongs to its statement."""
    found: list[list[Token]] = []
    current: list[Token] = []
    for token in tokens(text):
        if token.text == ";" and not _is_open(current):
            if current:
                found.append(current)
            current = []
        else:
            current.append(token)
    return [*found, current] if current else found


def _is_open(current: Sequence[Token]) -> bool:
    if not current or current[0].word != "CREATE":
        return False
    words = [token.word for token in current]
    if "ATOMIC" not in words:
        return False
    body = words[words.index("ATOMIC") + 1 :]
    return 1 + body.count("CASE") > body.count("END")


def of_block(body: Token) -> list[list[Token]]:
    """The statements inside the body of a DO block, as far as they can be told without running it."""
    quote = body.text[: body.text.index("$", 1) + 1] if body.text.startswith("$") else "'"
    inner = body.text[len(quote) : -len(quote)]
    found = []
    for statement in split(inner):
        words = [token.word for token in statement]
        opened = max((place for place, word in enumerate(words[:40]) if word in _BODY_OPENS), default=-1)
        rest = statement[opened + 1 :]
        if rest:
            found.append([Token(one.kind, one.text, body.start + len(quote) + one.start) for one in rest])
    return found
