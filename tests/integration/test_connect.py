from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace

import psycopg
import pytest
from psycopg import sql

from migrator.config.login import Login, Secret
from migrator.errors import ConnectionFailed, StepFailed
from migrator.postgres.connect import PgSession, StatementFailed, connect, server_info
from tests.conftest import Server

PASSWORDS = ["a!b@c$d()e*_,/:;=?@ff[]22", "two words ' and \" and \\", "größer ☃", "%41%%s{}", "x" * 200]


def opened(login: Login, **options: object) -> PgSession:
    return connect(login, role="test", run_id="r1", **options)  # type: ignore[arg-type]


def refused(login: Login) -> ConnectionFailed:
    with pytest.raises(ConnectionFailed) as raised:
        opened(login)
    assert "\n" not in raised.value.message
    return raised.value


@pytest.fixture
def session(database: Login) -> Iterator[PgSession]:
    with opened(database) as session:
        yield session


@pytest.fixture
def spoiled_role(server: Server) -> Iterator[str]:
    """migrator with settings of its own that would end a run or change what it sees."""
    settings = {
        "statement_timeout": "1ms",
        "idle_in_transaction_session_timeout": "1ms",
        "row_security": "on",
        "default_transaction_read_only": "on",
        "default_transaction_isolation": "serializable",
        "DateStyle": "German",
        "TimeZone": "Asia/Tokyo",
        "IntervalStyle": "iso_8601",
        "extra_float_digits": "-5",
        "bytea_output": "escape",
        "synchronous_commit": "off",
        "client_encoding": "LATIN1",
        "quote_all_identifiers": "on",
    }
    with server.session() as admin:
        for name, value in settings.items():
            admin.execute(f"ALTER ROLE migrator SET {name} = '{value}'")
        yield "migrator"
        admin.execute("ALTER ROLE migrator RESET ALL")


def test_every_value_is_what_postgresql_prints(session: PgSession) -> None:
    query = r"""
        SELECT NULL, true, 1.50, 0.1::float8, '{a,"b c"}'::text[], '2026-01-02 03:04:05+01'::timestamptz,
               '1 day 2h'::interval, '\x00ff'::bytea, '{"a": 1}'::jsonb, 'ä%s☃', 'pg_class'::regclass, '5 EUR'
    """
    assert session.rows(query) == [
        (
            None,
            "t",
            "1.50",
            "0.1",
            '{a,"b c"}',
            "2026-01-02 02:04:05+00",
            "1 day 02:00:00",
            r"\x00ff",
            '{"a": 1}',
            "ä%s☃",
            "pg_class",
            "5 EUR",
        )
    ]


def test_statement_without_a_result_has_no_rows(session: PgSession) -> None:
    assert session.rows("CREATE TABLE t (a int)") == []
    assert session.rows("SELECT * FROM t") == []


def test_several_statements_are_executed_as_one_transaction(session: PgSession) -> None:
    session.execute("CREATE TABLE t (a int); INSERT INTO t VALUES (1); INSERT INTO t VALUES (2)")
    assert session.rows("SELECT count(*) FROM t") == [("2",)]
    with pytest.raises(StatementFailed):
        session.execute("INSERT INTO t VALUES (3); SELECT 1/0")
    assert session.rows("SELECT count(*) FROM t") == [("2",)]


def test_transactions_are_begun_and_ended_by_hand(session: PgSession) -> None:
    session.execute("BEGIN")
    session.execute("CREATE TABLE t (a int)")
    session.execute("ROLLBACK")
    assert session.rows("SELECT to_regclass('t')") == [(None,)]


def test_session_is_found_by_its_name(session: PgSession, server: Server) -> None:
    with server.session() as admin:
        found = admin.rows("SELECT pid FROM pg_stat_activity WHERE application_name = 'mig:r1:test'")
    assert (str(session.pid),) in found


