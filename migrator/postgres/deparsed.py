"""One spelling for SQL that PostgreSQL prints from its catalogue.

What it prints is not always what it prints again after a dump and restore: an expression that is parsed anew comes
back with other parentheses and casts. Two cases are common, and are brought to one form here:

- `x BETWEEN 1 AND 2 AND y` is a list in a list, its text is read as one list: `((a AND b) AND c)`, `(a AND b AND c)`;
- `x IN ('a', 'b')` on a varchar casts the list, its text is read as a list of casts:
  `(ARRAY['a', 'b'])::text[]`, `ARRAY[('a')::text, ('b')::text]`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_TOKEN = re.compile(
    r"""
    (?P<space>\s+)
  | [Ee]'(?:[^'\\]|\\.|'')*'            # a string with escapes
  | '(?:[^']|'')*'
  | "(?:[^"]|"")*"
  | (?P<tag>\$(?:[^\W\d]\w*)?\$).*?(?P=tag)
  | \w+ (?:[.]\w+)*
  | ::
  | .
    """,
    re.VERBOSE | re.DOTALL,
)
_CLOSING = {"(": ")", "[": "]"}
_CONNECTORS = ("AND", "OR")


@dataclass(frozen=True)
class _Group:
    opening: str
    parts: tuple[_Node, ...]


_Node = str | _Group


def canonical(text: str) -> str:
    """The text on one line, its expressions in one form.

    Strings, quoted names and function bodies are kept as they are, but for line ends, written as \\n, and backslashes.
    """
    nested = "ARRAY[" in text or " AND " in text or " OR " in text
    parts = _simplified(_tree(text)) if nested else tuple(_tokens(text))
    return "".join(_printed(parts)).replace("\\", "\\\\").replace("\r", "\\r").replace("\n", "\\n").strip()


def _tokens(text: str) -> Iterator[str]:
    for match in _TOKEN.finditer(text):
        yield " " if match["space"] else match[0]


def _tree(text: str) -> tuple[_Node, ...]:
    stack: list[tuple[str, list[_Node]]] = [("", [])]
    for token in _tokens(text):
        if token in _CLOSING:
            stack.append((token, []))
        elif len(stack) > 1 and token == _CLOSING[stack[-1][0]]:
            opening, parts = stack.pop()
            stack[-1][1].append(_Group(opening, tuple(parts)))
        else:
            stack[-1][1].append(token)
    while len(stack) > 1:  # free text with a bracket that is never closed
        opening, parts = stack.pop()
        stack[-1][1].extend([opening, *parts])
    return tuple(stack[0][1])


def _simplified(parts: Sequence[_Node]) -> tuple[_Node, ...]:
    done: list[_Node] = []
    for index, part in enumerate(parts):
        if isinstance(part, str):
            done.append(part)
            continue
        cast = index + 1 < len(parts) and parts[index + 1] == "::"
        inner = part.parts
        if part.opening == "(" and cast and _is_array(inner):
            done.append(_Group("(", ("ARRAY", _Group("[", _simplified(inner[1].parts)))))  # type: ignore[union-attr]
            continue
        group = _Group(part.opening, _flat(_simplified(inner)))
        if group.opening == "[" and done and done[-1] == "ARRAY" and (common := _common_cast(group.parts)):
            elements, target = common
            done[-1] = _Group("(", ("ARRAY", _Group("[", elements)))
            done += ["::", *target, _Group("[", ())]
        else:
            done.append(group)
    return tuple(done)


def _is_array(parts: Sequence[_Node]) -> bool:
    return len(parts) == 2 and parts[0] == "ARRAY" and isinstance(parts[1], _Group) and parts[1].opening == "["


def _flat(parts: tuple[_Node, ...]) -> tuple[_Node, ...]:
    """Without the parentheses around a list that stands in a list of the same connector."""
    connector = _connector(parts)
    if connector is None:
        return parts
    flat: list[_Node] = []
    operands = _split(parts, connector)
    for number, operand in enumerate(operands):
        if number:
            flat += [" ", connector, " "]
        bare = _trimmed(operand)
        lone = bare[0] if len(bare) == 1 else None
        if isinstance(lone, _Group) and lone.opening == "(" and _connector(lone.parts) == connector:
            flat += _trimmed(lone.parts)
        else:
            flat += bare
    return tuple(flat)


def _connector(parts: Sequence[_Node]) -> str | None:
    """AND or OR, where the parts are nothing but a list with it."""
    found = {part for part in parts if isinstance(part, str) and part in (*_CONNECTORS, "BETWEEN")}
    return found.pop() if len(found) == 1 and "BETWEEN" not in found else None


def _common_cast(parts: Sequence[_Node]) -> tuple[tuple[_Node, ...], tuple[_Node, ...]] | None:
    """The elements without the cast that all of them end in, and its type; None where they have none in common."""
    elements: list[_Node] = []
    targets: set[tuple[_Node, ...]] = set()
    for number, element in enumerate(_split(parts, ",")):
        bare = _trimmed(element)
        casts = [index for index, part in enumerate(bare) if part == "::"]
        if not casts or not _is_type(bare[casts[-1] + 1 :]):
            return None
        targets.add(bare[casts[-1] + 1 :])
        kept = _trimmed(bare[: casts[-1]])
        if len(kept) == 1 and isinstance(kept[0], _Group) and kept[0].opening == "(":
            kept = _trimmed(kept[0].parts)
        elements += [",", " ", *kept] if number else kept
    return (tuple(elements), targets.pop()) if len(targets) == 1 else None


def _is_type(parts: Sequence[_Node]) -> bool:
    return all(
        part.opening in "([" if isinstance(part, _Group) else bool(re.fullmatch(r'[\w.]+|"(?:[^"]|"")*"|\s', part))
        for part in parts
    )


def _split(parts: Sequence[_Node], separator: str) -> list[tuple[_Node, ...]]:
    pieces: list[list[_Node]] = [[]]
    for part in parts:
        if part == separator:
            pieces.append([])
        else:
            pieces[-1].append(part)
    return [tuple(piece) for piece in pieces]


def _trimmed(parts: Sequence[_Node]) -> tuple[_Node, ...]:
    start, end = 0, len(parts)
    while start < end and parts[start] == " ":
        start += 1
    while end > start and parts[end - 1] == " ":
        end -= 1
    return tuple(parts[start:end])


def _printed(parts: Sequence[_Node]) -> Iterator[str]:
    for part in parts:
        if isinstance(part, str):
            yield part
        else:
            yield part.opening
            yield from _printed(_trimmed(part.parts))
            yield _CLOSING[part.opening]
