"""A backfill gives way: to a person, to a busy server, to those whom it blocks, to replicas that lag."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import psycopg
import pytest

from migrator.backfills import ledger
from migrator.backfills.throttle import Throttle
from migrator.config.login import Login
from migrator.errors import Interrupted
from migrator.postgres.connect import PgSession, connect
from migrator.postgres.transactions import transaction
from tests.acceptance.stage import settled
from tests.conftest import Server
from tests.integration.backfills.emptied import database, one_database
from tests.integration.backfills.test_capture import backfill, people
from tests.replica import Pair, pair
from tests.shop import conninfo

__all__ = ["database", "one_database"]
RUN = "20260101t000000_test"


@contextmanager
def throttled(login: Login, **fields: object) -> Iterator[Throttle]:
    def session() -> PgSession:
        return connect(login, role="backfill-throttle", run_id=RUN)

    with Throttle(session, backfill(**fields), run_id=RUN) as throttle:
        yield throttle


@contextmanager
def waiting(throttle: Throttle, check: Callable[[], None] = lambda: None) -> Iterator[threading.Thread]:
    """Somebody waits for leave to go on, which the block gives."""
    thread = threading.Thread(target=lambda: throttle.wait(check), daemon=True)
    thread.start()
    settled(lambda: throttle.waiting_for is not None, lambda: "nothing holds it back")
    yield thread
    thread.join(30)
    assert not thread.is_alive(), throttle.waiting_for
    assert throttle.waiting_for is None
    assert throttle.waited_s > 0


def test_nothing_holds_it_back(database: Login) -> None:
    with throttled(database, max_active_sessions=50) as throttle:
        throttle.wait(lambda: None)
        assert (throttle.waiting_for, throttle.waited_s, throttle.lag_bytes) == (None, 0.0, None)
        assert throttle.unknown == {}


def test_person_pauses_and_lets_go_on(database: Login) -> None:
    with closing(connect(database, role="test", run_id="test")) as session, throttled(database) as throttle:
        people(session)
        with transaction(session):
            ledger.begin(session, None, backfill(), table="public.customer", run_id=RUN)
        ledger.pause(session, None, "split-name", "paused by ann")
        with waiting(throttle):
            assert throttle.waiting_for == "a person: paused by ann"
            ledger.go_on(session, None, "split-name")


def test_wait_is_ended_by_who_wants_to_stop(database: Login) -> None:
    def stop() -> None:
        raise Interrupted("stop")

    with throttled(database, pause_s=3600) as throttle, pytest.raises(Interrupted):
        throttle.wait(stop)


def test_busy_server_holds_it_back(database: Login) -> None:
    with throttled(database, max_active_sessions=1) as throttle, _watching(database) as one:
        busy = [threading.Thread(target=_sleep, args=(conninfo(database),), daemon=True) for _ in range(2)]
        for thread in busy:
            thread.start()
        active = "select count(*) from pg_stat_activity where query like '%pg_sleep(60)%' and pid <> pg_backend_pid()"
        settled(lambda: one.execute(active).fetchone() == (2,), lambda: "they do not begin")
        with waiting(throttle):
            assert throttle.waiting_for == "the server: 2 sessions at work (limit 1)"
            one.execute("select pg_cancel_backend(pid) from pg_stat_activity where query like 'select pg_sleep(60)%'")


def _watching(login: Login) -> psycopg.Connection:
    return psycopg.connect(conninfo(login), autocommit=True)  # in a transaction it would see the same for ever


def _sleep(text: str) -> None:
    with psycopg.connect(text) as connection, pytest.raises(psycopg.errors.QueryCanceled):
        connection.execute("select pg_sleep(60)")


def test_batch_that_blocks_others_is_cancelled_and_they_go_first(database: Login) -> None:
    with (
        closing(connect(database, role="backfill-1", run_id=RUN)) as batch,
        closing(connect(database, role="backfill-1", run_id="another")) as innocent,
        throttled(database, max_blocked_s=0.2) as throttle,
    ):
        people(batch)
        batch.execute("insert into customer values (1, 'a')")
        slow = "begin; update customer set name = 'b'; select pg_sleep(60)"
        ends: list[BaseException] = []
        thread = threading.Thread(target=_ends, args=(batch, slow, ends), daemon=True)
        thread.start()
        locked = "select count(*) from pg_locks where relation = 'customer'::regclass and mode = 'RowExclusiveLock'"
        settled(lambda: innocent.rows(locked) == [("1",)], lambda: "the batch does not begin")
        user = threading.Thread(target=innocent.execute, args=("update customer set name = 'c'",), daemon=True)
        user.start()
        thread.join(30)
        assert "57014" in str(ends)
        batch.execute("rollback")
        user.join(30)
        settled(lambda: throttle.cancelled == 1, lambda: f"{throttle.cancelled} were cancelled")
        assert innocent.rows("select name from customer") == [("c",)]


def _ends(session: PgSession, text: str, ends: list[BaseException]) -> None:
    try:
        session.execute(text)
    except Exception as error:
        ends.append(error)


def test_what_a_login_may_not_see_is_said_to_be_unknown(server: Server, database: Login) -> None:
    app = server.app.to(database.database)
    with (
        throttled(app, max_active_sessions=1) as throttle,
        closing(connect(database, role="test", run_id="test")),
        closing(connect(database, role="test", run_id="test")),
    ):
        throttle.wait(lambda: None)
        assert throttle.unknown == {"active sessions": "this login is not in pg_monitor"}


@pytest.fixture(scope="module")
def replicated() -> Iterator[Pair]:
    with pair() as made:
        yield made


@pytest.mark.slow
def test_replica_that_lags_holds_it_back(replicated: Pair) -> None:
    login = replicated.server.admin
    with (
        closing(connect(login, role="test", run_id="test")) as primary,
        throttled(login, max_lag_bytes=1_000_000) as throttle,
    ):
        primary.execute("create table filled (n int, t text)")
        replicated.catch_up()
        throttle.wait(lambda: None)
        assert throttle.lag_bytes is not None
        replicated.stand_still()
        primary.execute("insert into filled select n, repeat('x', 100) from generate_series(1, 30000) n")
        with waiting(throttle):
            assert "replica walreceiver" in str(throttle.waiting_for)
            assert "(limit 1.0 MB)" in str(throttle.waiting_for)
            assert throttle.lag_bytes > 1_000_000
            replicated.go_on()
        assert throttle.max_lag_bytes is not None
        assert throttle.max_lag_bytes > 1_000_000


@pytest.mark.slow
def test_lag_that_may_not_be_seen_is_unknown(replicated: Pair) -> None:
    with throttled(replicated.server.app.to("postgres")) as throttle:
        throttle.wait(lambda: None)
        assert throttle.unknown["replication lag"] == "this login is not in pg_monitor"
        assert throttle.lag_bytes is None
