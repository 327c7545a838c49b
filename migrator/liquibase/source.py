"""Where in a changelog file a changeset is written."""

from __future__ import annotations

import re
from pathlib import Path

_NEAR = 12  # lines between a changeset's id and its author in YAML and JSON
_XML_TAG = re.compile(r"<(?:\w+:)?changeSet\b[^>]*>", re.DOTALL)


def line_of(root: Path, file: str | None, *, changeset_id: str, author: str) -> int | None:
    """The line, counted from 1; None when the file cannot be read or does not show it. Never raises."""
    if file is None:
        return None
    try:
        text = (root / file).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    suffix = Path(file).suffix.lower()
    if suffix == ".sql":
        return _in_sql(text, changeset_id, author)
    if suffix == ".xml":
        return _in_xml(text, changeset_id, author)
    return _in_keys(text, changeset_id, author)


def _in_sql(text: str, changeset_id: str, author: str) -> int | None:
    header = re.compile(
        rf"^\s*--\s*changeset\s+[\"']?{re.escape(author)}[\"']?\s*:\s*[\"']?{re.escape(changeset_id)}[\"']?(?=\s|$)",
        re.IGNORECASE | re.MULTILINE,
    )
    found = header.search(text)
    if found is not None:
        return _line(text, found.start() + len(found.group()) - len(found.group().lstrip()))
    return 1 if author == "includeAll" else None


def _in_xml(text: str, changeset_id: str, author: str) -> int | None:
    for tag in _XML_TAG.finditer(text):
        if _attribute(tag.group(), "id") == changeset_id and _attribute(tag.group(), "author") == author:
            return _line(text, tag.start())
    return None


def _in_keys(text: str, changeset_id: str, author: str) -> int | None:
    lines = text.splitlines()
    has_id, has_author = _entry("id", changeset_id), _entry("author", author)
    candidates = [number for number, line in enumerate(lines) if has_id.search(line)]
    for number in candidates:
        if any(has_author.search(line) for line in lines[max(0, number - _NEAR) : number + _NEAR + 1]):
            return number + 1
    return candidates[0] + 1 if len(candidates) == 1 else None


def _entry(name: str, value: str) -> re.Pattern[str]:
    return re.compile(rf"(?:^|[\s{{,\-])[\"']?{name}[\"']?\s*:\s*[\"']?{re.escape(value)}[\"']?\s*(?:[,}}#]|$)")


def _attribute(tag: str, name: str) -> str | None:
    from html import unescape

    found = re.search(rf"\s{name}\s*=\s*(\"([^\"]*)\"|'([^']*)')", tag)
    return None if found is None else unescape(found.group(2) if found.group(2) is not None else found.group(3))


def _line(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1
