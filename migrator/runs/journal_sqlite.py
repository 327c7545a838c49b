"""A journal in a SQLite file: opened, made, and its failures put in words."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.pool import NullPool

from migrator.failpoints import Effect, effect
from migrator.runs.journal_store import RECOVER, Store, StoreFailed, made_anew

BUSY_TIMEOUT_S = 10.0


def open_file(file: Path, *, read_only: bool, clock: Callable[[], float]) -> Store | None:
    """The journal in that file, created if need be. None when `read_only` and there is none yet.

    Raises: StoreFailed.
    """
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

    store = Store(engine, read_only=read_only, clock=clock, explained=partial(_explained, file=file), file=file)
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


def _explained(cause: BaseException, file: Path) -> StoreFailed:
    name = getattr(cause, "sqlite_errorname", "")
    if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")) or "no such" in str(cause):
        return StoreFailed(f"it is damaged ({cause})", made_anew(file))
    if not file.exists():
        return StoreFailed("it is gone", f"Put it back if you can; else {RECOVER}")
    if name.startswith(("SQLITE_FULL", "SQLITE_IOERR_WRITE")):
        return StoreFailed(f"its disk is full ({cause})", f"Free some space below {file.parent}.")
    if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM", "SQLITE_AUTH")):
        return StoreFailed(f"it cannot be written here ({cause})", f"Allow this user to write {file} and its folder.")
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return StoreFailed(
            f"another process has kept it locked for {BUSY_TIMEOUT_S:g} s",
            f"See who has it open: `fuser -v {file}`.",
        )
    return StoreFailed(f"it cannot be read or written ({cause})", f"Check the disk below {file.parent}.")
