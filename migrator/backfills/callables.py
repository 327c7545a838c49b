"""A Python function as what is done for a batch: found, called in the batch's transaction, kept from ending it."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import NoReturn

import psycopg
from psycopg import sql
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row

from migrator.backfills.definition import Backfill
from migrator.errors import MigrationFailed, MigratorError, Refused, StepFailed
from migrator.postgres.connect import PgSession, translated
from migrator.postgres.session import Session
from migrator.postgres.transactions import statement

Function = Callable[[psycopg.Connection, list[tuple[object, ...]]], object]


def find(backfill: Backfill) -> Function | None:
    """The function of `python`; None where there is a statement instead. Its module is executed.

    Raises: Refused, with the place, when there is none or its module cannot be imported.
    """
    if backfill.python is None:
        return None
    module, _, name = backfill.python.partition(":")
    try:
        found = getattr(_module(backfill, module), name, None)
    except Exception as error:
        raise _refused(backfill, f"{module} cannot be imported: {type(error).__name__}: {error}") from error
    if not callable(found):
        raise _refused(backfill, f"{module} has no function {name}")
    return found  # type: ignore[no-any-return]


def caller(backfill: Backfill, function: Function) -> Callable[[Session, str], None]:
    """Calls the function with a session's connection and the keys that a query returns.

    What is called raises: MigrationFailed; StepFailed for an error of PostgreSQL.
    """

    def call(session: Session, keys_query: str) -> None:
        if not isinstance(session, PgSession):
            raise StepFailed(f"{backfill.python} wants a connection, which this session has not")
        [(before,)] = session.rows(_TRANSACTION)
        failed: StepFailed | None = None
        keys: list[tuple[object, ...]] = []
        try:
            with translated(f"{backfill.python} failed"), session.conn.cursor(row_factory=tuple_row) as cursor:
                keys += cursor.execute(statement("SELECT * FROM ({}) AS keys", sql.SQL(keys_query)).encode())
                with _kept_open(session.conn):
                    _called(backfill, function, session.conn, keys)
        except StepFailed as error:
            failed = error
        if _is_over(session, before):
            raise MigrationFailed(
                f"{backfill.file}: {backfill.python} ended the transaction of its batch, which counts as not done: what"
                f" it did to rows {_from_to(keys)} may be in the database, and they are met again.",
                hint="Let it neither commit nor roll back; `with connection.transaction()` makes a savepoint. See to"
                " these rows before you go on.",
                code="backfill_ended",
                place=backfill.place,
            ) from failed
        if failed is not None:
            raise failed

    return call


def _is_over(session: PgSession, transaction: str | None) -> bool:
    """Whether the function has ended it. One in which a statement failed is rolled back here, to be able to ask."""
    if session.closed:  # whatever happened, nobody can ask any more
        return False
    if session.conn.info.transaction_status is TransactionStatus.INERROR:
        session.execute("ROLLBACK")
        return session.rows(statement(_FATE, sql.Literal(transaction))) != [("aborted",)]
    return session.rows(_TRANSACTION) != [(transaction,)]


def _from_to(keys: list[tuple[object, ...]]) -> str:
    first, last = (", ".join(map(str, key)) for key in (keys[0], keys[-1]))
    return f"from ({first}) to ({last})"


def _called(backfill: Backfill, function: Function, conn: psycopg.Connection, keys: list[tuple[object, ...]]) -> None:
    try:
        function(conn, keys)
    except (psycopg.Error, MigratorError):
        raise
    except Exception as error:
        raise MigrationFailed(
            f"{backfill.python} failed: {type(error).__name__}: {error}",
            hint="Nothing of this batch is in the database; those before it are.",
            place=backfill.place,
        ) from error


@contextmanager
def _kept_open(conn: psycopg.Connection) -> Iterator[None]:
    """The connection's own methods do not end the transaction."""

    def no() -> NoReturn:
        raise RuntimeError("the batch's transaction is not yours to end; use `with connection.transaction()`")

    names = ("commit", "rollback", "close")
    for name in names:
        setattr(conn, name, no)
    try:
        yield
    finally:
        for name in names:
            delattr(conn, name)


def _module(backfill: Backfill, name: str) -> ModuleType:
    """A file beside the backfill's comes first, and is no module of the process: two may have one name."""
    file = backfill.python_file
    if file is None:
        return importlib.import_module(name)
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} is no module")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _refused(backfill: Backfill, why: str) -> Refused:
    return Refused(
        f"{backfill.file}: python: {why}.",
        hint="Write module:function, for a module beside the file or one that is installed with migrator.",
        code="python",
        place=backfill.place,
    )


_TRANSACTION = "SELECT pg_current_xact_id()::text"
_FATE = "SELECT pg_xact_status({}::xid8)"
