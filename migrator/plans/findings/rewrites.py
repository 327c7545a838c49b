"""Which actions of an ALTER TABLE make PostgreSQL write every row anew (PostgreSQL, ALTER TABLE, Notes)."""

from __future__ import annotations

from migrator.plans.findings import column_types
from migrator.plans.findings.cursor import Cursor, Name
from migrator.plans.findings.look import Look
from migrator.plans.findings.statements import Action

_CONSTRAINTS = {"CONSTRAINT", "CHECK", "UNIQUE", "PRIMARY", "FOREIGN", "EXCLUDE"}
# Of the functions that a default may call, some that are not volatile; every other is taken for volatile.
_STABLE = {
    *("now", "transaction_timestamp", "statement_timestamp", "current_setting", "lower", "upper", "md5", "coalesce"),
    *("make_interval", "to_timestamp", "jsonb_build_object", "cast", "numeric", "varchar", "char", "character"),
    *("decimal", "timestamp", "time", "current_timestamp", "localtimestamp"),
}
_AFTER_DEFAULT = {"CHECK", "CONSTRAINT", "REFERENCES", "UNIQUE", "PRIMARY", "COLLATE"}
_AFTER_TYPE = {"COLLATE", "USING"}


def cause(look: Look, table: Name, action: Action) -> str | None:
    """What it is that writes the table anew; None where nothing does."""
    cursor = action.cursor()
    if cursor.take("SET"):
        heavy = cursor.word() in {"LOGGED", "UNLOGGED", "TABLESPACE", "ACCESS"}
        return f"SET {cursor.word()}" if heavy else None
    if cursor.take("ADD") and cursor.word() not in _CONSTRAINTS:
        cursor.take("COLUMN")
        cursor.take("IF", "NOT", "EXISTS")
        column = cursor.identifier()
        return f"the new column {column}" if _is_computed(action) else None
    if cursor.take("ALTER"):
        cursor.take("COLUMN")
        column = cursor.identifier()
        if column is not None and not look.is_new_column(table, column):
            return _altered(look, table, column, cursor)
    return None


def type_text(cursor: Cursor) -> str:
    """The type that comes next, as SQL writes it."""
    parts: list[str] = []
    while not cursor.done and cursor.word() not in _AFTER_TYPE:
        token = cursor.tokens[cursor.at]
        glued = token.text in "(),[]." or (parts and parts[-1][-1] in "([.,")
        parts.append(token.text if glued or not parts else f" {token.text}")
        cursor.at += 1
    return "".join(parts)


def _altered(look: Look, table: Name, column: str, cursor: Cursor) -> str | None:
    if cursor.take("SET", "EXPRESSION"):
        return f"another expression of column {column}"
    if not (cursor.take("TYPE") or cursor.take("SET", "DATA", "TYPE")):
        return None
    facts = look.table(table)
    known = None if facts is None else facts.columns.get(column)
    if known is None:
        return None
    new = type_text(cursor)
    return f"column {column}, from {known.type} to {new}," if column_types.effect(known.type, new).rewrites else None


def _is_computed(action: Action) -> bool:
    """Whether each row gets a value of its own: a stored, an identity or a serial column, a volatile default."""
    words = action.words
    if {"SERIAL", "BIGSERIAL", "SMALLSERIAL", "SERIAL4", "SERIAL8"} & set(words):
        return True
    if "GENERATED" in words:
        return "STORED" in words or "IDENTITY" in words
    if "DEFAULT" not in words:
        return False
    begin = words.index("DEFAULT") + 1
    end = next((place for place in range(begin, len(words)) if words[place] in _AFTER_DEFAULT), len(words))
    return any(
        token.kind in {"word", "quoted"} and following.text == "(" and token.name not in _STABLE
        for token, following in zip(action.tokens[begin:end], action.tokens[begin + 1 : end], strict=False)
    )
