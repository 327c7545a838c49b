"""What a fence changes, and what is left when it is gone, without a server."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrator.postgres.database_settings import Setting
from migrator.postgres.fence_record import Fence, Mode, fenced, is_fence, opened_since, unfenced
from migrator.postgres.grants import CONNECT, Grant, connect_only_for, in_order
from migrator.postgres.properties import DatabaseProperties

ROLES = ["owner", "keeper", "app", "we\"ird 'röle"]


def grant(grantee: str | None, privilege: str = CONNECT, *, grantable: bool = False, grantor: str = "owner") -> Grant:
    return Grant(grantee=grantee, privilege=privilege, grantable=grantable, grantor=grantor)


def database(*grants: Grant, **changes: object) -> DatabaseProperties:
    made = DatabaseProperties(
        oid=5,
        owner="owner",
        acl=None,
        effective_acl=in_order(grants),
        connection_limit=7,
        allow_connections=True,
        settings=(Setting(role=None, name="work_mem", value="5MB"),),
        comment="für alle",
        encoding="UTF8",
        collate="C",
        ctype="C",
        locale_provider="c",
        locale=None,
        icu_rules=None,
        tablespace="pg_default",
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def around(previous: DatabaseProperties, mode: Mode = Mode.OFFLINE, *, keep_user: str = "keeper") -> Fence:
    return Fence(
        run_id="r1",
        mode=mode,
        keep_user=keep_user,
        since=datetime(2025, 1, 2, 3, 4, 5, 678, tzinfo=UTC),
        xid="77",
        previous=previous,
        facts={"copy": "mig_r1_new"},
    )


some_grants = st.lists(
    st.builds(
        grant,
        st.sampled_from([None, *ROLES]),
        st.sampled_from([CONNECT, "CREATE", "TEMPORARY"]),
        grantable=st.booleans(),
        grantor=st.sampled_from(["owner", "app"]),
    ),
    # PostgreSQL has one entry for each of these
    unique_by=lambda g: (g.grantee, g.privilege, g.grantor),
)
some_databases = st.builds(
    lambda grants, limit, comment, value: database(
        *grants,
        connection_limit=limit,
        comment=comment,
        settings=() if value is None else (Setting(role=None, name="default_transaction_read_only", value=value),),
    ),
    some_grants,
    st.sampled_from([-1, 0, 7]),
    st.none() | st.text(max_size=20),
    st.sampled_from([None, "on", "off"]),
)


@given(some_databases, st.sampled_from(Mode), st.sampled_from(ROLES))
def test_taking_down_undoes_putting_up(before: DatabaseProperties, mode: Mode, keep_user: str) -> None:
    fence = around(before, mode, keep_user=keep_user)
    assert unfenced(fenced(before, fence), fence, roles=ROLES) == before


@given(some_databases, st.sampled_from(Mode))
def test_description_is_read_back_whole(before: DatabaseProperties, mode: Mode) -> None:
    comment = around(before, mode).to_comment()

    assert is_fence(comment)
    assert comment.isascii()
    assert "\n" not in comment
    assert Fence.from_comment(comment) == around(before, mode)


@given(some_grants, st.sampled_from(ROLES))
def test_only_one_can_connect_under_offline(grants: list[Grant], keep_user: str) -> None:
    closed = connect_only_for(keep_user, owner="owner", grants=grants)

    assert {g.grantee for g in closed if g.privilege == CONNECT} == {keep_user}
    assert {g for g in closed if g.privilege != CONNECT} == {g for g in grants if g.privilege != CONNECT}


def test_fence_put_up_again_knows_what_was_opened_meanwhile() -> None:
    fence = around(database(grant("app")))
    opened = fenced(database(grant("app")), fence)
    opened = replace(opened, effective_acl=in_order([*opened.effective_acl, grant("app"), grant("new")]))

    assert opened_since(opened, fence) == (grant("new"),)


def test_privilege_of_a_dropped_role_is_not_asked_for() -> None:
    fence = around(database(grant("app"), grant("gone")))
    now = fenced(fence.previous, fence)

    assert unfenced(now, fence, roles=["owner", "app"]).effective_acl == (grant("app"),)


def test_privilege_granted_anew_with_less_does_not_hide_what_was_there() -> None:
    fence = around(database(grant("app", grantable=True)))
    now = fenced(fence.previous, fence)
    now = replace(now, effective_acl=in_order([*now.effective_acl, grant("app")]))

    assert unfenced(now, fence, roles=ROLES).effective_acl == (grant("app", grantable=True),)


@pytest.mark.parametrize(
    ("damaged", "said"),
    [
        ("migrator-fence:", "Expecting value"),
        ('migrator-fence:{"version": 2}', "reads version 1"),
        ("migrator-fence:[]", "reads version 1"),
        ('migrator-fence:{"version": 1, "run_id": "r1"}', "Field required"),
    ],
)
def test_damaged_description_is_an_error(damaged: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Fence.from_comment(damaged)


def test_ordinary_comment_is_no_fence() -> None:
    assert not is_fence(None)
    assert not is_fence("about migrator-fence: nothing")
