"""Where the journal lies: a SQLite file or a PostgreSQL database. Opened, created, and its failures put in words."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy import event, exc
from sqlalchemy.pool import NullPool

from migrator.config.login import Login, Secret
from migrator.errors import ConfigError, ConnectionFailed
from migrator.failpoints import Effect, effect
from migrator.runs.journal_tables import SCHEMA_VERSION, Transaction, metadata, schemas, versions

BUSY_TIMEOUT_S = 10.0
POSTGRES_LOCK_TIMEOUT = "10s"
_APPLICATION_ID = 0x6D696772  # "migr": tells a journal from any other SQLite file
_EXAMPLES = "sqlite:///.migrator/journal.db or postgresql://user@host:5432/database"
_RECOVER = "an unfinished run is found by its fence all the same: `migrator recover --env ENV`."


class StoreFailed(Exception):
    """The store could not be read or written; `reason` says why and `remedy` what helps."""

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.remedy = remedy


class Store:
    """An opened journal. Safe to use from several threads: each transaction has a connection of its own."""

    def __init__(self, engine: sa.Engine, *, read_only: bool, clock: Callable[[], float], file: Path | None) -> None:
        self._engine = engine
        self.read_only = read_only
        self._clock = clock
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
            raise self._failed(error) from error
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
            raise StoreFailed("its version is not recorded, so it is damaged", self._replace())
        if found[0] > SCHEMA_VERSION:
            raise StoreFailed(
                f"it was written by a newer migrator (journal version {found[0]}, this program knows {SCHEMA_VERSION})",
                "Use that migrator, or name another journal in [journal] url.",
            )
        raise StoreFailed(
            f"it was written by a migrator that is too old (journal version {found[0]}, this program needs "
            f"{SCHEMA_VERSION})",
            "End its open runs with the migrator that wrote it, then " + self._replace(),
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
            raise StoreFailed(f"it is damaged ({found})", self._replace())

    def close(self) -> None:
        self._engine.dispose()

    def _refuse_foreign_file(self, connection: sa.Connection) -> None:
        if self._file is not None and sa.inspect(connection).get_table_names():
            raise StoreFailed("it is a SQLite database of something else", "Name another file in [journal] url.")

    def _replace(self) -> str:
        if self._file is None:
            return f"name another database in [journal] url; {_RECOVER}"
        return f"move it away (`mv {self._file} {self._file}.old`); a new one is made by itself, and {_RECOVER}"

    def _failed(self, error: Exception) -> StoreFailed:
        cause = getattr(error, "orig", None) or error
        if isinstance(cause, sqlite3.Error) and self._file is not None:
            return self._failed_sqlite(cause, self._file)
        return self._failed_postgres(cause)

    def _failed_sqlite(self, cause: sqlite3.Error, file: Path) -> StoreFailed:
        name = getattr(cause, "sqlite_errorname", "")
        if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")) or "no such" in str(cause):
            return StoreFailed(f"it is damaged ({cause})", self._replace())
        if not file.exists():
            return StoreFailed("it is gone", f"Put it back if you can; else {_RECOVER}")
        if name.startswith(("SQLITE_FULL", "SQLITE_IOERR_WRITE")):
            return StoreFailed(f"its disk is full ({cause})", f"Free some space below {file.parent}.")
        if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM", "SQLITE_AUTH")):
            return StoreFailed(
                f"it cannot be written here ({cause})", f"Allow this user to write {file} and its folder."
            )
        if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            return StoreFailed(
                f"another process has kept it locked for {BUSY_TIMEOUT_S:g} s",
                f"See who has it open: `fuser -v {file}`.",
            )
        return StoreFailed(f"it cannot be read or written ({cause})", f"Check the disk below {file.parent}.")

    @staticmethod
    def _failed_postgres(cause: BaseException) -> StoreFailed:
        diagnostic = getattr(cause, "diag", None)
        text = (diagnostic.message_primary if diagnostic is not None else None) or str(cause)
        sqlstate = getattr(cause, "sqlstate", None)
        reason = (text.strip().splitlines() or ["no reason given"])[0] + (f" (SQLSTATE {sqlstate})" if sqlstate else "")
        if sqlstate == "42501":
            remedy = "Let its role create and use tables: GRANT CREATE, USAGE ON SCHEMA public, as the schema's owner."
        elif sqlstate in ("25006", "57P03"):
            remedy = "Name the primary server in [journal] url; a standby cannot be written."
        elif sqlstate in ("53100", "53200"):
            remedy = "Free some space on the journal's server."
        elif sqlstate == "42P01":
            remedy = f"Its tables are gone. Restore them if you can; else {_RECOVER}"
        else:
            remedy = "Check [journal] url, and that its server is up and lets this user in."
        return StoreFailed(reason, remedy)


@effect(Effect.JOURNAL_CREATE)
def _add_schemas(connection: sa.Connection) -> None:
    """The journal has its table for schemas; without the right to make it, it goes on without."""
    try:
        with connection.begin_nested():
            schemas.create(connection)
    except exc.ProgrammingError:  # its tables were made by somebody else: what is lost is a comparison
        return


@dataclass(frozen=True, kw_only=True)
class Location:
    """Where a journal lies; `where` is fit to be shown."""

    where: str
    file: Path | None  # None: PostgreSQL
    url: sa.URL
    login: Login | None = None  # whose password is asked for with every connection; None: it stands in the URL


def locate(url: str, base: Path, login: Login | None = None) -> Location:
    """The place that `url` names; a relative SQLite path is below `base`. `login`: see `Location`.

    Raises: ConfigError for a URL that names no journal.
    """
    try:
        parsed = sa.make_url(url)
    except (exc.ArgumentError, ValueError) as error:
        raise ConfigError("[journal] url is not a URL.", hint=f"For example {_EXAMPLES}") from error
    match parsed.drivername:
        case "sqlite":
            if not parsed.database or parsed.database == ":memory:":
                raise ConfigError("[journal] url names no file.", hint="For example sqlite:///.migrator/journal.db")
            file = base / parsed.database
            return Location(where=str(file), file=file, url=parsed)
        case "postgresql" | "postgres" | "postgresql+psycopg":
            parsed = parsed.set(drivername="postgresql+psycopg")
            user = f"{parsed.username}@" if parsed.username else ""
            host = parsed.host or parsed.query.get("host") or "localhost"
            where = f"postgresql://{user}{host}:{parsed.port or 5432}/{parsed.database or ''}"
            return Location(where=where, file=None, url=parsed, login=login)
        case other:
            raise ConfigError(f"[journal] url: a journal is not kept in {other!r}.", hint=f"For example {_EXAMPLES}")


def open_store(location: Location, *, read_only: bool, clock: Callable[[], float] = time.time) -> Store | None:
    """The journal there, created if need be. None when `read_only` and there is none yet.

    Raises: StoreFailed when it cannot be used.
    """
    if location.file is not None:
        return _open_sqlite(location.file, read_only=read_only, clock=clock)
    return _open_postgres(location, read_only=read_only, clock=clock)


def _open_sqlite(file: Path, *, read_only: bool, clock: Callable[[], float]) -> Store | None:
    if read_only and (not file.exists() or file.stat().st_size == 0):  # empty: killed before its tables were made
        return None
    if not read_only:
        try:
            _make_private(file)
        except OSError as error:
            raise StoreFailed(
                f"it cannot be made ({error.strerror or error})", f"Allow this user to write {file.parent}."
            ) from error
    # mode=rw never creates: a journal that vanished is noticed, not silently begun anew.
    mode = "ro" if read_only else "rw"
    if read_only and not _may_write(file.parent) and not file.with_name(file.name + "-wal").exists():
        mode += "&immutable=1"  # SQLite needs to make a -shm file beside it otherwise

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(
            f"file:{quote(str(file))}?mode={mode}", uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None
        )
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        return connection

    # A connection of its own for each transaction: safe between threads, and a deleted file is noticed.
    engine = sa.create_engine("sqlite://", creator=connect, poolclass=NullPool, hide_parameters=True)

    @event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        writes = connection.get_execution_options().get("migrator_writes")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    store = Store(engine, read_only=read_only, clock=clock, file=file)
    if read_only:
        store.check_version()
        return store
    store.check_pages()
    store.create()
    try:
        with closing(connect()) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
    except sqlite3.OperationalError:
        # Somebody reads it just now, or the file system has no shared memory: the rollback journal is as safe.
        return store
    return store


def _may_write(folder: Path) -> bool:
    return os.access(folder, os.W_OK, effective_ids=os.access in os.supports_effective_ids)


@effect(Effect.JOURNAL_CREATE)
def _make_private(file: Path) -> None:
    missing = [folder for folder in (file.parent, *file.parent.parents) if not folder.exists()]
    for folder in reversed(missing):
        folder.mkdir(mode=0o700, exist_ok=True)
    if not file.exists():
        os.close(os.open(file, os.O_CREAT | os.O_WRONLY, 0o600))


def _open_postgres(location: Location, *, read_only: bool, clock: Callable[[], float]) -> Store | None:
    url = location.url
    arguments: dict[str, Any] = {
        "application_name": "migrator:journal",
        "connect_timeout": 10,
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 30_000,
        "prepare_threshold": None,  # prepared statements do not survive a pooler
    }
    arguments = {name: value for name, value in arguments.items() if name not in url.query}
    engine = sa.create_engine(
        url,
        connect_args=arguments,
        pool_size=2,
        max_overflow=4,
        pool_timeout=30,
        pool_pre_ping=True,
        hide_parameters=True,
        isolation_level="READ COMMITTED",
    )

    if location.login is not None:
        _ask_for_its_password(engine, location.login)

    @event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql("SET LOCAL statement_timeout = '30s'")
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{POSTGRES_LOCK_TIMEOUT}'")
        connection.exec_driver_sql("SET LOCAL synchronous_commit = on")

    store = Store(engine, read_only=read_only, clock=clock, file=None)
    if not read_only:
        store.create()
        return store
    with store.transaction(writes=False) as transaction:
        exists = transaction.exists()
    if exists:
        store.check_version()
        return store
    store.close()
    return None


def _ask_for_its_password(engine: sa.Engine, login: Login) -> None:
    """Every connection has the password of its moment; one that was rotated meanwhile is asked for anew, once."""

    @event.listens_for(engine, "do_connect")
    def connect(dialect: Any, _record: object, arguments: Any, options: dict[str, Any]) -> Any:
        def attempt(secret: Secret | None) -> Any:
            password = {} if secret is None else {"password": secret.reveal()}
            return dialect.connect(*arguments, **{**options, **password})

        secret = login.secret()
        try:
            return attempt(secret)
        except dialect.loaded_dbapi.OperationalError as error:
            renewed = login.renewed(secret) if "authentication failed" in str(error) else None
            if renewed is None:
                raise
        return attempt(renewed)
