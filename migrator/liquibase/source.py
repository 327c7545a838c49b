"""Where in a changelog file a changeset is written."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path

_NEAR = 12  # lines between a changeset's id and its author in YAML and JSON
_SQL_HEADER = re.compile(
    r"^[ \t]*--[ \t]*changeset[ \t]+(?:\"(?P<qa>[^\"\n]+)\"|(?P<a>[^:\n]+)):[ \t]*(?:\"(?P<qi>[^\"\n]+)\"|(?P<i>\S+))",
    re.IGNORECASE | re.MULTILINE,
)
_XML_TAG = re.compile(r"<(?:\w+:)?changeSet\b[^>]*>", re.DOTALL)
_ENTRY = re.compile(r"(?:^|[\s{,\-])[\"']?(?P<name>id|author)[\"']?\s*:\s*(?P<value>\"[^\"]*\"|'[^']*'|[^,}\s#]+)")


class Lines:
    """The lines of the changesets of one project; each file is read once."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._files: dict[str, dict[tuple[str, str], int]] = {}

    def of(self, file: str | None, *, changeset_id: str, author: str) -> int | None:
        """The line, counted from 1; None when the file cannot be read or does not show it. Never raises."""
        if file is None:
            return None
        if file not in self._files:
            self._files[file] = self._index(file)
        found = self._files[file].get((changeset_id, author))
        # a plain SQL file is one changeset
        return 1 if found is None and author == "includeAll" and file.lower().endswith(".sql") else found

    def _index(self, file: str) -> dict[tuple[str, str], int]:
        try:
            path = (self._root / file).resolve()
            if not path.is_relative_to(self._root.resolve()) or not path.is_file():
                return {}
            text = path.read_text(encoding="utf-8", errors="replace")
        except (OSError, ValueError, RuntimeError):  # no such name, a loop of links
            return {}
        suffix = Path(file).suffix.lower()
        entries = _in_sql(text) if suffix == ".sql" else _in_xml(text) if suffix == ".xml" else _in_keys(text)
        index: dict[tuple[str, str], int] = {}
        for changeset_id, author, line in entries:
            index.setdefault((changeset_id, author), line)
        return index


def _in_sql(text: str) -> Iterator[tuple[str, str, int]]:
    line, counted = 1, 0
    for header in _SQL_HEADER.finditer(text):
        line += text.count("\n", counted, header.start())
        counted = header.start()
        yield header["qi"] or header["i"], (header["qa"] or header["a"]).strip(), line


def _in_xml(text: str) -> Iterator[tuple[str, str, int]]:
    line, counted = 1, 0
    for tag in _XML_TAG.finditer(text):
        line += text.count("\n", counted, tag.start())
        counted = tag.start()
        yield _attribute(tag.group(), "id"), _attribute(tag.group(), "author"), line


def _in_keys(text: str) -> Iterator[tuple[str, str, int]]:
    """YAML and JSON: an id and the nearest author."""
    ids: list[tuple[str, int]] = []
    authors: list[tuple[str, int]] = []
    for number, line in enumerate(text.splitlines(), 1):
        for entry in _ENTRY.finditer(line):
            (ids if entry["name"] == "id" else authors).append((entry["value"].strip("\"'"), number))
    position = 0
    for changeset_id, number in ids:
        while position + 1 < len(authors) and _distance(authors[position + 1], number) < _distance(
            authors[position], number
        ):
            position += 1
        if authors and _distance(authors[position], number) <= _NEAR:
            yield changeset_id, authors[position][0], number


def _distance(author: tuple[str, int], number: int) -> float:
    # an author of the changeset before comes as near as one's own: what follows the id counts as nearer
    return abs(author[1] - number) + (0.5 if author[1] < number else 0.0)


def _attribute(tag: str, name: str) -> str:
    found = re.search(rf"\s{name}\s*=\s*(\"([^\"]*)\"|'([^']*)')", tag)
    return "" if found is None else unescape(found.group(2) if found.group(2) is not None else found.group(3))
