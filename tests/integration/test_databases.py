"""Databases are copied, swapped and dropped without a superuser, and whatever fails leaves the names as they were."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace

import pytest

from migrator.errors import ConnectionFailed, StepFailed
from migrator.postgres import databases, fence, obstacles, properties
from migrator.postgres.connect import connect
from migrator.postgres.fence import Mode
from tests.conftest import Server
from tests.integration.targets import KINDS, Target, gets_in, target, visitor

RUN = "20250101-run"


@pytest.fixture(params=KINDS)
def shop(request: pytest.FixtureRequest, server: Server) -> Iterator[Target]:
    with target(server, request.param) as made:
        yield made


@pytest.fixture
def owned(server: Server) -> Iterator[Target]:
    with target(server, "owner") as made:
        yield made


def fill(shop: Target) -> None:
    with connect(shop.login, role="test", run_id="test") as session:
        session.execute("CREATE TABLE public.t AS SELECT generate_series(1, 10) AS n; CREATE SEQUENCE public.s")
        session.rows("SELECT setval('public.s', 42)")


def new_name(shop: Target) -> str:
    return databases.name_of(f"{shop.token} \"q'", "new")


def old_name(shop: Target) -> str:
    return databases.name_of(f"{shop.token} \"q'", "old")


def make_copy(shop: Target, *, oid: int | None = None) -> int:
    return databases.copy(shop.admin, shop.name, new_name(shop), owner=shop.owner, timeout_s=60, oid=oid)


def names(shop: Target) -> dict[int, str]:
    found = shop.superuser.rows(f"SELECT oid, datname FROM pg_database WHERE position('{shop.token}' IN datname) > 0")
    return {int(oid or 0): name or "" for oid, name in found}


def test_copy_holds_the_same_and_lets_only_us_in(shop: Target) -> None:
    fill(shop)
    before = properties.read(shop.admin, shop.name)
    chosen = databases.unused_oid(shop.admin)

    oid = make_copy(shop, oid=chosen)

    assert chosen in (None, oid)
    assert databases.oid_of(shop.admin, new_name(shop)) == oid
    with connect(shop.login.to(new_name(shop)), role="test", run_id="test") as session:
        assert session.rows("SELECT sum(n), (SELECT last_value FROM public.s) FROM public.t") == [("55", "42")]
    assert not gets_in(shop.app.to(new_name(shop)))
    assert properties.read(shop.admin, new_name(shop)).owner == shop.owner
    assert properties.read(shop.admin, shop.name) == before


def test_copy_ends_the_sessions_on_its_source(owned: Target) -> None:
    fill(owned)
    with visitor(owned.app) as idle, visitor(owned.login) as writer:
        writer.execute("BEGIN; INSERT INTO public.t VALUES (11)")
        make_copy(owned)
        with pytest.raises(StepFailed):
            idle.rows("SELECT 1")
    with connect(owned.login.to(new_name(owned)), role="test", run_id="test") as session:
        assert session.rows("SELECT count(*) FROM public.t") == [("10",)]
    assert gets_in(owned.app)


def test_copy_that_fails_leaves_its_source_open_and_the_session_as_it_was(owned: Target) -> None:
    owned.sql("CREATE DATABASE {1} OWNER {2}", new_name(owned), owned.owner)
    with pytest.raises(StepFailed, match="already exists"):
        make_copy(owned)
    assert gets_in(owned.app)
    assert owned.admin.rows("SHOW statement_timeout") == [("0",)]


@pytest.mark.slow
def test_copy_gives_up_on_a_session_that_cannot_be_ended(owned: Target) -> None:
    with visitor(owned.superuser_login()), pytest.raises(StepFailed, match="55006"):
        databases.copy(owned.admin, owned.name, new_name(owned), owner=owned.owner, timeout_s=60, wait_s=0)
    assert gets_in(owned.app)
    assert list(names(owned).values()) == [owned.name]


def test_empty_database_is_like_the_original_and_lets_only_us_in(shop: Target) -> None:
    before = properties.read(shop.admin, shop.name)

    oid = databases.create_empty(shop.admin, new_name(shop), like=before)

    made = properties.read(shop.admin, new_name(shop))
    kept = {"oid": before.oid, "acl": None, "effective_acl": ()}
    assert replace(made, **kept) == replace(before, **kept)  # type: ignore[arg-type]
    assert made.oid == oid
    assert gets_in(shop.login.to(new_name(shop)))
    assert not gets_in(shop.app.to(new_name(shop)))


def test_empty_database_has_the_encoding_and_locale_of_the_original(owned: Target) -> None:
    provider = "LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8'" if databases.major(owned.admin) >= 17 else ""
    owned.sql("DROP DATABASE {0}; ")
    owned.sql(
        f"CREATE DATABASE {{0}} OWNER {{1}} TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C' {provider}", owned.owner
    )
    before = properties.read(owned.admin, owned.name)

    databases.create_empty(owned.admin, new_name(owned), like=before)

    made = properties.read(owned.admin, new_name(owned))
    assert (made.encoding, made.collate, made.ctype) == (before.encoding, "C", "C")
    assert (made.locale_provider, made.locale) == (before.locale_provider, before.locale)


def test_swap_gives_the_new_one_the_name_and_everything_that_goes_with_it(shop: Target) -> None:
    fill(shop)
    shop.sql("COMMENT ON DATABASE {} IS 'the shop'")
    shop.sql("GRANT CONNECT ON DATABASE {} TO {}", shop.stranger)
    shop.sql("ALTER DATABASE {} SET work_mem TO '7MB'")
    shop.sql("ALTER DATABASE {} CONNECTION LIMIT 17")
    before = properties.read(shop.admin, shop.name)
    fence.put_up(shop.admin, shop.name, run_id=RUN, mode=Mode.OFFLINE)
    fence.drain(shop.admin, shop.name, run_id=RUN, timeout_s=10)
    new = make_copy(shop)

    for _ in range(2):
        databases.swap(
            shop.admin,
            current=shop.name,
            incoming=new_name(shop),
            old_name=old_name(shop),
            properties=before,
            oids=(before.oid, new),
        )

        assert names(shop) == {new: shop.name, before.oid: old_name(shop)}
        now = properties.read(shop.admin, shop.name)
        assert replace(now, oid=0, acl=None) == replace(before, oid=0, acl=None)
    assert gets_in(shop.app)
    assert not gets_in(shop.server.admin.to(old_name(shop)))
    kept = fence.read(shop.admin, old_name(shop))
    assert kept is not None
    assert kept.run_id == RUN


def test_swap_that_fails_leaves_names_and_openness(owned: Target) -> None:
    before = properties.read(owned.admin, owned.name)
    new = make_copy(owned)
    impossible = replace(before, owner="no such role")

    with pytest.raises(StepFailed, match="no such role"):
        databases.swap(
            owned.admin,
            current=owned.name,
            incoming=new_name(owned),
            old_name=old_name(owned),
            properties=impossible,
        )

    assert names(owned) == {before.oid: owned.name, new: new_name(owned)}
    assert properties.read(owned.admin, owned.name) == before
    assert gets_in(owned.app)
    assert gets_in(owned.login.to(new_name(owned)))
    assert not gets_in(owned.app.to(new_name(owned)))


def test_swap_of_other_databases_than_those_written_down_is_refused(owned: Target) -> None:
    before = properties.read(owned.admin, owned.name)
    new = make_copy(owned)
    for oids in ((new, before.oid), (before.oid, new + 1)):
        with pytest.raises(StepFailed) as error:
            databases.swap(
                owned.admin,
                current=owned.name,
                incoming=new_name(owned),
                old_name=old_name(owned),
                properties=before,
                oids=oids,
            )
        assert error.value.code == "another_database"
    assert names(owned) == {before.oid: owned.name, new: new_name(owned)}


def test_swap_succeeds_against_clients_that_keep_coming_back(owned: Target) -> None:
    before = properties.read(owned.admin, owned.name)
    new = make_copy(owned)
    stop, admitted = threading.Event(), threading.Event()

    def pool() -> None:
        with ExitStack() as held:
            while not stop.is_set():
                with suppress(ConnectionFailed):
                    held.enter_context(visitor(owned.app))
                    admitted.set()

    threads = [threading.Thread(target=pool) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        assert admitted.wait(10)
        databases.swap(
            owned.admin,
            current=owned.name,
            incoming=new_name(owned),
            old_name=old_name(owned),
            properties=before,
            oids=(before.oid, new),
        )
        admitted.clear()
        assert admitted.wait(10)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert names(owned) == {new: owned.name, before.oid: old_name(owned)}


def test_drop_ends_sessions_and_may_be_repeated(shop: Target) -> None:
    oid = make_copy(shop)
    with connect(shop.login.to(new_name(shop)), role="worker", run_id=RUN):
        for _ in range(2):
            databases.drop(shop.admin, new_name(shop), oid=oid)
    assert list(names(shop).values()) == [shop.name]


def test_drop_finishes_what_an_interrupted_drop_left(shop: Target) -> None:
    oid = make_copy(shop)
    shop.superuser.execute(f"UPDATE pg_database SET datconnlimit = -2 WHERE oid = {oid}")

    databases.drop(shop.admin, new_name(shop), oid=oid)

    assert list(names(shop).values()) == [shop.name]
    assert shop.admin.rows("SELECT 1") == [("1",)]


def test_drop_spares_another_database_of_that_name(owned: Target) -> None:
    oid = databases.oid_of(owned.admin, owned.name)
    assert oid is not None
    with pytest.raises(StepFailed) as error:
        databases.drop(owned.admin, owned.name, oid=oid + 1)
    assert error.value.code == "another_database"
    assert oid in names(owned)


def test_databases_of_runs_are_found_by_their_names(owned: Target) -> None:
    oid = make_copy(owned)
    owned.sql("CREATE DATABASE {1}", f"mig_{owned.token}_other")

    found = databases.run_databases(owned.admin)

    assert (new_name(owned), oid) in found
    assert f"mig_{owned.token}_other" not in [each.name for each in found]
    [made] = [each for each in found if each.oid == oid]
    assert made.run_id == f"{owned.token} \"q'"


def test_nothing_stands_in_the_way_of_an_ordinary_database(shop: Target) -> None:
    before = properties.read(shop.admin, shop.name)
    assert obstacles.to_swap(shop.admin, shop.name) == []
    assert properties.read(shop.admin, shop.name) == before


def test_what_stands_in_the_way_is_named(owned: Target) -> None:
    owned.sql("ALTER DATABASE {} SET log_statement TO 'ddl'")
    with visitor(owned.superuser_login()) as root:
        root.rows(f"SELECT pg_create_logical_replication_slot('s{owned.token}', 'pgoutput')")
        root.execute(f"BEGIN; CREATE TABLE public.t (id int); PREPARE TRANSACTION 'pay {owned.token}'")
        try:
            found = obstacles.to_swap(owned.admin, owned.name)
        finally:
            root.execute(f"ROLLBACK PREPARED 'pay {owned.token}'")
            root.rows(f"SELECT pg_drop_replication_slot('s{owned.token}')")
    assert len(found) == 3
    assert "log_statement" in found[0]
    assert found[1] == f'transaction "pay {owned.token}" is prepared'
    assert found[2] == f'logical slot "s{owned.token}" would stay behind'


def test_missing_rights_are_named(server: Server) -> None:
    with target(server, "superuser") as shop, shop.server.session(shop.server.app) as stranger:
        found = obstacles.to_swap(stranger, shop.name)
    assert found == [
        "this login lacks CREATEDB",
        f'this login does not inherit the rights of the owner "{shop.owner}"',
    ]


def test_a_folder_that_a_crash_left_is_named_to_a_superuser_alone(server: Server) -> None:
    with connect(server.admin, role="test", run_id="test") as admin:
        admin.execute("COPY (SELECT 1) TO PROGRAM 'mkdir base/999999999'")
        try:
            assert databases.orphan_folders(admin) == ["base/999999999"]
            with connect(server.migrator, role="test", run_id="test") as other:
                assert databases.orphan_folders(other) == []
        finally:
            admin.execute("COPY (SELECT 1) TO PROGRAM 'rmdir base/999999999'")
