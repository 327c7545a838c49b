"""One SQL statement that only reads: where it ends, and with which word it begins.

A COMMIT hidden behind a semicolon would really commit the transaction that holds a migration, so the text is split
as PostgreSQL's scanner splits it (documentation, "Lexical Structure"): strings with and without backslash escapes
and their continuation on another line, dollar quotes, quoted identifiers, nested comments. It holds for sessions
with `standard_conforming_strings = on`, which all of ours have.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

READING = ("select", "with", "values", "table", "show")

_TOKEN = re.compile(
    r"""
    (?P<space>\s+)
  | (?P<line_comment>--[^\r\n]*)
  | (?P<block_comment>/\*)
  | (?P<escape_string>[eE]')
  | (?P<string>(?:[bBxXnN]|[uU]&)?')
  | (?P<quoted>(?:[uU]&)?")
  | (?P<dollar>\$(?:[A-Za-z_\x80-\U0010ffff][A-Za-z0-9_\x80-\U0010ffff]*)?\$)
  | (?P<word>[A-Za-z_\x80-\U0010ffff][A-Za-z0-9_$\x80-\U0010ffff]*)
  | (?P<number>[0-9][A-Za-z0-9_.]*)
  | (?P<semicolon>;)
  | (?P<other>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_COMMENT_EDGE = re.compile(r"/\*|\*/")
_ESCAPED_END = re.compile(r"(?:[^'\\]|\\.|'')*'", re.DOTALL)
_PLAIN_END = re.compile(r"(?:[^']|'')*'")
_QUOTED_END = re.compile(r'(?:[^"]|"")*"')
# A string goes on behind white space that holds a line break, keeping its kind.
_CONTINUATION = re.compile(r"[ \t\f\v]*(?:--[^\r\n]*)?[\r\n](?:\s|--[^\r\n]*[\r\n])*'")


class NotOneStatement(ValueError):
    """The text is not one statement that only reads; the message says what it is instead."""


def single(sql: str, *, first_words: tuple[str, ...] = READING) -> str:
    """The one statement of the text, without its closing semicolon; comments stay where they are.

    Raises: NotOneStatement when there is none, more than one, one that begins otherwise, or an unclosed quote.
    """
    end: int | None = None
    first: str | None = None
    for kind, match in _tokens(sql):
        if kind == "semicolon":
            if end is None and first is not None:
                end = match.start()
            continue
        if end is not None:
            raise NotOneStatement("holds more than one statement")
        if first is None and not (kind == "other" and match.group() == "("):
            first = match.group().lower()
    if first is None:
        raise NotOneStatement("holds no statement")
    if first not in first_words:
        raise NotOneStatement(f"begins with {first.upper()}, not with {' or '.join(w.upper() for w in first_words)}")
    return sql if end is None else sql[:end]


def words(sql: str) -> Iterator[tuple[str, int]]:
    """Keywords and unquoted names in lower case, and quoted names as they are, each with the position behind it.

    Raises: NotOneStatement for a NUL character and an unclosed quote.
    """
    for kind, match in _tokens(sql):
        if kind == "word":
            yield match.group().lower(), match.end()
        elif kind == "quoted":
            end = _end_of(sql, kind, match)
            yield sql[match.end() : end - 1].replace('""', '"'), end


def _tokens(sql: str) -> Iterator[tuple[str, re.Match[str]]]:
    """What is neither space nor comment; the match of what is quoted is only its beginning."""
    if "\0" in sql:
        raise NotOneStatement("holds a NUL character")
    position = 0
    while position < len(sql):
        match = _TOKEN.match(sql, position)
        kind = match.lastgroup if match else None
        if match is None or kind is None:
            raise NotOneStatement(f"cannot be read at character {position + 1}")
        position = _end_of(sql, kind, match)
        if kind not in ("space", "line_comment", "block_comment"):
            yield kind, match


def _end_of(sql: str, kind: str, match: re.Match[str]) -> int:
    start = match.end()
    if kind == "block_comment":
        return _comment_end(sql, start)
    if kind == "dollar":
        found = sql.find(match.group(), start)
        return found + len(match.group()) if found >= 0 else _unclosed(sql, match)
    pattern = {"escape_string": _ESCAPED_END, "string": _PLAIN_END, "quoted": _QUOTED_END}.get(kind)
    if pattern is None:
        return start
    while True:
        closing = pattern.match(sql, start)
        if closing is None:
            return _unclosed(sql, match)
        more = _CONTINUATION.match(sql, closing.end()) if kind != "quoted" else None
        if more is None:
            return closing.end()
        start = more.end()


def _comment_end(sql: str, start: int) -> int:
    depth = 1
    for edge in _COMMENT_EDGE.finditer(sql, start):
        depth += 1 if edge.group() == "/*" else -1
        if depth == 0:
            return edge.end()
    raise NotOneStatement("holds a comment that is not closed")


def _unclosed(sql: str, match: re.Match[str]) -> int:
    line = sql.count("\n", 0, match.start()) + 1
    raise NotOneStatement(f"holds a quote in line {line} that is not closed")
