"""Where in its file a piece of a changeset's SQL is written, and where the changeset ends."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from migrator.liquibase.models import Changeset
from migrator.liquibase.source import Lines
from migrator.plans.findings.tokens import Token, tokens

_SHORTEST = 3  # words that must agree, where a parameter or a comment has changed the others
_FROM_FILES = {"sqlFile", "createProcedure", "createView"}


@dataclass(kw_only=True)
class _Source:
    text: str
    starts: list[int] = field(default_factory=list)  # of its changesets, ascending: positions
    keys: list[str] = field(default_factory=list)  # of the changesets at these places
    order: dict[str, int] = field(default_factory=dict)  # key -> which of them
    lines: list[int] = field(default_factory=list)  # position of each line's start

    def line(self, position: int) -> int:
        return bisect_right(self.lines, position)


@dataclass(kw_only=True)
class _Written:
    """The changeset that was looked for last: its tokens, and for each statement the file, its tokens, the first."""

    key: str = ""
    tokens: list[Token] | None = None
    found: dict[int, tuple[str, list[Token], int] | None] = field(default_factory=dict)


class Places:
    """The files of one changelog; each is read when it is needed."""

    def __init__(self, root: Path, changesets: Sequence[Changeset], files: Sequence[str]) -> None:
        self._root = root
        self._lines = Lines(root)
        self._by_file: dict[str, list[Changeset]] = {}
        for changeset in changesets:
            if changeset.file is not None:
                self._by_file.setdefault(changeset.file, []).append(changeset)
        self._sql_files = [file for file in files if file.lower().endswith(".sql") and file not in self._by_file]
        self._sources: dict[str, _Source | None] = {}
        self._last = _Written()

    def of(self, changeset: Changeset, number: int, at: int) -> tuple[str | None, int | None]:
        """File and line of the place `at` in the text of statement `number`; as near as can be told."""
        if changeset.file is None:
            return None, None
        found = self._find(changeset, number)
        if found is not None:
            file, written, first = found
            ahead = sum(1 for _ in tokens(changeset.statements[number], 0, at))
            source = self._sources[file]
            if source is not None and first + ahead < len(written):
                return file, source.line(written[first + ahead].start)
        return changeset.file, self._line_of_change(changeset, number)

    def line_of(self, changeset: Changeset) -> int | None:
        """The changeset's own line."""
        if changeset.line is not None or changeset.file is None:
            return changeset.line
        return self._lines.of(changeset.file, changeset_id=changeset.id, author=changeset.author)

    def text_of(self, changeset: Changeset) -> tuple[str, int]:
        """The changeset as it is written, and the number of its first line; ("", 1) where that cannot be told."""
        region = self._region(changeset)
        if region is None or changeset.file is None:
            return "", 1
        source, begin, end = region
        return source.text[begin:end], source.line(begin)

    def at(self, file: str, line: int | None) -> str | None:
        """The key of the changeset that this line belongs to; None where there is none, or it cannot be told."""
        source = self._source(file)
        if source is None or line is None or not source.starts:
            return None
        position = source.lines[min(line, len(source.lines)) - 1]
        # a changeset on this very line is the one that is meant
        place = bisect_right(source.starts, position) - 1
        return source.keys[place] if place >= 0 else None

    def _find(self, changeset: Changeset, number: int) -> tuple[str, list[Token], int] | None:
        """File, its tokens, and which of them is the statement's first."""
        if self._last.key != changeset.key:
            self._last = _Written(key=changeset.key)
        found = self._last.found
        if number not in found:
            found[number] = self._search(changeset, number)
        return found[number]

    def _search(self, changeset: Changeset, number: int) -> tuple[str, list[Token], int] | None:
        wanted = [token.text.lower() for token in tokens(changeset.statements[number])]
        if changeset.file is not None:
            if self._last.tokens is None:
                self._last.tokens = self._tokens(changeset, changeset.file)
            earlier = [
                found[2]
                for before in range(number)
                if (found := self._last.found.get(before)) and found[0] == changeset.file
            ]
            first = _position(self._last.tokens, wanted, after=max(earlier, default=-1) + 1)
            if first is not None:
                return changeset.file, self._last.tokens, first
        if _FROM_FILES & set(changeset.changes):
            for file in self._sql_files:
                other = self._source(file)
                if other is not None:
                    written = list(tokens(other.text))
                    first = _position(written, wanted, after=0)
                    if first is not None:
                        return file, written, first
        return None

    def _tokens(self, changeset: Changeset, file: str) -> list[Token]:
        """Of the changeset as it is written."""
        region = self._region(changeset)
        if region is None:
            return []
        source, begin, end = region
        text = source.text[begin:end]
        if not file.lower().endswith((".sql", ".xml")):
            text = text.replace("\\n", "  ").replace("\\t", "  ").replace('\\"', ' "')  # of one length
        return [Token(one.kind, one.text, begin + one.start) for one in tokens(text)]

    def _line_of_change(self, changeset: Changeset, number: int) -> int | None:
        """The line of the structured change that the statement comes from."""
        region = self._region(changeset)
        if region is None or number >= len(changeset.origins):
            return self.line_of(changeset)
        source, position, end = region
        for name in changeset.changes[: changeset.origins[number] + 1]:
            match = re.compile(rf"(?:<(?:\w+:)?{re.escape(name)}\b|\b{re.escape(name)}[\"']?\s*:)").search(
                source.text, position + 1, end
            )
            if match is None:
                return self.line_of(changeset)
            position = match.start()
        return source.line(position)

    def _region(self, changeset: Changeset) -> tuple[_Source, int, int] | None:
        source = None if changeset.file is None else self._source(changeset.file)
        place = None if source is None else source.order.get(changeset.key)
        if source is None or place is None:
            return None
        end = source.starts[place + 1] if place + 1 < len(source.starts) else len(source.text)
        return source, source.starts[place], end

    def _source(self, file: str) -> _Source | None:
        if file not in self._sources:
            self._sources[file] = self._read(file)
        return self._sources[file]

    def _read(self, file: str) -> _Source | None:
        try:
            text = (self._root / file).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None
        source = _Source(text=text, lines=[0, *(match.end() for match in re.finditer("\n", text))])
        begun = []
        for changeset in self._by_file.get(file, []):
            line = self.line_of(changeset)
            if line is not None and line <= len(source.lines):
                begun.append((source.lines[line - 1], changeset.key))
        for position, key in sorted(begun):
            source.starts.append(position)
            source.order[key] = len(source.keys)
            source.keys.append(key)
        return source


def _position(written: Sequence[Token], wanted: Sequence[str], *, after: int) -> int | None:
    """Where the wanted tokens begin among those that are written; the first words decide where all do not agree."""
    shortest = min(len(wanted), _SHORTEST)
    if not shortest:
        return None
    likely = None
    for first in range(after, len(written) - shortest + 1):
        if any(written[first + place].text.lower() != wanted[place] for place in range(shortest)):
            continue
        if likely is None:
            likely = first
        if len(written) - first >= len(wanted) and all(
            written[first + place].text.lower() == wanted[place] for place in range(shortest, len(wanted))
        ):
            return first
    return likely
