"""Where a journal lies: in a SQLite file, or in a PostgreSQL database."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy import exc

from migrator.config.login import Login
from migrator.errors import ConfigError
from migrator.runs import journal_postgres, journal_sqlite
from migrator.runs.journal_store import Store

_EXAMPLES = "sqlite:///.migrator/journal.db or postgresql://user@host:5432/database"


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
        return journal_sqlite.open_file(location.file, read_only=read_only, clock=clock)
    return journal_postgres.open_database(location.url, location.login, read_only=read_only, clock=clock)
