from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest

from migrator.config.login import Login, Secret
from migrator.errors import Refused, StepFailed
from migrator.runs import journal_postgres
from migrator.runs.journal import Journal
from migrator.runs.record import StepName
from migrator.testing.journal_harness import TARGET, JournalHarness, a_record, begin


def url_of(login: Login, *, password: str | None = None) -> str:
    if password is None and login.password is not None:
        password = login.password.reveal()
    secret = f":{quote(password, safe='')}" if password is not None else ""
    return (
        f"postgresql://{quote(login.user, safe='')}{secret}@{login.host}:{login.port}/{quote(login.database, safe='')}"
    )


def psql(login: Login, sql: str) -> list[tuple[object, ...]]:
    with psycopg.connect(url_of(login), autocommit=True) as connection:
        cursor = connection.execute(sql.encode())
        return cursor.fetchall() if cursor.description else []


class TestPostgres(JournalHarness):
    @pytest.fixture
    def url(self, database: Login) -> str:
        return url_of(database)

    def test_it_is_not_kept_in_the_database_that_is_migrated(self, journal: Journal, database: Login) -> None:
        ((target,),) = psql(database, "SELECT system_identifier || '/' || current_database() FROM pg_control_system()")
        with pytest.raises(Refused, match="that is to be migrated"):
            begin(journal, "run-1", target=str(target))
        assert journal.open_runs() == []

    def test_the_lease_goes_by_the_servers_clock(self, journal: Journal, database: Login) -> None:
        ((now,),) = psql(database, "SELECT extract(epoch FROM clock_timestamp())::float8")
        begin(journal, "run-1", lease_s=100)
        found = journal.unfinished(TARGET)
        assert found is not None
        assert 100 <= found.lease_until.timestamp() - float(str(now)) < 110

    def test_a_server_that_ended_our_sessions_is_asked_again(self, journal: Journal, database: Login) -> None:
        begin(journal, "run-1")
        ended = psql(
            database,
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE application_name = 'migrator:journal' AND datname = current_database()",
        )
        assert ended
        journal.step_started("run-1", 1, StepName.APPLY)
        assert journal.renew("run-1", 60)

    def test_tables_that_vanish_in_mid_run_fail_the_step(self, journal: Journal, database: Login) -> None:
        begin(journal, "run-1")
        psql(database, "DROP TABLE migrator_step, migrator_run, migrator_journal")
        with pytest.raises(StepFailed, match=r"run-1.*42P01") as caught:
            journal.save(a_record("run-1"), {})
        assert "migrator recover" in (caught.value.hint or "")

    def test_a_lock_on_its_tables_ends_in_a_failed_step_and_not_in_waiting(
        self, journal: Journal, database: Login, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(journal_postgres, "LOCK_TIMEOUT", "200ms")
        begin(journal, "run-1")
        with psycopg.connect(url_of(database)) as other:
            other.execute("LOCK TABLE migrator_run")
            with pytest.raises(StepFailed, match=r"run-1.*55P03"):
                journal.save(a_record("run-1"), {})

    def test_a_password_is_told_to_nobody(self, database: Login, tmp_path: Path) -> None:
        secret = Secret(url_of(Login(host="127.0.0.1", port=1, database="j", user="u"), password="hunter/2@:"))
        with pytest.raises(Refused) as caught:
            Journal.open(secret, tmp_path)
        shown = f"{caught.value!r} {caught.value.message} {caught.value.hint} {caught.value.__cause__!r}"
        assert "hunter" not in shown
        assert "postgresql://u@127.0.0.1:1/j" in shown
        assert caught.value.hint

    def test_a_role_that_may_not_make_tables_is_refused_with_the_remedy(self, database: Login, tmp_path: Path) -> None:
        psql(database, "REVOKE CREATE ON SCHEMA public FROM PUBLIC")
        psql(database, "ALTER DATABASE " + _quoted(database.database) + " SET search_path = pg_catalog")
        with pytest.raises(Refused, match="42501") as caught:
            Journal.open(url_of(database), tmp_path)
        assert "GRANT" in (caught.value.hint or "")

    def test_a_standby_is_refused(self, database: Login, tmp_path: Path) -> None:
        psql(database, "ALTER DATABASE " + _quoted(database.database) + " SET default_transaction_read_only = on")
        with pytest.raises(Refused, match="25006") as caught:
            Journal.open(url_of(database), tmp_path)
        assert "primary" in (caught.value.hint or "")


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
