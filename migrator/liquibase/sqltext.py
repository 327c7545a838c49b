"""The statements of an SQL text, without its comments and strings: enough to know what kind each one is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_TOKEN = re.compile(
    r"""
    (?P<line_comment>--[^\n]*)
  | (?P<comment>/\*)
  | (?P<escape>[eE]'(?:[^'\\]|\\.|'')*')
  | (?P<string>'(?:[^']|'')*')
  | (?P<quoted>"(?:[^"]|"")*")
  | (?P<dollar>\$(?:[A-Za-z_\x80-\uffff][\w\x80-\uffff]*)?\$)
  | (?P<end>;)
  | (?P<word>[A-Za-z_\x80-\uffff][\w$\x80-\uffff]*)
  | (?P<psql>^\\\S*)
  """,
    re.VERBOSE | re.MULTILINE,
)
_WITH_BODIES = {"DO", "CREATE"}
_IN_COMMENT = re.compile(r"/\*|\*/")


@dataclass(frozen=True, kw_only=True)
class Body:
    text: str  # without its quotes
    line: int  # of its beginning, counted from 1


@dataclass(frozen=True, kw_only=True)
class Statement:
    words: tuple[str, ...]  # upper case, without what is quoted
    line: int  # of its first word, counted from 1
    bodies: tuple[Body, ...] = ()  # what a DO or CREATE statement quotes: a function's text, and any other string


def statements(text: str, *, every_body: bool = False) -> list[Statement]:
    """The statements in order. The body of a BEGIN ATOMIC function belongs to its statement.

    `every_body`: bodies are those of all statements, not of DO and CREATE alone.
    """
    found: list[Statement] = []
    words: list[str] = []
    bodies: list[Body] = []
    line, counted, lines = 0, 0, 1
    for kind, word, position in _tokens(text):
        if kind == "end":
            if words and not _is_open(words):
                found.append(Statement(words=tuple(words), line=line, bodies=tuple(bodies)))
                words, bodies = [], []
            continue
        if kind == "body":
            if words and (every_body or words[0] in _WITH_BODIES):
                lines += text.count("\n", counted, position)
                counted = position
                bodies.append(Body(text=word, line=lines))
            continue
        if not words:
            lines += text.count("\n", counted, position)
            line, counted = lines, position
        words.append(word.upper())
    if words:
        found.append(Statement(words=tuple(words), line=line, bodies=tuple(bodies)))
    return found


def _tokens(text: str) -> Iterator[tuple[str, str, int]]:
    position = 0
    while (match := _TOKEN.search(text, position)) is not None:
        kind, position = str(match.lastgroup), match.end()
        if kind == "comment":
            position = _end_of_comment(text, position)
        elif kind == "dollar":
            closing = text.find(match.group(), position)
            yield "body", text[position : len(text) if closing < 0 else closing], match.start()
            position = len(text) if closing < 0 else closing + len(match.group())
        elif kind in {"string", "escape"}:
            yield "body", match.group()[1 if kind == "string" else 2 : -1], match.start()
        elif kind in {"end", "word", "psql"}:
            yield kind, match.group(), match.start()


def _end_of_comment(text: str, position: int) -> int:
    depth = 1
    while depth and (match := _IN_COMMENT.search(text, position)) is not None:
        depth += 1 if match.group() == "/*" else -1
        position = match.end()
    return len(text) if depth else position


def _is_open(words: list[str]) -> bool:
    if words[0] != "CREATE" or "ATOMIC" not in words:
        return False
    body = words[words.index("ATOMIC") + 1 :]
    return 1 + body.count("CASE") > body.count("END")
