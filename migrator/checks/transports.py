"""The two ways in which a check's SQL reaches PostgreSQL: the child's own session, or the parent's over the pipe."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import pq, sql
from psycopg.abc import Loader

from migrator.checks.dbapi import ResultSet
from migrator.config.login import Login
from migrator.errors import ConnectionFailed
from migrator.postgres.connect import PgSession, connect
from migrator.postgres.statement import NotOneStatement, single

MAX_ROWS = 200_000
"""A check that wants more rows than this fails; it is never given a part of them."""

_SAVEPOINT = "migrator_check"


class Piped:
    """Sends SQL to the parent, who runs it on the session that holds the migration."""

    def __init__(self, ask: Callable[[dict[str, Any]], Mapping[str, Any]]) -> None:
        self._ask = ask
        self._loaders: dict[int, Loader] = {}

    def query(self, sql: str) -> ResultSet:
        """Values arrive as text and are read by psycopg's own loaders."""
        _admit(sql)
        answer = self._ask({"event": "query", "sql": sql, "max_rows": MAX_ROWS})
        if "error" in answer:
            raise _error(answer["error"], answer.get("sqlstate"))
        columns = tuple((str(name), int(oid)) for name, oid in answer["columns"])
        load = [self._loader(oid).load for _, oid in columns]
        rows = [
            tuple(None if value is None else load[i](value.encode()) for i, value in enumerate(row))
            for row in answer["rows"]
        ]
        return ResultSet(columns=columns, rows=rows)

    def _loader(self, oid: int) -> Loader:
        if oid not in self._loaders:
            adapters = psycopg.adapters
            loader = adapters.get_loader(oid, pq.Format.TEXT) or adapters.get_loader(0, pq.Format.TEXT)
            if loader is None:
                raise psycopg.NotSupportedError(f"values of type {oid} cannot be read")
            self._loaders[oid] = loader(oid)
        return self._loaders[oid]


class Own:
    """Runs SQL on a session of the child's own, in one transaction that only reads; see `own`."""

    def __init__(self, session: PgSession, progress: Callable[[], None]) -> None:
        self._session = session
        self._progress = progress

    def query(self, sql: str) -> ResultSet:
        _admit(sql)
        self._progress()
        self._session.conn.execute(f"SAVEPOINT {_SAVEPOINT}".encode())
        try:
            return self._read(sql)
        finally:
            # Also after a success: what a function has SET is not to reach the next statement.
            if not self._session.closed:
                self._session.conn.execute(f"ROLLBACK TO SAVEPOINT {_SAVEPOINT}".encode())

    def _read(self, sql: str) -> ResultSet:
        rows: list[tuple[Any, ...]] = []
        columns: tuple[tuple[str, int], ...] = ()
        with self._session.conn.cursor() as cursor:
            # Row by row: a result that is too long must not fill the memory before it is refused.
            for row in cursor.stream(sql.encode()):
                if len(rows) >= MAX_ROWS:
                    raise psycopg.DataError(f"the result has more than {MAX_ROWS} rows")
                rows.append(row)
                if len(rows) == 1:
                    columns = tuple((column.name, column.type_code) for column in cursor.description or ())
        return ResultSet(columns=columns if rows else self._columns(sql), rows=rows)

    def _columns(self, sql: str) -> tuple[tuple[str, int], ...]:
        # psycopg's stream does not describe a result without rows.
        connection = self._session.conn.pgconn
        for result in (connection.prepare(b"", sql.encode()), connection.describe_prepared(b"")):
            if result.status != pq.ExecStatus.COMMAND_OK:
                raise psycopg.DatabaseError(f"the result cannot be described: {result.get_error_message()}")
        return tuple((_name(result.fname(i)), result.ftype(i)) for i in range(result.nfields))


def _name(raw: bytes | None) -> str:
    return (raw or b"").decode(errors="backslashreplace")


@contextmanager
def own(
    login: Login, *, run_id: str, snapshot: str | None, statement_timeout_s: float, progress: Callable[[], None]
) -> Iterator[Own]:
    """A transport over a new session, REPEATABLE READ READ ONLY, at `snapshot` where one is given.

    Raises: ConnectionFailed, StatementFailed.
    """
    with connect(login, role="checks", run_id=run_id, read_only=True) as session:
        session.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        if snapshot is not None:
            session.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(sql.Literal(snapshot)).as_string(None))
        session.execute(f"SET LOCAL statement_timeout = {max(1, round(statement_timeout_s * 1000))}")
        yield Own(session, progress)
        if session.closed:
            raise ConnectionFailed(
                f"the session of the checks on {session.name} was lost",
                code="connection_lost",
                hint="The server or somebody on it ended the session; its log says why.",
            )


def _admit(statement: str) -> None:
    try:
        single(statement)
    except NotOneStatement as error:
        raise psycopg.ProgrammingError(f"the check's SQL {error}: {statement[:200]}") from error


def _error(message: str, sqlstate: str | None) -> psycopg.Error:
    known: type[psycopg.Error] = psycopg.DatabaseError
    if sqlstate:
        try:
            known = psycopg.errors.lookup(sqlstate)
        except KeyError:
            known = psycopg.DatabaseError
    return known(message)
