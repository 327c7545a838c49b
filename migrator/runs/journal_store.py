"""An opened journal, of whichever kind: its tables, its transactions."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy import exc

from migrator.errors import ConnectionFailed
from migrator.failpoints import Effect, effect
from migrator.runs.journal_tables import SCHEMA_VERSION, Transaction, metadata, schemas, versions

_APPLICATION_ID = 0x6D696772  # "migr": tells a journal from any other SQLite file
RECOVER = "an unfinished run is found by its fence all the same: `migrator recover --env ENV`."


class StoreFailed(Exception):
    """The store could not be read or written; `reason` says why and `remedy` what helps."""

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.remedy = remedy


class Store:
    """An opened journal. Safe to use from several threads: each transaction has a connection of its own."""

    def __init__(
        self,
        engine: sa.Engine,
        *,
        read_only: bool,
        clock: Callable[[], float],
        explained: Callable[[BaseException], StoreFailed],  # an error of the driver, in words
        file: Path | None = None,  # None: PostgreSQL
    ) -> None:
        self._engine = engine
        self.read_only = read_only
        self._clock = clock
        self._explained = explained
        self._file = file

    @contextmanager
    def transaction(self, *, writes: bool) -> Iterator[Transaction]:
        """One transaction, committed at the end: what it wrote is durable once this returns.

        Raises: StoreFailed.
        """
        with self._connection(writes=writes) as connection:
            yield Transaction(connection, self._clock)

    @contextmanager
    def _connection(self, *, writes: bool = False) -> Iterator[sa.Connection]:
        try:
            with self._engine.execution_options(migrator_writes=writes).begin() as connection:
                yield connection
        except (exc.SQLAlchemyError, sqlite3.Error) as error:
            raise self._explained(getattr(error, "orig", None) or error) from error
        except ConnectionFailed as error:  # its password could not be had
            raise StoreFailed(error.message, error.hint or "Check [journal] password.") from error

    @effect(Effect.JOURNAL_CREATE)
    def create(self) -> None:
        """The tables exist and are of the version that this program knows. Safe to repeat, and to do twice at once.

        Raises: StoreFailed when they are of another version, or the database is something else.
        """
        with self._connection(writes=True) as connection:
            if self._file is None:
                # CREATE TABLE fails when two sessions do it at the same time.
                connection.execute(sa.text("SELECT pg_advisory_xact_lock(hashtextextended('migrator journal', 0))"))
            if not sa.inspect(connection).has_table(versions.name):
                self._refuse_foreign_file(connection)
                metadata.create_all(connection)
                connection.execute(versions.insert().values(version=SCHEMA_VERSION))
                if self._file is not None:
                    connection.exec_driver_sql(f"PRAGMA application_id = {_APPLICATION_ID}")
            elif not sa.inspect(connection).has_table(schemas.name):
                _add_schemas(connection)
        self.check_version()

    def check_version(self) -> None:
        """The tables are of the version that this program knows.

        Raises: StoreFailed.
        """
        with self._connection() as connection:
            found = connection.scalars(sa.select(versions.c.version)).all()
        if list(found) == [SCHEMA_VERSION]:
            return
        if len(found) != 1:
            raise StoreFailed("its version is not recorded, so it is damaged", made_anew(self._file))
        if found[0] > SCHEMA_VERSION:
            raise StoreFailed(
                f"it was written by a newer migrator (journal version {found[0]}, this program knows {SCHEMA_VERSION})",
                "Use that migrator, or name another journal in [journal] url.",
            )
        raise StoreFailed(
            f"it was written by a migrator that is too old (journal version {found[0]}, this program needs "
            f"{SCHEMA_VERSION})",
            "End its open runs with the migrator that wrote it, then " + made_anew(self._file),
        )

    def check_pages(self) -> None:
        """A SQLite file is whole, as far as SQLite can tell.

        Raises: StoreFailed.
        """
        if self._file is None:
            return
        with self._connection() as connection:
            found = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar()
        if found != "ok":
            raise StoreFailed(f"it is damaged ({found})", made_anew(self._file))

    def close(self) -> None:
        self._engine.dispose()

    def _refuse_foreign_file(self, connection: sa.Connection) -> None:
        if self._file is not None and sa.inspect(connection).get_table_names():
            raise StoreFailed("it is a SQLite database of something else", "Name another file in [journal] url.")


@effect(Effect.JOURNAL_CREATE)
def _add_schemas(connection: sa.Connection) -> None:
    """The journal has its table for schemas; without the right to make it, it goes on without."""
    try:
        with connection.begin_nested():
            schemas.create(connection)
    except exc.ProgrammingError:  # its tables were made by somebody else: what is lost is a comparison
        return


def made_anew(file: Path | None) -> str:
    """What a person does with a journal that is of no use. `file` None: it lies in PostgreSQL."""
    if file is None:
        return f"name another database in [journal] url; {RECOVER}"
    return f"move it away (`mv {file} {file}.old`); a new one is made by itself, and {RECOVER}"