def test_role_cannot_spoil_a_session(spoiled_role: str, database: Login, server: Server) -> None:
    with opened(database) as session:
        names = "statement_timeout idle_in_transaction_session_timeout row_security default_transaction_read_only \
            default_transaction_isolation TimeZone IntervalStyle extra_float_digits bytea_output synchronous_commit \
            client_encoding quote_all_identifiers lock_timeout"
        seen = {name: session.rows(f"SHOW {name}")[0][0] for name in names.split()}
        assert session.rows("SELECT '2026-01-02'::date") == [("2026-01-02",)]
        session.execute("SELECT pg_sleep(0.05)")
    assert seen == {
        "statement_timeout": "0",
        "idle_in_transaction_session_timeout": "0",
        "row_security": "off",
        "default_transaction_read_only": "off",
        "default_transaction_isolation": "read committed",
        "TimeZone": "UTC",
        "IntervalStyle": "postgres",
        "extra_float_digits": "1",
        "bytea_output": "hex",
        "synchronous_commit": "on",
        "client_encoding": "UTF8",
        "quote_all_identifiers": "off",
        "lock_timeout": "0",
    }


def test_rows_hidden_by_row_security_are_an_error(session: PgSession) -> None:
    session.execute(
        "CREATE TABLE t AS SELECT 1 AS a; ALTER TABLE t ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY"
    )
    with pytest.raises(StatementFailed) as raised:
        session.rows("SELECT * FROM t")
    assert raised.value.sqlstate == "42501"


def test_read_only_session_cannot_write(database: Login) -> None:
    with opened(database, read_only=True) as session, pytest.raises(StatementFailed) as raised:
        session.execute("CREATE TABLE t (a int)")
    assert raised.value.sqlstate == "25006"


def test_server_of_another_major(database16: Login) -> None:
    with opened(database16) as session:
        info = server_info(session)
    assert (info.major, info.version.split(".")[0]) == (16, "16")


def test_server_tells_what_this_login_may_know(server: Server) -> None:
    facts = {}
    for login in (server.admin, server.migrator, server.app):
        with opened(login) as session:
            facts[login.user] = server_info(session)
    assert [info.is_superuser for info in facts.values()] == [True, False, False]
    assert [info.data_directory is None for info in facts.values()] == [False, False, True]
    assert len({info.system_identifier for info in facts.values()}) == 1
    assert facts["app"].system_identifier.isdigit()
    assert not facts["app"].in_recovery


def test_refused_statement_ends_with_its_sqlstate(session: PgSession) -> None:
    with pytest.raises(StatementFailed, match=r"division by zero \(SQLSTATE 22012\)$") as raised:
        session.rows("SELECT 1/0")
    assert raised.value.sqlstate == "22012"
    assert isinstance(raised.value, StepFailed)
    assert session.rows("SELECT 1") == [("1",)]


def test_detail_of_an_error_is_told_on_the_same_line(session: PgSession) -> None:
    session.execute("CREATE TABLE t (a int PRIMARY KEY); INSERT INTO t VALUES (1)")
    with pytest.raises(StatementFailed, match=r"\(Key \(a\)=\(1\) already exists\.\) \(SQLSTATE 23505\)$"):
        session.execute("INSERT INTO t VALUES (1)")


def test_ended_session_is_a_lost_connection(session: PgSession, server: Server) -> None:
    with server.session() as admin:
        admin.execute(f"SELECT pg_terminate_backend({session.pid}, 5000)")
    for _ in range(2):
        with pytest.raises(ConnectionFailed) as raised:
            session.rows("SELECT 1")
        assert raised.value.code == "connection_lost"
    assert session.closed


def test_cancel_ends_the_statement_and_not_the_session(session: PgSession) -> None:
    session.cancel()  # nothing runs: no harm
    timer = threading.Timer(0.2, session.cancel)
    timer.start()
    with pytest.raises(StatementFailed) as raised:
        session.execute("SELECT pg_sleep(60)")
    assert raised.value.sqlstate == "57014"
    timer.join()
    assert session.rows("SELECT 1") == [("1",)]


def test_close_may_be_repeated(database: Login) -> None:
    session = opened(database)
    session.close()
    session.close()
    assert session.closed


