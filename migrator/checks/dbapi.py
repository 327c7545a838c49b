"""A small DB-API connection whose SQL runs on somebody else's session: what SQLAlchemy's psycopg dialect is given.

It reads and never ends a transaction: `commit`, `rollback` and `close` do nothing, the owner of the session decides.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import psycopg
from psycopg import sql

_PLACEHOLDER = re.compile(r"%(?:\((?P<name>[^)]*)\))?(?P<kind>[sbt%])")
_REMEMBERED_ROWS = 1000  # a longer result is not remembered
_MOST_CANCELED = 3


@dataclass(frozen=True, kw_only=True)
class ResultSet:
    """A result, its values as Python objects."""

    columns: tuple[tuple[str, int], ...]  # name, type OID
    rows: list[tuple[Any, ...]]


class Transport(Protocol):
    """Runs one statement that reads. Raises: psycopg.Error, of the class that belongs to the SQLSTATE."""

    def query(self, sql: str) -> ResultSet: ...


class Memory:
    """A transport that asks the same question once.

    All questions see one snapshot, so the answer would be the same, and so would the error. Great Expectations tries
    a failing metric three times: without this a statement that runs into its time limit costs it three times. Nor are
    more asked once three have run into it: what a slow statement computed together is then asked for one by one.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._answers: dict[str, ResultSet | psycopg.Error] = {}
        self._canceled = 0

    def query(self, sql: str) -> ResultSet:
        known = self._answers.get(sql)
        if isinstance(known, psycopg.Error):
            raise known
        if known is not None:
            return known
        if self._canceled >= _MOST_CANCELED:
            raise psycopg.errors.QueryCanceled(f"not asked: {self._canceled} others ran into the statement timeout")
        try:
            answer = self._transport.query(sql)
        except psycopg.Error as error:
            self._answers[sql] = error
            self._canceled += isinstance(error, psycopg.errors.QueryCanceled)
            raise
        if len(answer.rows) <= _REMEMBERED_ROWS:
            self._answers[sql] = answer
        return answer


@dataclass(frozen=True)
class _Info:
    # SQLAlchemy rolls back what it believes to be idle; the transaction is always open here.
    transaction_status: psycopg.pq.TransactionStatus = psycopg.pq.TransactionStatus.INTRANS


@dataclass
class Connection:
    """What the dialect asks of a psycopg connection, no more."""

    transport: Transport
    closed: bool = field(default=False, init=False)
    broken: bool = field(default=False, init=False)
    autocommit: bool = field(default=False, init=False)
    info: _Info = field(default_factory=_Info, init=False)
    adapters: Any = field(default=psycopg.adapters, init=False)

    def cursor(self, name: str | None = None, **_: object) -> Cursor:  # noqa: ARG002  server-side cursors are named
        return Cursor(self)

    def commit(self) -> None:
        """Nothing happens: the transaction is not ours to end."""

    def rollback(self) -> None:
        """Nothing happens: every statement is behind a savepoint of the session's owner."""

    def close(self) -> None:
        """Nothing happens: the session outlives the checks."""

    def add_notice_handler(self, handler: object) -> None:
        """Nothing happens: notices stay with the session's owner."""


class Cursor:
    """A DB-API cursor over a result that has been read completely."""

    arraysize = 1

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.description: list[tuple[Any, ...]] | None = None
        self.rowcount = -1
        self._rows: list[tuple[Any, ...]] = []
        self._next = 0

    def execute(self, query: str, params: Sequence[object] | Mapping[str, object] | None = None) -> Cursor:
        """The result is there. Parameters are rendered as literals; with any, even none, `%%` stands for `%`."""
        result = self.connection.transport.query(query if params is None else render(query, params))
        self.description = [(name, oid, None, None, None, None, None) for name, oid in result.columns]
        self._rows, self._next = result.rows, 0
        self.rowcount = len(result.rows)
        return self

    def executemany(self, query: str, seq_of_params: Sequence[object]) -> None:  # noqa: ARG002
        raise psycopg.NotSupportedError("checks only read")

    def fetchone(self) -> tuple[Any, ...] | None:
        rows = self.fetchmany(1)
        return rows[0] if rows else None

    def fetchmany(self, size: int | None = None) -> list[tuple[Any, ...]]:
        start, self._next = self._next, min(self._next + (size or self.arraysize), len(self._rows))
        return self._rows[start : self._next]

    def fetchall(self) -> list[tuple[Any, ...]]:
        return self.fetchmany(max(1, len(self._rows)))

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return iter(self.fetchall())

    def setinputsizes(self, *_: object) -> None:
        """Nothing happens: literals need no sizes."""

    def setoutputsize(self, *_: object) -> None:
        """Nothing happens."""

    def close(self) -> None:
        self._rows, self._next = [], 0


def render(query: str, params: Sequence[object] | Mapping[str, object]) -> str:
    """The query with its parameters as literals. Raises: psycopg.ProgrammingError when one is missing."""
    positional = iter(params) if not isinstance(params, Mapping) else iter(())

    def literal(match: re.Match[str]) -> str:
        if match["kind"] == "%":
            return "%"
        try:
            value = params[match["name"]] if isinstance(params, Mapping) else next(positional)
        except (KeyError, StopIteration):
            raise psycopg.ProgrammingError(f"no value for the parameter {match.group()}") from None
        return sql.Literal(value).as_string(None)

    return _PLACEHOLDER.sub(literal, query)
