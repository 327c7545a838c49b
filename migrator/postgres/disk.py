"""What a copy of a database needs on the server's disk, and what there is, where that can be known."""

from __future__ import annotations

import shutil
from pathlib import Path

from psycopg import sql

from migrator.config.login import Login
from migrator.postgres.connect import ServerInfo
from migrator.postgres.session import Session
from migrator.postgres.transactions import statement

_LOCAL = ("127.0.0.1", "::1", "localhost")


def size_bytes(admin: Session, database: str) -> int:
    """What the database takes on disk, and a copy of it will. Raises: StepFailed."""
    [(size,)] = admin.rows(
        statement("SELECT pg_database_size(oid) FROM pg_database WHERE datname = {}", _name(database))
    )
    return int(size or 0)


def free_bytes(admin: Session, database: str, *, login: Login, server: ServerInfo) -> int | None:
    """What is free where the database lies; None where nobody can tell: SQL cannot ask a server for it.

    Known only on this machine, to a login that may see `data_directory` (pg_monitor), and in the default tablespace.
    """
    directory = server.data_directory
    if directory is None or not (login.host in _LOCAL or login.host.startswith("/")):
        return None
    if admin.rows(statement(_ELSEWHERE, _name(database))):
        return None
    try:
        return shutil.disk_usage(Path(directory)).free
    except OSError:  # another machine's after all, behind a tunnel; or out of reach
        return None


def _name(database: str) -> sql.Literal:
    return sql.Literal(database)


_ELSEWHERE = """
SELECT FROM pg_database AS d JOIN pg_tablespace AS t ON t.oid = d.dattablespace
WHERE d.datname = {} AND t.spcname <> 'pg_default'
"""
