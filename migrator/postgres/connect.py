"""Our own sessions: opened by keyword, with every setting that a role or database could spoil set by themselves."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Self

import psycopg
from psycopg import sql

from migrator.config.login import Login, Secret
from migrator.errors import ConnectionFailed, StepFailed
from migrator.postgres.refusals import one_line, refusal
from migrator.postgres.session import Row
from migrator.postgres.tls import tls_options

APPLICATION_PREFIX = "mig:"

# name -> value, and the first major version that knows the setting. A role's or a database's own value must neither
# end a run (timeouts), nor hide rows (row_security), nor change how a value is printed (fingerprints compare text).
_SETTINGS: tuple[tuple[str, str, int], ...] = (
    ("statement_timeout", "0", 0),
    ("transaction_timeout", "0", 17),
    ("idle_in_transaction_session_timeout", "0", 0),
    ("idle_session_timeout", "0", 14),
    ("lock_timeout", "0", 0),
    ("row_security", "off", 0),
    ("default_transaction_isolation", "read committed", 0),
    ("default_transaction_deferrable", "off", 0),
    ("synchronous_commit", "on", 0),
    ("DateStyle", "ISO, YMD", 0),
    ("IntervalStyle", "postgres", 0),
    ("TimeZone", "UTC", 0),
    ("extra_float_digits", "1", 0),
    ("bytea_output", "hex", 0),
    ("lc_monetary", "C", 0),
    ("quote_all_identifiers", "off", 0),
    ("standard_conforming_strings", "on", 0),
)
_CONNECTION_CHECK = "SET client_connection_check_interval = '10s'"  # only where the server's platform can do it
_TRIES = 50
_KEEPALIVES = {"keepalives": 1, "keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3}
_LOST = ("57P01", "57P02", "57P03", "57P05", "08000", "08003", "08006", "25P03")


class StatementFailed(StepFailed):
    """PostgreSQL refused a statement; `sqlstate` has its five characters."""

    code = "sql"

    def __init__(self, message: str, *, sqlstate: str | None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.sqlstate = sqlstate


@dataclass(frozen=True, kw_only=True)
class ServerInfo:
    """Which server this is. What this login may not see is None, or `unknown` for the system identifier."""

    major: int
    version: str  # "18.4"
    system_identifier: str
    in_recovery: bool
    is_superuser: bool
    data_directory: str | None


class PgSession:
    """A psycopg connection in autocommit, as a `migrator.postgres.session.Session`."""

    def __init__(self, conn: psycopg.Connection, *, name: str) -> None:
        self.conn = conn
        self.name = name  # for messages: database at host, and the session's role
        self.pid: int = conn.info.backend_pid

    def rows(self, sql: str) -> list[Row]:
        """The result of one statement, every value as PostgreSQL prints it; [] for a statement without a result.

        Raises: StatementFailed; ConnectionFailed, code `connection_lost`.
        """
        with translated(f"a query on {self.name} failed"), self.conn.cursor() as cursor:
            cursor.execute(sql.encode())
            result = cursor.pgresult
            if result is None:
                return []
            return [
                tuple(_text(result.get_value(row, column)) for column in range(result.nfields))
                for row in range(result.ntuples)
            ]

    def execute(self, sql: str) -> None:
        """One or several statements were executed; outside a BEGIN several count as one transaction.

        Raises: StatementFailed; ConnectionFailed, code `connection_lost`.
        """
        with translated(f"a statement on {self.name} failed"), self.conn.cursor() as cursor:
            cursor.execute(sql.encode())

    def cancel(self, timeout_s: float = 5.0) -> None:
        """The running statement was asked to stop; it raises in its own thread. Safe to repeat, also when idle."""
        with suppress(psycopg.Error):  # a session that cannot be asked is gone, and its statement with it
            self.conn.cancel_safe(timeout=timeout_s)

    @property
    def closed(self) -> bool:
        """True after `close`, and after the connection was found to be lost."""
        return self.conn.closed

    def close(self) -> None:
        """The session is over; an open transaction is rolled back by the server. Safe to repeat."""
        self.conn.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def application_name(run_id: str, role: str) -> str:
    """The name by which a run's sessions are found and ended: `mig:<run>:<role>`."""
    return f"{APPLICATION_PREFIX}{run_id}:{role}"


def connect(
    login: Login,
    *,
    role: str,
    run_id: str,
    read_only: bool = False,
    connect_timeout_s: float = 10,
    database: str | None = None,
) -> PgSession:
    """A session is open and all its settings are ours, whatever the role's or the database's are.

    `search_path` stays as it is: invariants name tables as the application does.
    TLS: see `migrator.postgres.tls`.

    Raises: ConnectionFailed, one line, with code `unreachable`, `wrong_password`, `no_password`, `no_such_database`,
    `no_such_role`, `no_connect_privilege`, `closed`, `too_many_connections`, `starting_up`, `tls`, `pg_hba`
    or `connection`.
    """
    login = login if database is None else login.to(database)
    parameters: dict[str, str | int] = {
        **_KEEPALIVES,
        **tls_options(login),
        **login.options,
        "host": login.host,
        "port": login.port,
        "dbname": login.database,
        "user": login.user,
        "application_name": application_name(run_id, role),
        "client_encoding": "UTF8",
        "connect_timeout": max(2, math.ceil(connect_timeout_s)),
    }
    conn = _opened(login, parameters)
    name = f"{login.database} at {login.host}:{login.port} ({role})"
    try:
        with translated(f"the settings of a session on {name} were refused"):
            _set_up(conn, read_only=read_only)
    except BaseException:
        conn.close()
        raise
    return PgSession(conn, name=name)


