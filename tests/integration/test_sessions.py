"""Sessions of others and of a run are told apart, ended, and known by what they hold up."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator

import pytest

from migrator.errors import StepFailed
from migrator.postgres import sessions, waits
from migrator.postgres.connect import PgSession, application_name, connect
from tests.conftest import Server
from tests.integration.targets import Target, target, visitor


@pytest.fixture
def shop(server: Server) -> Iterator[Target]:
    with target(server, "owner") as made:
        yield made


@pytest.fixture
def run_id() -> str:
    return f"20250101-{secrets.token_hex(4)}"


def test_runs_own_sessions_are_not_foreign(shop: Target, run_id: str) -> None:
    with (
        connect(shop.login, role="dump", run_id=run_id),
        connect(shop.login, role="dump", run_id=run_id + "0") as other,
        visitor(shop.app, application=application_name(run_id, "dump")) as pretender,
    ):
        found = sessions.foreign(shop.admin, shop.name, own_run=run_id)
        everybody = sessions.foreign(shop.admin, shop.name, own_run=None)

    assert {session.pid for session in found} == {other.pid, pretender.pid}
    assert len(everybody) == 3


def test_foreign_session_is_described(shop: Target, run_id: str) -> None:
    with visitor(shop.app, application="till 7") as till, visitor(shop.superuser_login()) as root:
        till.execute("BEGIN READ WRITE; SELECT pg_current_xact_id()")
        found = {session.pid: session for session in sessions.foreign(shop.admin, shop.name, own_run=run_id)}

    session = found[till.pid]
    assert session.user == shop.server.app.user
    assert session.writing
    assert session.age_s is not None
    assert session.age_s >= 0
    assert session.state == "idle in transaction"
    assert "pg_current_xact_id" in session.query
    assert str(session).startswith(f"pid {till.pid}: {session.user}, application 'till 7'")
    assert found[root.pid].is_superuser
    assert not found[root.pid].writing
    assert not session.is_superuser


def test_parallel_workers_belong_to_their_leader(shop: Target, run_id: str) -> None:
    with connect(shop.login, role="proof", run_id=run_id) as own:
        own.execute("CREATE TABLE t AS SELECT generate_series(1, 1000) AS n; ALTER TABLE t SET (parallel_workers = 2)")
        own.execute("SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0")
        query = threading.Thread(
            target=_ignoring_the_end,
            args=(own, "SELECT count(*), sum(CASE WHEN n > 0 THEN length(pg_sleep(0.005)::text) END) FROM t"),
        )
        query.start()
        try:
            _until(shop, f"SELECT FROM pg_stat_activity WHERE leader_pid = {own.pid}")
            assert sessions.foreign(shop.admin, shop.name, own_run=run_id) == []
        finally:
            own.cancel()
            query.join()


def test_only_foreign_sessions_are_ended(shop: Target, run_id: str) -> None:
    with connect(shop.login, role="dump", run_id=run_id) as own, visitor(shop.app) as other:
        for pid in (own.pid, other.pid):
            assert sessions.end_foreign(shop.admin, shop.name, pid, own_run=run_id)
        _until(shop, f"SELECT WHERE NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = {other.pid})")
        assert own.rows("SELECT 1") == [("1",)]


def test_superusers_session_cannot_be_ended_and_that_is_said(shop: Target, run_id: str) -> None:
    with visitor(shop.superuser_login()) as root:
        assert not sessions.end_foreign(shop.admin, shop.name, root.pid, own_run=run_id)
        assert root.rows("SELECT 1") == [("1",)]


def test_run_is_ended_but_for_its_lock(shop: Target, run_id: str) -> None:
    lock = connect(shop.login, role="lock", run_id=run_id, database="postgres")
    worker = connect(shop.login, role="worker", run_id=run_id)
    neighbour = connect(shop.login, role="worker", run_id=run_id + "0")
    with lock, worker, neighbour:
        working = threading.Thread(target=_ignoring_the_end, args=(worker, "SELECT pg_sleep(60)"))
        working.start()

        for _ in range(2):
            sessions.terminate_run(shop.admin, run_id, roles={"lock"}, timeout_s=10)

        assert sessions.of_run(shop.admin, run_id, but=["lock"]) == []
        assert [session.pid for session in sessions.of_run(shop.admin, run_id)] == [lock.pid]
        assert neighbour.rows("SELECT 1") == [("1",)]
        working.join()


def test_run_that_does_not_end_is_an_error_that_names_it(shop: Target, run_id: str) -> None:
    with (
        connect(shop.superuser_login(), role="worker", run_id=run_id) as worker,
        pytest.raises(StepFailed, match=f"pid {worker.pid}: superuser") as error,
    ):
        sessions.terminate_run(shop.admin, run_id, timeout_s=0.2)
    assert error.value.code == "still_there"


def test_lock_is_one_runs_only_and_names_its_holder(shop: Target, run_id: str) -> None:
    assert sessions.holder(shop.admin, shop.name) is None
    with connect(shop.login, role="lock", run_id=run_id, database="postgres") as first:
        assert sessions.lock(first, shop.name)
        assert not sessions.lock(shop.admin, shop.name)
        assert sessions.lock(shop.admin, shop.name + "2")

        found = sessions.holder(shop.admin, shop.name)

    assert found is not None
    assert found.startswith(f"pid {first.pid}, user {shop.login.user}, application 'mig:{run_id}:lock'")
    _until(shop, f"SELECT WHERE NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = {first.pid})")
    assert sessions.lock(shop.admin, shop.name)


def test_those_whom_the_run_holds_up_are_known_with_the_queue_behind_them(shop: Target, run_id: str) -> None:
    with (
        connect(shop.login, role="worker", run_id=run_id) as worker,
        visitor(shop.login, application="report") as report,
        visitor(shop.login, application="till") as till,
        visitor(shop.login, application="bystander") as bystander,
    ):
        worker.execute("CREATE TABLE public.t (id int); CREATE TABLE public.u (id int)")
        worker.execute("BEGIN; LOCK TABLE public.t IN ACCESS EXCLUSIVE MODE")
        report.execute("BEGIN; LOCK TABLE public.u IN ACCESS EXCLUSIVE MODE")
        assert waits.waiters(shop.admin, application_name(run_id, "")) == []
        waiting = [_waiting(shop, report, "SELECT * FROM public.t"), _waiting(shop, till, "SELECT * FROM public.u")]

        found = waits.waiters(shop.admin, application_name(run_id, ""))
        locks = waits.held_locks(shop.admin, application_name(run_id, ""))

        worker.execute("COMMIT")
        waiting[0].join()
        report.execute("COMMIT")
        waiting[1].join()
        assert bystander.rows("SELECT 1") == [("1",)]

    assert [(waiter.application, waiter.blocked_by) for waiter in found] == [
        ("report", (worker.pid,)),
        ("till", (report.pid,)),
    ]
    assert found[0].mode == "AccessShareLock"
    assert found[0].waiting_s >= found[1].waiting_s > 0
    assert [(lock.pid, lock.mode, lock.database) for lock in locks if lock.relation_oid == found[0].relation_oid] == [
        (worker.pid, "AccessExclusiveLock", shop.name)
    ]


def test_what_passes_a_fence_by_design_is_listed(shop: Target, run_id: str) -> None:
    with visitor(shop.superuser_login()) as root:
        root.rows(f"SELECT pg_create_logical_replication_slot('s{shop.token}', 'pgoutput')")
        root.execute(f"BEGIN; CREATE TABLE public.t (id int); PREPARE TRANSACTION 'pay {shop.token}'")
        root.execute(
            "CREATE SUBSCRIPTION off CONNECTION 'dbname=nowhere' PUBLICATION p"
            " WITH (connect = false, slot_name = NONE);"
        )
        try:
            [prepared] = sessions.prepared_transactions(shop.admin, shop.name)
            assert (prepared.gid, prepared.owner) == (f"pay {shop.token}", shop.server.admin.user)
            assert sessions.logical_slots(shop.admin, shop.name) == [f"s{shop.token}"]
            assert sessions.subscriptions(shop.admin, shop.name) == ["off"]
            assert sessions.enabled_subscriptions(shop.admin, shop.name) == []
            root.execute("UPDATE pg_subscription SET subenabled = true WHERE subname = 'off'")
            assert sessions.enabled_subscriptions(shop.admin, shop.name) == ["off"]
            assert sessions.enabled_subscriptions(shop.admin, "postgres") == []
        finally:
            root.execute(f"ROLLBACK PREPARED 'pay {shop.token}'")
            root.execute("UPDATE pg_subscription SET subenabled = false WHERE subname = 'off'")
            root.execute("DROP SUBSCRIPTION off")
            root.rows(f"SELECT pg_drop_replication_slot('s{shop.token}')")


def test_primary_is_no_replica(shop: Target) -> None:
    assert not sessions.in_recovery(shop.admin)


def _waiting(shop: Target, session: PgSession, query: str) -> threading.Thread:
    thread = threading.Thread(target=session.rows, args=(query,))
    thread.start()
    _until(shop, f"SELECT FROM pg_locks WHERE pid = {session.pid} AND NOT granted AND waitstart IS NOT NULL")
    return thread


def _ignoring_the_end(session: PgSession, query: str) -> None:
    try:
        session.rows(query)
    except StepFailed:
        return


def _until(shop: Target, query: str) -> None:
    for _ in range(5000):
        if shop.superuser.rows(query):
            return
    raise AssertionError(f"did not come about: {query}")
