"""A journal in a PostgreSQL database: opened, and its failures put in words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event

from migrator.config.login import Login, Secret
from migrator.runs.journal_store import RECOVER, Store, StoreFailed

LOCK_TIMEOUT = "10s"


def open_database(url: sa.URL, login: Login | None, *, read_only: bool, clock: Callable[[], float]) -> Store | None:
    """The journal in that database, created if need be. None when `read_only` and there is none yet.

    The password of `login` is asked for with every connection; without one it stands in the URL. Raises: StoreFailed.
    """
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

    if login is not None:
        _ask_for_its_password(engine, login)

    @event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql("SET LOCAL statement_timeout = '30s'")
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
        connection.exec_driver_sql("SET LOCAL synchronous_commit = on")

    store = Store(engine, read_only=read_only, clock=clock, explained=_explained)
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


def _explained(cause: BaseException) -> StoreFailed:
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
        remedy = f"Its tables are gone. Restore them if you can; else {RECOVER}"
    else:
        remedy = "Check [journal] url, and that its server is up and lets this user in."
    return StoreFailed(reason, remedy)
