"""The DELETEs and UPDATEs in a statement, and whether a condition narrows them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from migrator.plans.findings.cursor import Cursor, Name, parts
from migrator.plans.findings.tokens import Token


@dataclass(frozen=True, kw_only=True)
class Change:
    """A DELETE or UPDATE, wherever in its statement it stands."""

    verb: str
    table: Name
    start: int
    has_where: bool
    columns: tuple[str, ...] = ()  # that an UPDATE sets


def changes(tokens: Sequence[Token]) -> Iterator[Change]:
    for place, token in enumerate(tokens):
        before = tokens[place - 1].word if place else ""
        if token.word == "DELETE" and before in {"", "(", ")"}:
            cursor = Cursor(tokens, place + 1)
            if not cursor.take("FROM"):
                continue
            cursor.take("ONLY")
            table = cursor.name()
            if table is not None:
                rest = _same_depth(tokens, cursor.at)
                yield Change(verb="DELETE", table=table, start=token.start, has_where=_narrows(rest))
        elif token.word == "UPDATE" and before in {"", "(", ")"}:
            cursor = Cursor(tokens, place + 1)
            cursor.take("ONLY")
            table = cursor.name()
            rest = _same_depth(tokens, cursor.at)
            words = [one.word for one in rest]
            if table is not None and "SET" in words:
                yield Change(
                    verb="UPDATE",
                    table=table,
                    start=token.start,
                    has_where=_narrows(rest),
                    columns=_set_columns(rest[words.index("SET") + 1 :]),
                )


def _same_depth(tokens: Sequence[Token], begin: int) -> list[Token]:
    """What follows until the parenthesis around it is closed, without what stands in parentheses itself."""
    depth = 0
    found = []
    for token in tokens[begin:]:
        if token.text == ")":
            depth -= 1
            if depth < 0:
                break
        if depth == 0:
            found.append(token)
        if token.text == "(":
            depth += 1
    return found


def _narrows(tokens: Sequence[Token]) -> bool:
    words = [token.word for token in tokens]
    if "WHERE" not in words:
        return False
    condition = words[words.index("WHERE") + 1 :]
    if "RETURNING" in condition:
        condition = condition[: condition.index("RETURNING")]
    return condition not in (["TRUE"], ["1", "=", "1"])


def _set_columns(tokens: Sequence[Token]) -> tuple[str, ...]:
    return tuple(part[0].name for part in parts(tokens) if len(part) > 1 and part[1].text == "=")
