"""One SQL statement as the rules read it: what it does, to which object, action by action."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from migrator.plans.findings.changes import Change, changes
from migrator.plans.findings.cursor import Cursor, Name, parts
from migrator.plans.findings.tokens import Token, of_block, split

_KINDS = (
    ("MATERIALIZED", "VIEW"),
    ("FOREIGN", "TABLE"),
    ("EVENT", "TRIGGER"),
    ("ACCESS", "METHOD"),
    ("TABLE",),
    ("VIEW",),
    ("INDEX",),
    ("SEQUENCE",),
    ("SCHEMA",),
    ("TYPE",),
    ("DOMAIN",),
    ("FUNCTION",),
    ("PROCEDURE",),
    ("ROUTINE",),
    ("AGGREGATE",),
    ("EXTENSION",),
    ("TRIGGER",),
    ("RULE",),
    ("POLICY",),
    ("DATABASE",),
)
_BEFORE_KIND = {
    "OR",
    "REPLACE",
    "GLOBAL",
    "LOCAL",
    "TEMP",
    "TEMPORARY",
    "UNLOGGED",
    "UNIQUE",
    "RECURSIVE",
    "CONSTRAINT",
}


@dataclass(frozen=True, kw_only=True)
class Action:
    """One of the actions of an ALTER, from its first token on."""

    tokens: Sequence[Token]

    @property
    def start(self) -> int:
        return self.tokens[0].start

    @property
    def words(self) -> tuple[str, ...]:
        return tuple(token.word for token in self.tokens)

    def cursor(self) -> Cursor:
        return Cursor(self.tokens)


@dataclass(frozen=True, kw_only=True)
class Statement:
    """`verb` is its first word; `kind` and `names` are those of the objects that it creates, alters or drops."""

    tokens: Sequence[Token]
    verb: str
    kind: str = ""
    names: tuple[Name, ...] = ()
    modifiers: frozenset[str] = frozenset()  # UNIQUE, TEMP, CONCURRENTLY, CASCADE, IF EXISTS, IF NOT EXISTS
    actions: tuple[Action, ...] = ()  # of an ALTER
    table: Name | None = None  # that an index, trigger, rule or policy belongs to
    changes: tuple[Change, ...] = ()

    @property
    def start(self) -> int:
        return self.tokens[0].start

    @property
    def words(self) -> tuple[str, ...]:
        return tuple(token.word for token in self.tokens)

    @property
    def name(self) -> Name | None:
        return self.names[0] if self.names else None

    @property
    def targets(self) -> tuple[Name, ...]:
        """The tables that it is about, as far as they can be told."""
        if self.table is not None:
            return (self.table,)
        if self.kind in {"TABLE", "MATERIALIZED VIEW"}:
            return self.names
        return tuple(change.table for change in self.changes)


def read(text: str) -> list[Statement]:
    """The statements of a text, those inside DO blocks too."""
    found = []
    for tokens in split(text):
        statement = _statement(tokens)
        found.append(statement)
        if statement.verb == "DO":
            for body in (token for token in tokens if token.kind == "string"):
                found += [_statement(inner) for inner in of_block(body)]
    return found


def _statement(tokens: Sequence[Token]) -> Statement:
    cursor = Cursor(tokens)
    verb = cursor.word()
    cursor.at = 1
    reader = _READERS.get(verb)
    if reader is not None:
        return reader(tokens, cursor)
    if verb in {"DELETE", "UPDATE", "WITH", "INSERT", "SELECT", "MERGE"}:
        return Statement(tokens=tokens, verb=verb, changes=tuple(changes(tokens)))
    return Statement(tokens=tokens, verb=verb)


def _kind(cursor: Cursor) -> str:
    for words in _KINDS:
        if cursor.take(*words):
            return " ".join(words)
    return ""


def _create(tokens: Sequence[Token], cursor: Cursor) -> Statement:
    begin = cursor.at
    cursor.take_any(_BEFORE_KIND)
    modifiers = {tokens[place].word for place in range(begin, cursor.at)}
    kind = _kind(cursor)
    if cursor.take("CONCURRENTLY"):
        modifiers.add("CONCURRENTLY")
    if cursor.take("IF", "NOT", "EXISTS"):
        modifiers.add("IF NOT EXISTS")
    table = None
    name = None if kind == "INDEX" and cursor.word() == "ON" else cursor.name()
    if kind in {"INDEX", "TRIGGER", "RULE", "POLICY"}:
        table = _on(cursor)
    return Statement(
        tokens=tokens,
        verb="CREATE",
        kind=kind,
        names=(name,) if name else (),
        modifiers=frozenset(modifiers),
        table=table,
    )


def _on(cursor: Cursor) -> Name | None:
    while not cursor.done and cursor.word() not in {"ON", "TO"}:
        cursor.at += 1
    if cursor.take("TO"):  # CREATE RULE ... ON event TO table
        return cursor.name()
    cursor.take("ON")
    cursor.take("ONLY")
    name = cursor.name()
    if name is not None and name.schema is None and name.name in {"select", "insert", "update", "delete"}:
        return _on(cursor)
    return name


def _alter(tokens: Sequence[Token], cursor: Cursor) -> Statement:
    kind = _kind(cursor)
    modifiers = set()
    if cursor.take("IF", "EXISTS"):
        modifiers.add("IF EXISTS")
    cursor.take("ONLY")
    name = cursor.name()
    cursor.take("*")
    return Statement(
        tokens=tokens,
        verb="ALTER",
        kind=kind,
        names=(name,) if name else (),
        modifiers=frozenset(modifiers),
        actions=tuple(Action(tokens=part) for part in parts(tokens[cursor.at :])),
    )


def _drop(tokens: Sequence[Token], cursor: Cursor) -> Statement:
    kind = _kind(cursor)
    modifiers = set(_cascade(tokens))
    if cursor.take("CONCURRENTLY"):
        modifiers.add("CONCURRENTLY")
    if cursor.take("IF", "EXISTS"):
        modifiers.add("IF EXISTS")
    names = tuple(_names(cursor))
    table = _on(cursor) if kind in {"TRIGGER", "RULE", "POLICY"} else None
    return Statement(tokens=tokens, verb="DROP", kind=kind, names=names, modifiers=frozenset(modifiers), table=table)


def _truncate(tokens: Sequence[Token], cursor: Cursor) -> Statement:
    cursor.take("TABLE")
    names = tuple(_names(cursor))
    return Statement(tokens=tokens, verb="TRUNCATE", kind="TABLE", names=names, modifiers=_cascade(tokens))


def _maintenance(tokens: Sequence[Token], cursor: Cursor) -> Statement:
    verb = tokens[0].word
    modifiers = {token.word for token in tokens if token.word in {"FULL", "CONCURRENTLY"}}
    if verb == "VACUUM" and "FULL" not in modifiers:
        return Statement(tokens=tokens, verb=verb)
    if cursor.take("("):
        while not cursor.done and not cursor.take(")"):
            cursor.at += 1
    cursor.take_any({"FULL", "FREEZE", "VERBOSE", "ANALYZE"})
    kind = _kind(cursor) or "TABLE"
    cursor.take("CONCURRENTLY")
    return Statement(tokens=tokens, verb=verb, kind=kind, names=tuple(_names(cursor)), modifiers=frozenset(modifiers))


def _cascade(tokens: Sequence[Token]) -> frozenset[str]:
    return frozenset({"CASCADE"}) if tokens[-1].word == "CASCADE" else frozenset()


def _names(cursor: Cursor) -> Iterator[Name]:
    while True:
        cursor.take("ONLY")
        name = cursor.name()
        if name is None:
            return
        yield name
        cursor.take("*")
        if cursor.take("("):  # a function's arguments
            depth = 1
            while depth and not cursor.done:
                depth += {"(": 1, ")": -1}.get(cursor.word(), 0)
                cursor.at += 1
        if not cursor.take(","):
            return


_READERS: Mapping[str, Callable[[Sequence[Token], Cursor], Statement]] = {
    "CREATE": _create,
    "ALTER": _alter,
    "DROP": _drop,
    "TRUNCATE": _truncate,
    **dict.fromkeys(("VACUUM", "CLUSTER", "REINDEX", "REFRESH", "LOCK"), _maintenance),
}
