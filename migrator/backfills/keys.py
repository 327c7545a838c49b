"""The keys of a table as SQL: compared, ordered, written as literals of their own types, carried in the session.

A batch's keys never leave the server: they are an array for every column, as text, in settings of the transaction.
That needs no right and no object, travels with Liquibase's own transaction too, and the planner, who takes an array
that it does not know for a short one, looks rows up by their index.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg import sql

from migrator.errors import StepFailed
from migrator.postgres.statement import words

Key = tuple[str, ...]  # a text for every column
BATCH = "batch"
_SETTING = "migrator.batch_{}"


@dataclass(frozen=True, kw_only=True)
class Column:
    name: str
    type: str  # as SQL names it, without length
    schema: str = "pg_catalog"  # of the operators by which the index compares it: that of an extension may be unseen


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """Keys above `low`, up to and with `high`; None: no limit on this side."""

    low: Key | None = None
    high: Key | None = None


@dataclass(frozen=True, kw_only=True)
class Table:
    """The table whose rows are walked through, and its key."""

    oid: int
    schema: str
    name: str
    key: tuple[Column, ...]
    is_partitioned: bool = False
    size_bytes: int = 0

    @property
    def identifier(self) -> sql.Identifier:
        return sql.Identifier(self.schema, self.name)

    @property
    def qualified(self) -> str:
        """Quoted, for a regclass."""
        return self.identifier.as_string(None)

    @property
    def names(self) -> sql.Composable:
        """The key's columns: a, b."""
        return _list([sql.Identifier(column.name) for column in self.key])

    @property
    def descending(self) -> sql.Composable:
        return _list([sql.SQL("{} DESC").format(sql.Identifier(column.name)) for column in self.key])

    def within(self, bounds: Bounds) -> sql.Composable:
        """A condition: keys of these bounds. A comparison of rows, which a btree index answers."""
        conditions = []
        if bounds.low is not None:
            conditions.append(self._compared(">", bounds.low))
        if bounds.high is not None:
            conditions.append(self._compared("<=", bounds.high))
        return sql.SQL(" AND ").join(conditions) if conditions else sql.SQL("true")

    def collected(self) -> sql.Composable:
        """Columns of a query over keys: each puts the column's values where `batch` finds them."""
        return _list(
            [
                sql.SQL("set_config({}, coalesce(array_agg({})::text, '{{}}'), true)").format(
                    sql.Literal(_SETTING.format(number)), sql.Identifier(column.name)
                )
                for number, column in enumerate(self.key, 1)
            ]
        )

    def batch(self) -> sql.Composable:
        """A query: the keys that were collected in this transaction. In a SELECT of its own, so that the planner, who
        would otherwise look at the setting, does not know how many they are, and never reads the whole table for them.
        """
        arrays = _list(
            [
                sql.SQL("(SELECT current_setting({}))::{}[]").format(
                    sql.Literal(_SETTING.format(number)), sql.SQL(column.type)
                )
                for number, column in enumerate(self.key, 1)
            ]
        )
        return sql.SQL("SELECT * FROM unnest({}) AS keys ({})").format(arrays, self.names)

    def no_batch(self) -> sql.Composable:
        """A query: no key."""
        columns = [
            sql.SQL("NULL::{} AS {}").format(sql.SQL(column.type), sql.Identifier(column.name)) for column in self.key
        ]
        return sql.SQL("SELECT {} WHERE false").format(_list(columns))

    def equal(self, one: str, other: str) -> sql.Composable:
        """A condition: two relations' keys are the same."""
        return sql.SQL(" AND ").join(
            sql.SQL("{} {} {}").format(
                sql.Identifier(one, column.name), _operator(column.schema, "="), sql.Identifier(other, column.name)
            )
            for column in self.key
        )

    def _compared(self, operator: str, key: Key) -> sql.Composable:
        schemas = {column.schema for column in self.key}
        chosen = _operator(schemas.pop(), operator) if len(schemas) == 1 else sql.SQL(operator)
        return sql.SQL("({}) {} ({})").format(self.names, chosen, self._literals(key))

    def _literals(self, key: Key) -> sql.Composable:
        return _list(
            [
                sql.SQL("{}::{}").format(sql.Literal(value), sql.SQL(column.type))
                for value, column in zip(key, self.key, strict=True)
            ]
        )


def with_batch(batch: sql.Composable, statement: str) -> str:
    """The statement with the relation `batch` in front of it, also where it begins with WITH itself.

    Raises: migrator.postgres.statement.NotOneStatement.
    """
    found = words(statement)
    word, end = next(found, ("", 0))
    recursive = sql.SQL("")
    if word == "with":
        word, after = next(found, ("", 0))
        if word == "recursive":
            recursive, end = sql.SQL("RECURSIVE "), after
        rest = sql.SQL(", {}").format(sql.SQL(statement[end:]))
    else:
        rest = sql.SQL(" {}").format(sql.SQL(statement))
    text = sql.SQL("WITH {}{} AS MATERIALIZED ({}){}").format(recursive, sql.Identifier(BATCH), batch, rest)
    return text.as_string(None)


def and_where(where: str | None) -> sql.Composable:
    """The rest of a condition. A comment at the end of `where` ends there."""
    return sql.SQL("") if where is None else sql.SQL(" AND (\n{}\n)").format(sql.SQL(where))


def of_row(values: Sequence[str | None]) -> Key:
    """A key as a query returned it. Raises: StepFailed for a column that is null."""
    if None in values:
        raise StepFailed(f"a row has no key: {', '.join('null' if one is None else one for one in values)}")
    return tuple(str(value) for value in values)


def _operator(schema: str, name: str) -> sql.Composable:
    return sql.SQL("OPERATOR({}.{})").format(sql.Identifier(schema), sql.SQL(name))


def _list(parts: Sequence[sql.Composable]) -> sql.Composable:
    return sql.SQL(", ").join(parts)
