"""Which existing tables a set of changesets names, and which of them its DML names.

A table that a run wrote and that no changeset names is a surprise: a cascade, a trigger, a function.
"Names" is generous on purpose: any identifier in the SQL, in structured attributes or in a raw SQL text counts,
because an alarm for a table that stands in the changeset would be a false one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

_WORD = re.compile(r'"(?:[^"]|"")+"|[^\W\d][\w$]*')
_COMMENT = re.compile(r"--[^\n]*|/\*.*?\*/", re.DOTALL)
_BODY = re.compile(r"(\$\w*\$).*?\1|'(?:[^']|'')*'", re.DOTALL)
# A statement that begins otherwise (insert, select, do, call, ...) may change the rows of what it names.
_DDL = re.compile(
    r"(create|alter|drop|comment|grant|revoke|set|reset|analyze|lock|security|begin|commit)\b", re.IGNORECASE
)

# Nothing of these gives any row of any table another value, whatever stands behind them.
_ROWLESS = re.compile(
    r"(create\s+(unique\s+)?index|drop\s+index|reindex|vacuum|analyze|comment|set|reset|show|alter\s+type\s+\S+\s+add\s+value)\b",
    re.IGNORECASE,
)
_ENDS = re.compile(r"(commit|end|rollback|abort|begin|start\s+transaction|prepare\s+transaction)\b", re.IGNORECASE)


class ChangesetText(Protocol):
    """What the impact reads of a changeset."""

    @property
    def statements(self) -> tuple[str, ...]: ...
    @property
    def tables(self) -> frozenset[str]: ...


class NamedTable(Protocol):
    """What the impact reads of a table: `qualified` as PostgreSQL prints it, and whose partition or child it is."""

    @property
    def name(self) -> str: ...
    @property
    def qualified(self) -> str: ...
    @property
    def parent(self) -> str | None: ...


@dataclass(frozen=True, kw_only=True)
class Impact:
    words: frozenset[str] = field(repr=False)  # folded as PostgreSQL folds them
    named: frozenset[str]  # qualified names of existing tables; a partition is named when its parent is
    written: frozenset[str]  # the part of `named` that stands in a statement with DML


def of(changesets: Iterable[ChangesetText], tables: Sequence[NamedTable]) -> Impact:
    words: set[str] = set()
    dml_words: set[str] = set()
    for changeset in changesets:
        structured = {fold(name) for name in changeset.tables}
        words |= structured
        for statement in changeset.statements:
            found = identifiers(statement)
            words |= found
            if writes_rows(statement):
                dml_words |= found
        if not changeset.statements:  # what cannot be shown as SQL (a data load) may write what it names
            dml_words |= structured
    named = named_in(words, tables)
    return Impact(words=frozenset(words), named=named, written=named & named_in(dml_words, tables))


def writes_rows(text: str) -> bool:
    """Whether one of the statements in `text` is anything but DDL. Function bodies and strings do not count."""
    return any(part.strip() and not _DDL.match(part.strip()) for part in _plain(text).split(";"))


def hides_writes(statements: Sequence[str], *, in_transaction: bool) -> bool:
    """Whether rows may be written where no lock shows it: outside a transaction, or in one that a statement ends.

    `statements`: of the changeset and of its rollback; empty where they are not known.
    """
    parts = [part.strip() for text in statements for part in _plain(text).split(";") if part.strip()]
    if not in_transaction:
        return not parts or not all(_ROWLESS.match(part) for part in parts)
    return any(_ENDS.match(part) for part in parts)


def named_in(words: Iterable[str], tables: Sequence[NamedTable]) -> frozenset[str]:
    """The qualified names of the tables that stand among `words`, partitions of named parents included."""
    known = frozenset(words)
    parents = {table.qualified: table.parent for table in tables}

    def named(table: NamedTable) -> bool:
        if table.name in known:
            return True
        parent = table.parent
        while parent is not None:
            if bare(parent) in known:
                return True
            parent = parents.get(parent)
        return False

    return frozenset(table.qualified for table in tables if named(table))


def _plain(text: str) -> str:
    return _BODY.sub("''", _COMMENT.sub(" ", text))


def identifiers(text: str) -> set[str]:
    """Every identifier in an SQL text, folded; the parts of a qualified name each by itself."""
    return {fold(word) for word in _WORD.findall(text)}


def fold(word: str) -> str:
    """An identifier as the catalogue holds it: quotes taken off, or lower case."""
    if word.startswith('"') and word.endswith('"') and len(word) > 1:
        return word[1:-1].replace('""', '"')
    return word.lower()


def bare(qualified: str) -> str:
    """The relation's own name in `schema.table`, either part quoted or not."""
    return fold(_WORD.findall(qualified)[-1]) if _WORD.search(qualified) else qualified
