"""The fence holds whom it should, says what stood before, and leaves nothing of itself when it is gone."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from migrator.errors import MaintenanceFailed, StepFailed
from migrator.postgres import fence, properties
from migrator.postgres.connect import connect
from migrator.postgres.fence import Mode
from migrator.postgres.fence_record import PREFIX
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


@pytest.fixture
def as_superuser(server: Server) -> Iterator[Target]:
    with target(server, "superuser") as made:
        yield made


@contextmanager
def writing(shop: Target) -> Iterator[None]:
    """The application has written and not committed."""
    with visitor(shop.login) as owner:
        owner.execute("CREATE TABLE IF NOT EXISTS public.t (id int); GRANT ALL ON public.t TO PUBLIC")
    with visitor(shop.app) as writer:
        writer.execute("BEGIN READ WRITE; INSERT INTO public.t VALUES (1)")
        yield


def unchanged(shop: Target, before: properties.DatabaseProperties) -> bool:
    now = properties.read(shop.admin, shop.name)
    return replace(now, acl=None) == replace(before, acl=None)


def put_up(shop: Target, mode: Mode = Mode.OFFLINE, *, run_id: str = RUN) -> fence.Fence:
    return fence.put_up(shop.admin, shop.name, run_id=run_id, mode=mode, environment="staging", reason="release 7")


@pytest.mark.parametrize("mode", list(Mode))
def test_taking_down_leaves_everything_as_it_was(shop: Target, mode: Mode) -> None:
    shop.sql("REVOKE CONNECT ON DATABASE {} FROM PUBLIC")
    shop.sql("GRANT CONNECT ON DATABASE {} TO {}", shop.server.app.user)
    shop.sql("GRANT CONNECT ON DATABASE {} TO {} WITH GRANT OPTION", shop.stranger)
    shop.sql("ALTER DATABASE {} CONNECTION LIMIT 7")
    shop.sql("ALTER DATABASE {} SET default_transaction_read_only TO 'off'")
    shop.sql("COMMENT ON DATABASE {} IS 'it''s für alle'")
    before = properties.read(shop.admin, shop.name)

    put_up(shop, mode)
    assert not unchanged(shop, before)
    taken = fence.take_down(shop.admin, shop.name, run_id=RUN)

    assert taken is not None
    assert taken.previous == before
    assert unchanged(shop, before)
    assert fence.take_down(shop.admin, shop.name, run_id=RUN) is None
    assert unchanged(shop, before)


def test_default_privileges_come_back_in_effect(shop: Target) -> None:
    before = properties.read(shop.admin, shop.name)
    assert before.acl is None

    put_up(shop)
    fence.take_down(shop.admin, shop.name, run_id=RUN)

    assert properties.read(shop.admin, shop.name).effective_acl == before.effective_acl
    assert gets_in(shop.app)


def test_offline_lets_in_the_migrating_login_only(shop: Target) -> None:
    shop.sql("GRANT CONNECT ON DATABASE {} TO {}", shop.server.app.user)
    shop.sql("GRANT CONNECT ON DATABASE {} TO {}", shop.stranger)
    if shop.owner != shop.server.migrator.user:
        shop.sql("GRANT {1} TO {2}", shop.owner, shop.server.app.user)

    put_up(shop)

    assert gets_in(shop.login)
    assert not gets_in(shop.app)
    connecting = {g.grantee for g in properties.read(shop.admin, shop.name).effective_acl if g.privilege == "CONNECT"}
    assert connecting == {shop.login.user}


def test_offline_makes_room_for_the_runs_own_sessions(owned: Target) -> None:
    owned.sql("ALTER DATABASE {} CONNECTION LIMIT 1")
    put_up(owned)

    with connect(owned.login, role="a", run_id=RUN), connect(owned.login, role="b", run_id=RUN):
        pass

    fence.take_down(owned.admin, owned.name, run_id=RUN)
    assert properties.read(owned.admin, owned.name).connection_limit == 1


def test_fence_says_who_put_it_up_and_why(owned: Target) -> None:
    put_up(owned)
    fence.note(owned.admin, owned.name, phase="apply", copy="mig_x_new")
    fence.note(owned.admin, owned.name, phase="verify", xid="42")

    found = fence.read(owned.admin, owned.name)

    assert found is not None
    assert str(found).startswith(f"run {RUN}, offline since 20")
    assert str(found).endswith("environment staging, phase verify, reason release 7")
    assert found.facts == {"copy": "mig_x_new", "xid": "42"}
    assert fence.standing(owned.admin)[owned.name] == found
    comment = properties.read(owned.admin, owned.name).comment or ""
    assert json.loads(comment.removeprefix(PREFIX))["version"] == 1


def test_same_run_finds_its_own_fence(shop: Target) -> None:
    shop.sql("COMMENT ON DATABASE {} IS 'mine'")
    before = properties.read(shop.admin, shop.name)

    first = put_up(shop)
    again = put_up(shop)

    assert again == first
    fence.take_down(shop.admin, shop.name, run_id=RUN)
    assert properties.differences(properties.read(shop.admin, shop.name), before) == []


def test_another_runs_fence_is_left_alone_and_described(owned: Target) -> None:
    put_up(owned, run_id="manual")
    fenced = properties.read(owned.admin, owned.name)

    with pytest.raises(MaintenanceFailed, match=r"run manual, offline since .* reason release 7") as error:
        put_up(owned)
    assert error.value.code == "fence_stands"
    with pytest.raises(MaintenanceFailed, match="run manual"):
        fence.take_down(owned.admin, owned.name, run_id=RUN)
    with pytest.raises(MaintenanceFailed, match="run manual"):
        put_up(owned, Mode.READ_ONLY, run_id="manual")
    assert properties.read(owned.admin, owned.name) == fenced

    assert fence.take_down(owned.admin, owned.name, run_id=None) is not None
    assert fence.read(owned.admin, owned.name) is None


def test_what_was_opened_is_closed_again_and_given_back_at_the_end(shop: Target) -> None:
    shop.sql("REVOKE CONNECT ON DATABASE {} FROM PUBLIC")
    put_up(shop)
    shop.sql("GRANT CONNECT ON DATABASE {} TO {}", shop.server.app.user)
    assert gets_in(shop.app)

    put_up(shop)
    assert not gets_in(shop.app)

    fence.take_down(shop.admin, shop.name, run_id=RUN)
    assert gets_in(shop.app)


def test_changes_of_others_survive_the_fence(shop: Target) -> None:
    put_up(shop)
    shop.sql("GRANT CREATE ON DATABASE {} TO {}", shop.stranger)
    shop.sql("ALTER DATABASE {} SET work_mem TO '7MB'")
    shop.sql("ALTER DATABASE {} CONNECTION LIMIT 9")

    fence.take_down(shop.admin, shop.name, run_id=RUN)

    now = properties.read(shop.admin, shop.name)
    assert any(grant.grantee == shop.stranger and grant.privilege == "CREATE" for grant in now.effective_acl)
    assert [setting.value for setting in now.settings] == ["7MB"]
    assert now.connection_limit == 9
    assert gets_in(shop.app)


def test_roles_that_were_dropped_or_made_owner_meanwhile_do_not_hold_the_fence_up(as_superuser: Target) -> None:
    shop = as_superuser
    shop.sql("GRANT CONNECT ON DATABASE {} TO {}", shop.stranger)
    put_up(shop)
    shop.sql("DROP ROLE {1}", shop.stranger)
    shop.sql("ALTER DATABASE {} OWNER TO {}", shop.server.migrator.user)

    fence.take_down(shop.admin, shop.name, run_id=RUN)

    now = properties.read(shop.admin, shop.name)
    assert {grant.grantor for grant in now.effective_acl} == {shop.server.migrator.user}
    assert {grant.grantee for grant in now.effective_acl} == {None, shop.server.migrator.user}


def test_description_overwritten_by_the_changelog_is_remembered_by_the_run(shop: Target) -> None:
    before = properties.read(shop.admin, shop.name)
    known = put_up(shop)
    shop.sql("COMMENT ON DATABASE {} IS 'the shop, version 7'")
    assert fence.read(shop.admin, shop.name) is None

    for _ in range(2):
        fence.take_down(shop.admin, shop.name, run_id=RUN, known=known)

        now = properties.read(shop.admin, shop.name)
        assert replace(now, acl=None, comment=None) == replace(before, acl=None)
        assert now.comment == "the shop, version 7"


def test_closed_for_a_copy_that_never_ended_is_opened_again(owned: Target) -> None:
    put_up(owned)
    owned.sql("ALTER DATABASE {} ALLOW_CONNECTIONS false")

    fence.take_down(owned.admin, owned.name, run_id=RUN)

    assert gets_in(owned.app)


def test_fence_that_could_not_be_taken_down_is_not_put_up(owned: Target) -> None:
    app = owned.server.app.user
    owned.sql("GRANT CONNECT ON DATABASE {} TO {} WITH GRANT OPTION", app)
    owned.sql("SET ROLE {1}; GRANT CONNECT ON DATABASE {0} TO {2}; RESET ROLE", app, owned.stranger)
    before = properties.read(owned.admin, owned.name)

    with pytest.raises(MaintenanceFailed, match=r"was not fenced: .*permission denied"):
        put_up(owned)

    assert properties.read(owned.admin, owned.name) == before


def test_privileges_passed_on_by_others_come_back(as_superuser: Target) -> None:
    shop, app = as_superuser, as_superuser.server.app.user
    shop.sql("GRANT CONNECT ON DATABASE {} TO {} WITH GRANT OPTION", app)
    shop.sql("SET ROLE {1}; GRANT CONNECT ON DATABASE {0} TO {2}; RESET ROLE", app, shop.stranger)
    before = properties.read(shop.admin, shop.name)

    put_up(shop)
    assert not gets_in(shop.app)
    fence.take_down(shop.admin, shop.name, run_id=RUN)

    assert unchanged(shop, before)


def test_stranger_cannot_fence_and_is_told(as_superuser: Target) -> None:
    shop = as_superuser
    before = properties.read(shop.admin, shop.name)

    with (
        shop.server.session(shop.server.migrator) as stranger,
        pytest.raises(MaintenanceFailed, match="was not fenced"),
    ):
        fence.put_up(stranger, shop.name, run_id=RUN, mode=Mode.OFFLINE)

    assert properties.read(shop.admin, shop.name) == before


def test_session_lost_in_mid_fencing_leaves_nothing(owned: Target) -> None:
    before = properties.read(owned.admin, owned.name)
    with visitor(owned.superuser_login()) as holder:
        holder.execute("BEGIN; COMMENT ON DATABASE " + _quoted(owned.name) + " IS 'held'")
        failed: list[StepFailed] = []

        def fence_it() -> None:
            try:
                put_up(owned)
            except StepFailed as error:
                failed.append(error)

        thread = threading.Thread(target=fence_it)
        thread.start()
        _until(owned, f"SELECT FROM pg_locks WHERE pid = {owned.admin.pid} AND NOT granted")
        owned.superuser.rows(f"SELECT pg_terminate_backend({owned.admin.pid}, 5000)")
        thread.join()
        holder.execute("ROLLBACK")

    assert failed[0].code == "connection_lost"
    assert properties.read(owned.superuser, owned.name) == before


def test_unreadable_fence_is_not_guessed_at(owned: Target) -> None:
    for damaged in ('{"version": 99}', "{", '{"version": 1, "run_id": "x"}'):
        owned.sql(f"COMMENT ON DATABASE {{}} IS '{PREFIX}" + damaged.replace("{", "{{").replace("}", "}}") + "'")
        with pytest.raises(MaintenanceFailed) as error:
            put_up(owned)
        assert error.value.code == "fence_unreadable"


def test_offline_ends_everybody_but_the_run(shop: Target) -> None:
    with writing(shop), visitor(shop.app) as idle, connect(shop.login, role="dump", run_id=RUN) as own:
        put_up(shop)
        assert len(fence.intruders(shop.admin, shop.name, run_id=RUN, mode=Mode.OFFLINE)) == 2

        drained = fence.drain(shop.admin, shop.name, run_id=RUN, timeout_s=10)

        assert drained.terminated == 2
        assert own.rows("SELECT count(*) FROM public.t") == [("0",)]
        assert fence.intruders(shop.admin, shop.name, run_id=RUN, mode=Mode.OFFLINE) == []
        with pytest.raises(StepFailed):
            idle.rows("SELECT 1")


def test_pool_that_comes_back_at_once_gets_nobody_in(owned: Target) -> None:
    stop, admitted = threading.Event(), threading.Event()

    def pool() -> None:
        while not stop.is_set():
            if gets_in(owned.app):
                admitted.set()

    threads = [threading.Thread(target=pool) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        assert admitted.wait(10)
        put_up(owned)
        fence.drain(owned.admin, owned.name, run_id=RUN, timeout_s=10)
        admitted.clear()
        for _ in range(20):
            assert fence.intruders(owned.admin, owned.name, run_id=RUN, mode=Mode.OFFLINE) == []
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not admitted.is_set()


def test_transaction_is_given_time_to_finish(owned: Target) -> None:
    with writing(owned):
        put_up(owned)
        assert fence.drain(owned.admin, owned.name, run_id=RUN, timeout_s=10, grace_s=0.3).waited_s >= 0.3


def test_transaction_of_another_database_holds_nobody_up(owned: Target) -> None:
    with owned.server.session() as elsewhere:
        elsewhere.execute("BEGIN")
        elsewhere.rows("SELECT pg_current_xact_id()")
        put_up(owned)

        assert fence.drain(owned.admin, owned.name, run_id=RUN, timeout_s=5).waited_s < 5


def test_prepared_transaction_is_named_as_what_stays(owned: Target) -> None:
    with visitor(owned.login) as writer:
        writer.execute(f"BEGIN; CREATE TABLE public.t (id int); PREPARE TRANSACTION 'pay {owned.token}'")
    try:
        put_up(owned)
        with pytest.raises(MaintenanceFailed, match=rf"prepared transaction 'pay {owned.token}'"):
            fence.drain(owned.admin, owned.name, run_id=RUN, timeout_s=0.3)
    finally:
        with connect(owned.login, role="test", run_id=RUN) as session:
            session.execute(f"ROLLBACK PREPARED 'pay {owned.token}'")


def test_superusers_session_is_named_as_what_stays(owned: Target) -> None:
    with visitor(owned.superuser_login(), application="the monitor") as monitor:
        put_up(owned)

        with pytest.raises(MaintenanceFailed, match=rf"pid {monitor.pid}: superuser .*'the monitor'") as error:
            fence.drain(owned.admin, owned.name, run_id=RUN, timeout_s=0.3)

        assert error.value.code == "not_drained"
        assert monitor.rows("SELECT 1") == [("1",)]


def test_read_only_reaches_sessions_that_were_there_before(shop: Target) -> None:
    with writing(shop), visitor(shop.app) as idle:
        put_up(shop, Mode.READ_ONLY)
        assert [session.writing for session in fence.intruders(shop.admin, shop.name, run_id=RUN, mode=Mode.READ_ONLY)]

        assert fence.drain(shop.admin, shop.name, run_id=RUN, timeout_s=10).terminated == 2

        with pytest.raises(StepFailed):
            idle.rows("SELECT 1")
    assert _default_of_a_newcomer(shop) == "on"
    fence.take_down(shop.admin, shop.name, run_id=RUN)
    assert _default_of_a_newcomer(shop) == "off"


def test_read_only_shows_who_writes_all_the_same(owned: Target) -> None:
    put_up(owned, Mode.READ_ONLY)
    with visitor(owned.app):
        assert fence.intruders(owned.admin, owned.name, run_id=RUN, mode=Mode.READ_ONLY) == []
        with writing(owned):
            [writer] = fence.intruders(owned.admin, owned.name, run_id=RUN, mode=Mode.READ_ONLY)
    assert writer.user == owned.server.app.user


def test_draining_needs_the_runs_own_fence(owned: Target) -> None:
    with pytest.raises(MaintenanceFailed) as error:
        fence.drain(owned.admin, owned.name, run_id=RUN, timeout_s=1)
    assert error.value.code == "no_fence"
    with pytest.raises(MaintenanceFailed):
        fence.note(owned.admin, owned.name, phase="apply")


def test_who_would_get_in_is_known_beforehand(owned: Target) -> None:
    keep = owned.server.migrator.user
    owned.sql("ALTER ROLE {1} LOGIN", owned.stranger)
    before = {each.role for each in fence.admitted(owned.admin, owned.name, mode=Mode.OFFLINE, keep_user=keep)}
    owned.sql("GRANT {1} TO {2}", keep, owned.stranger)
    after = fence.admitted(owned.admin, owned.name, mode=Mode.OFFLINE, keep_user=keep)

    assert owned.server.admin.user in before
    assert {each.role for each in after} - before == {owned.stranger}
    assert {each.why for each in after if each.role == owned.stranger} == {f"has the privileges of {keep}"}


def test_who_would_write_under_read_only_is_known_beforehand(owned: Target) -> None:
    owned.sql("ALTER ROLE {1} LOGIN; ALTER ROLE {1} SET default_transaction_read_only TO off", owned.stranger)

    found = fence.admitted(owned.admin, owned.name, mode=Mode.READ_ONLY, keep_user=owned.login.user)

    assert owned.stranger in {each.role for each in found}
    assert fence.admitted(owned.admin, owned.name, mode=Mode.NONE, keep_user=owned.login.user) == []


def _default_of_a_newcomer(shop: Target) -> str | None:
    # our own sessions set this for themselves: ask for what the database would have given
    with visitor(shop.app) as session:
        return session.rows("SELECT reset_val FROM pg_settings WHERE name = 'default_transaction_read_only'")[0][0]


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _until(shop: Target, query: str) -> None:
    for _ in range(2000):
        if shop.superuser.rows(query):
            return
    raise AssertionError(f"did not come about: {query}")