@pytest.mark.parametrize("password", PASSWORDS)
def test_any_password_works(password: str, server: Server) -> None:
    with server.session() as admin:
        create = sql.SQL("CREATE ROLE odd LOGIN PASSWORD {}").format(sql.Literal(password))
        admin.execute(create.as_string(None))
        try:
            with opened(replace(server.app, user="odd", password=Secret(password))) as session:
                assert session.rows("SELECT current_user") == [("odd",)]
        finally:
            admin.execute("DROP ROLE odd")


def test_odd_names_of_database_and_role_work(server: Server) -> None:
    database, role = "o'd d=\"n:ame\\%s", "ro le@'x"
    with server.session() as admin:
        for text in ("CREATE ROLE {} LOGIN PASSWORD 'x'", "CREATE DATABASE {}"):
            name = role if "ROLE" in text else database
            admin.execute(sql.SQL(text).format(sql.Identifier(name)).as_string(None))
        try:
            with opened(replace(server.app, user=role, database=database, password=Secret("x"))) as session:
                assert session.rows("SELECT current_user, current_database()") == [(role, database)]
        finally:
            admin.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(database)).as_string(None))
            admin.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)).as_string(None))


def test_wrong_password(database: Login) -> None:
    error = refused(replace(database, password=Secret("hunter2")))
    assert error.code == "wrong_password"
    assert "hunter2" not in error.message


def test_missing_password(database: Login, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PGPASSWORD", raising=False)
    monkeypatch.setenv("PGPASSFILE", "/nonexistent")
    assert refused(replace(database, password=None)).code == "no_password"


def test_unknown_database(database: Login) -> None:
    assert refused(database.to("no_such_database")).code == "no_such_database"


def test_unknown_role_gives_nothing_away(database: Login) -> None:
    assert refused(replace(database, user="no_such_role")).code == "wrong_password"


def test_role_without_connect(database: Login, server: Server) -> None:
    with server.session() as admin:
        admin.execute(f"REVOKE CONNECT ON DATABASE {database.database} FROM PUBLIC")
    assert refused(server.app.to(database.database)).code == "no_connect_privilege"


def test_closed_database(database: Login, server: Server) -> None:
    with server.session() as admin:
        admin.execute(f"ALTER DATABASE {database.database} ALLOW_CONNECTIONS false")
    assert refused(database).code == "closed"


def test_database_whose_connections_are_used_up(database: Login, server: Server) -> None:
    with server.session() as admin:
        admin.execute(f"ALTER DATABASE {database.database} CONNECTION LIMIT 0")
    assert refused(database).code == "too_many_connections"


def test_refused_settings_leave_no_session_behind(database: Login, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("migrator.postgres.connect._SETTINGS", (("no_such_setting", "1", 0),))
    with pytest.raises(StatementFailed, match="settings of a session"):
        opened(database)


def test_tls_proves_the_server(tls_server: Server) -> None:
    assert tls_server.migrator.options["sslmode"] == "verify-full"
    with opened(tls_server.migrator) as session:
        assert session.rows("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()") == [("t",)]


def test_tls_with_an_unknown_ca_is_refused(tls_server: Server) -> None:
    system = {name: value for name, value in tls_server.migrator.options.items() if name != "sslrootcert"}
    error = refused(replace(tls_server.migrator, options=system))
    assert error.code == "tls"
    assert "sslrootcert" in (error.hint or "")


def test_server_that_insists_on_tls_refuses_plain(tls_server: Server) -> None:
    assert refused(replace(tls_server.migrator, options={"sslmode": "disable"})).code == "pg_hba"


def test_server_without_tls_is_refused_where_it_is_asked_for(server: Server) -> None:
    assert refused(replace(server.migrator, options={"sslmode": "require"})).code == "tls"


def test_psycopg_errors_stay_the_cause(session: PgSession) -> None:
    with pytest.raises(StatementFailed) as raised:
        session.rows("SELECT 1/0")
    assert isinstance(raised.value.__cause__, psycopg.errors.DivisionByZero)
