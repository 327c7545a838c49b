from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from psycopg import sql

from migrator.backups import Made, Source
from migrator.backups.clone import Clone, name_of
from migrator.backups.manifest import Manifest
from migrator.backups.store.local import LocalStore
from migrator.config.login import Login
from migrator.errors import BackupFailed, ConnectionFailed
from migrator.postgres import databases
from migrator.postgres.connect import PgSession, connect
from migrator.postgres.transactions import statement
from tests.conftest import Server


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "backups")


@pytest.fixture
def source(server: Server, database: Login) -> Iterator[Source]:
    """A database with one row; the copy that a test makes of it is dropped, also on a server that others use."""
    run_id = f"run_{database.database}"
    with connect(server.migrator, role="test", run_id="test") as admin:
        with session_of(database) as session:
            session.execute("CREATE TABLE t AS SELECT 1 AS a")
        try:
            yield Source(login=database, admin=admin, run_id=run_id)
        finally:
            databases.drop(admin, name_of(run_id))
            databases.drop(admin, f"{database.database}_side")


@contextmanager
def session_of(login: Login) -> Iterator[PgSession]:
    with connect(login, role="test", run_id="test") as session:
        yield session


def rows_of(login: Login) -> list[tuple[str | None, ...]]:
    with session_of(login) as session:
        return session.rows("SELECT a FROM t ORDER BY a")


def take(source: Source, store: LocalStore) -> Path:
    folder = store.new("b")
    made = Clone().create(source, folder)
    store.publish(manifest_of(source, made))
    return folder


def manifest_of(source: Source, made: Made) -> Manifest:
    return Manifest(
        id="b",
        kind="clone",
        run_id=source.run_id,
        environment="e",
        created_at=datetime.now(UTC),
        system_identifier="1",
        database=source.login.database,
        database_oid=1,
        server_version="18",
        tools=made.tools,
        copy_name=made.copy_name,
        copy_oid=made.copy_oid,
    )


def side(source: Source) -> str:
    name = f"{source.login.database}_side"
    source.admin.execute(statement("CREATE DATABASE {} TEMPLATE template0", sql.Identifier(name)))
    return name


def test_copy_comes_back_under_the_name_that_is_asked_for(source: Source, store: LocalStore) -> None:
    folder = take(source, store)
    with session_of(source.login) as session:
        session.execute("INSERT INTO t VALUES (2)")
    into = side(source)
    assert Clone().verify(source, folder).copy_oid == databases.oid_of(source.admin, name_of(source.run_id))
    for _ in range(2):
        Clone().restore(source, folder, into)
    assert rows_of(source.login.to(into)) == [("1",)]
    assert rows_of(source.login) == [("1",), ("2",)]
    assert databases.oid_of(source.admin, name_of(source.run_id)) is None


def test_copy_is_closed_to_others(source: Source, store: LocalStore, server: Server) -> None:
    take(source, store)
    with pytest.raises(ConnectionFailed, match="permission denied"):
        rows_of(server.app.to(name_of(source.run_id)))


def test_copy_that_an_interrupted_attempt_left_is_replaced(source: Source, store: LocalStore) -> None:
    Clone().create(source, store.new("b"))
    first = databases.oid_of(source.admin, name_of(source.run_id))
    with session_of(source.login) as session:
        session.execute("INSERT INTO t VALUES (2)")
    folder = take(source, store)
    assert Clone().verify(source, folder).copy_oid != first
    assert rows_of(source.login.to(name_of(source.run_id))) == [("1",), ("2",)]


def test_database_that_is_not_empty_is_not_replaced(source: Source, store: LocalStore) -> None:
    folder = take(source, store)
    with pytest.raises(BackupFailed, match="not empty"):
        Clone().restore(source, folder, source.login.database)
    assert rows_of(source.login) == rows_of(source.login.to(name_of(source.run_id))) == [("1",)]


def test_copy_that_was_dropped_or_replaced_is_found_missing(source: Source, store: LocalStore) -> None:
    folder = take(source, store)
    databases.drop(source.admin, name_of(source.run_id))
    source.admin.execute(statement("CREATE DATABASE {}", sql.Identifier(name_of(source.run_id))))
    for act in (
        lambda: Clone().verify(source, folder),
        lambda: Clone().restore(source, folder, f"{source.login.database}_side"),
    ):
        with pytest.raises(BackupFailed, match="not on this server any more"):
            act()


def test_failed_copy_leaves_neither_database_nor_backup(source: Source, store: LocalStore, server: Server) -> None:
    folder = store.new("b")
    with connect(server.app, role="test", run_id="test") as admin:
        powerless = Source(login=source.login, admin=admin, run_id=source.run_id)
        with pytest.raises(BackupFailed, match="failed") as caught:
            Clone().create(powerless, folder)
    assert "b.partial" in (caught.value.hint or "")
    assert [path.name for path in store.root.iterdir()] == ["b.partial"]
    assert databases.oid_of(source.admin, name_of(source.run_id)) is None
    assert rows_of(source.login) == [("1",)]


def test_deleted_backup_leaves_nothing(source: Source, store: LocalStore) -> None:
    folder = take(source, store)
    for _ in range(2):
        Clone().delete(source, folder)
    assert databases.oid_of(source.admin, name_of(source.run_id)) is None
    assert not folder.exists()
    assert rows_of(source.login) == [("1",)]


def test_copy_in_use_is_not_deleted(source: Source, store: LocalStore) -> None:
    folder = take(source, store)
    into = side(source)
    Clone().restore(source, folder, into)
    with pytest.raises(BackupFailed, match="it is kept"):
        Clone().delete(source, folder)
    assert rows_of(source.login.to(into)) == [("1",)]


def test_name_that_postgresql_would_cut_off_is_refused() -> None:
    with pytest.raises(BackupFailed, match="63 bytes"):
        name_of("x" * 60)