def server_info(session: PgSession) -> ServerInfo:
    """What the server says of itself. Raises: StatementFailed."""
    [(number, version, recovery, superuser, can_see, directory)] = session.rows(
        """
        SELECT current_setting('server_version_num'), current_setting('server_version'), pg_is_in_recovery(),
               rolsuper, may.see, CASE WHEN may.see THEN current_setting('data_directory') END
        FROM pg_roles, (SELECT pg_has_role('pg_read_all_settings', 'USAGE') AS see) AS may
        WHERE rolname = current_user
        """
    )
    allowed = session.rows("SELECT has_function_privilege('pg_control_system()', 'EXECUTE')") == [("t",)]
    identifier = session.rows("SELECT system_identifier FROM pg_control_system()")[0][0] if allowed else None
    return ServerInfo(
        major=int(number or 0) // 10000,
        version=(version or "").split(" ")[0],
        system_identifier=identifier or "unknown",
        in_recovery=recovery == "t",
        is_superuser=superuser == "t",
        data_directory=directory if can_see == "t" else None,
    )


def timeline(session: PgSession) -> str | None:
    """The timeline of the server's WAL, which every failover changes; None where the server does not say."""
    with suppress(StatementFailed):  # a replica has none of its own
        return session.rows("SELECT left(pg_walfile_name(pg_current_wal_lsn()), 8)")[0][0]
    return None


def translate(error: psycopg.Error, doing: str) -> StepFailed:
    """What to raise instead of `error`: one line that begins with `doing` and ends with the SQLSTATE.

    A lost session becomes ConnectionFailed with code `connection_lost`, everything else StatementFailed.
    """
    state = error.sqlstate
    said = error.diag.message_primary or one_line(str(error)) or type(error).__name__
    if error.diag.message_detail:
        said += f" ({one_line(error.diag.message_detail)})"
    message = f"{doing}: {said}{f' (SQLSTATE {state})' if state else ''}"
    if state in _LOST or (state is None and isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)):
        return ConnectionFailed(
            message, code="connection_lost", hint="The server or somebody on it ended the session; its log says why."
        )
    return StatementFailed(message, sqlstate=state, hint=error.diag.message_hint)


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Errors of psycopg leave the block as our own; see `translate`."""
    try:
        yield
    except psycopg.Error as error:
        raise translate(error, doing) from error


def _opened(login: Login, parameters: Mapping[str, str | int]) -> psycopg.Connection:
    """A connection. A password that was rotated since it was asked for is asked for anew, once.

    Raises: ConnectionFailed.
    """
    secret = login.secret()
    try:
        return _attempt(login, parameters, secret)
    except ConnectionFailed as error:
        renewed = login.renewed(secret) if error.code == "wrong_password" else None
        if renewed is None:
            raise
    return _attempt(login, parameters, renewed)


def _attempt(login: Login, parameters: Mapping[str, str | int], secret: Secret | None) -> psycopg.Connection:
    given: dict[str, Any] = {**parameters} if secret is None else {**parameters, "password": secret.reveal()}
    try:
        return psycopg.connect(autocommit=True, prepare_threshold=None, **given)
    except psycopg.Error as error:
        raise refusal(login, str(error)) from error


def _set_up(conn: psycopg.Connection, *, read_only: bool) -> None:
    major = conn.info.server_version // 10000
    settings = [(name, value) for name, value, since in _SETTINGS if major >= since]
    settings.append(("default_transaction_read_only", "on" if read_only else "off"))
    # SET LOCAL would not outlive the statement, and start-up options are refused by poolers: one batch of SETs.
    batch = sql.SQL("; ").join(
        sql.SQL("SET {} = {}").format(sql.Identifier(name.lower()), sql.Literal(value)) for name, value in settings
    )
    try:
        conn.execute(batch)
    except psycopg.errors.QueryCanceled:
        _outrun_statement_timeout(conn)
        conn.execute(batch)
    if major >= 14:
        with suppress(psycopg.errors.InvalidParameterValue):
            conn.execute(_CONNECTION_CHECK)


def _outrun_statement_timeout(conn: psycopg.Connection) -> None:
    """The role's own statement_timeout, of a millisecond or so, is off: the shortest statement there is, some times."""
    for left in reversed(range(_TRIES)):
        try:
            conn.execute("SET statement_timeout = 0")
        except psycopg.errors.QueryCanceled:
            if left == 0:
                raise
        else:
            return


def _text(value: bytes | None) -> str | None:
    # SQL_ASCII databases hand out whatever bytes were put in
    return None if value is None else value.decode(errors="backslashreplace")
