"""The worker's database connection: the driver's own, with every setting that a role could have changed set back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from migrator.liquibase.worker import jdbc
from migrator.liquibase.worker.failures import Failure, from_java

_SERVER_14, _SERVER_17 = 140000, 170000


@dataclass(frozen=True, kw_only=True)
class Column:
    name: str
    type_oid: int


def open_connection(request: dict[str, Any]) -> Any:
    """An open `org.postgresql.jdbc.PgConnection`, its session set up, autocommit off. Raises: Failure."""
    import jpype

    java_properties = jpype.JClass("java.util.Properties")()
    login = request["login"]
    for name, value in jdbc.properties(
        host=login["host"],
        user=login["user"],
        password=login["password"],
        options=login["options"],
        application_name=request["application_name"],
    ).items():
        java_properties.setProperty(name, value)
    try:
        real = jpype.JClass("org.postgresql.Driver")().connect(
            jdbc.url(login["host"], login["port"], login["database"]), java_properties
        )
    except jpype.JException as error:
        raise from_java(error, kind="connection") from error
    set_up(real, read_only=request["mode"] == "read_only", lock_timeout_s=request["lock_timeout_s"])
    real.setAutoCommit(False)
    return real


def set_up(real: Any, *, read_only: bool, lock_timeout_s: float) -> None:
    """The session no longer depends on settings of its role or database."""
    version = int(one(real, "SHOW server_version_num"))
    settings = {
        "statement_timeout": "0",
        "idle_in_transaction_session_timeout": "0",
        "lock_timeout": str(round(lock_timeout_s * 1000)),
        "default_transaction_read_only": "on" if read_only else "off",
        "row_security": "off",
        "synchronous_commit": "on",
        "TimeZone": "UTC",
        "DateStyle": "ISO",
        "IntervalStyle": "postgres",
        "extra_float_digits": "1",
        "bytea_output": "hex",
        "standard_conforming_strings": "on",
    }
    if version >= _SERVER_14:
        settings["idle_session_timeout"] = "0"
    if version >= _SERVER_17:
        settings["transaction_timeout"] = "0"
    execute(real, "; ".join(f"SET {name} = '{value}'" for name, value in settings.items()))
    # Not every platform can watch for a client that has gone.
    execute(
        real,
        "DO $$BEGIN SET client_connection_check_interval = '5s'; EXCEPTION WHEN OTHERS THEN NULL; END$$",
    )


def execute(real: Any, sql: str) -> None:
    """One or several statements were executed as they are: `?` is no parameter, `{` no escape."""
    import jpype

    try:
        statement = real.createStatement()
        try:
            statement.setEscapeProcessing(False)
            statement.execute(sql)
        finally:
            statement.close()
    except jpype.JException as error:
        raise from_java(error, kind="sql") from error


def rows(real: Any, sql: str, *, max_rows: int | None = None) -> tuple[list[Column], list[tuple[str | None, ...]]]:
    """The result of one statement as text. Raises: Failure, also when there are more than `max_rows` rows."""
    import jpype

    try:
        statement = real.createStatement()
        try:
            statement.setEscapeProcessing(False)
            statement.setFetchSize(5000)
            if not statement.execute(sql):
                return [], []
            return _read(statement.getResultSet(), max_rows)
        finally:
            statement.close()
    except jpype.JException as error:
        raise from_java(error, kind="sql") from error


def _read(result: Any, max_rows: int | None) -> tuple[list[Column], list[tuple[str | None, ...]]]:
    meta = result.getMetaData()
    count = meta.getColumnCount()
    columns = [
        Column(name=str(meta.getColumnLabel(i)), type_oid=int(result.getColumnOID(i))) for i in range(1, count + 1)
    ]
    found: list[tuple[str | None, ...]] = []
    numbers = range(1, count + 1)
    get = result.getString
    while result.next():
        if max_rows is not None and len(found) >= max_rows:
            raise Failure("sql", f"the query returned more than {max_rows} rows", code="too_many_rows")
        found.append(tuple(None if (value := get(i)) is None else str(value) for i in numbers))
    return columns, found


def one(real: Any, sql: str) -> str:
    """The first column of the only row."""
    _, found = rows(real, sql)
    return found[0][0] or ""


def need_single_query(sql: str) -> None:
    """Raises: Failure unless it is exactly one SELECT or SHOW (a COMMIT in it would be a real one)."""
    import jpype

    try:
        parsed = jpype.JClass("org.postgresql.core.Parser").parseJdbcSql(sql, True, False, True, False, False)
    except jpype.JException as error:
        raise from_java(error, kind="sql") from error
    queries = [query for query in parsed if str(query.nativeSql).strip()]
    kind = str(queries[0].command.getType().name()) if len(queries) == 1 else ""
    is_show = kind == "BLANK" and str(queries[0].nativeSql).lstrip().upper().startswith("SHOW")
    if kind not in {"SELECT", "WITH"} and not is_show:
        raise Failure("sql", "only a single SELECT or SHOW is run here", code="not_a_query")
