"""What belongs to a database is read whole and put back exactly, with and without a superuser's rights."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest

from migrator.errors import StepFailed
from migrator.postgres import properties
from migrator.postgres.grants import CONNECT, Grant, connect_only_for
from migrator.postgres.properties import DatabaseProperties
from tests.conftest import Server
from tests.integration.targets import KINDS, Target, target


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


def decorate(shop: Target) -> None:
    """Properties of every kind that a login without superuser's rights can put back."""
    shop.sql("GRANT CONNECT, TEMPORARY ON DATABASE {} TO {} WITH GRANT OPTION", shop.stranger)
    shop.sql("REVOKE TEMPORARY ON DATABASE {} FROM PUBLIC")
    shop.sql("ALTER DATABASE {} CONNECTION LIMIT 7")
    shop.sql("COMMENT ON DATABASE {} IS 'it''s a \\ shop, für alle'")
    shop.sql('ALTER DATABASE {} SET search_path TO "$user", \'a"b, c\', public')
    shop.sql("ALTER DATABASE {} SET datestyle TO 'ISO, DMY'")
    shop.sql("ALTER DATABASE {} SET work_mem TO '5MB'")


def nothing_but_defaults(now: DatabaseProperties) -> DatabaseProperties:
    return replace(
        now,
        effective_acl=connect_only_for(now.owner, owner=now.owner, grants=()),
        settings=(),
        comment=None,
        connection_limit=-1,
    )


def test_properties_come_back_exactly(shop: Target) -> None:
    decorate(shop)
    before = properties.read(shop.admin, shop.name)
    properties.apply(shop.admin, shop.name, nothing_but_defaults(before))
    assert properties.differences(properties.read(shop.admin, shop.name), before)

    properties.apply(shop.admin, shop.name, before)
    properties.apply(shop.admin, shop.name, before)

    after = properties.read(shop.admin, shop.name)
    assert properties.differences(after, before) == []
    assert replace(after, acl=None) == replace(before, acl=None)
    assert set(after.acl or ()) == set(before.acl or ())


def test_properties_survive_json(shop: Target) -> None:
    decorate(shop)
    before = properties.read(shop.admin, shop.name)

    assert DatabaseProperties.from_json(json.loads(json.dumps(before.to_json()))) == before


def test_default_acl_is_read_as_what_it_grants(owned: Target) -> None:
    found = properties.read(owned.admin, owned.name)

    assert found.acl is None
    assert Grant(grantee=None, privilege=CONNECT, grantable=False, grantor=owned.owner) in found.effective_acl
    assert Grant(grantee=owned.owner, privilege=CONNECT, grantable=False, grantor=owned.owner) in found.effective_acl


def test_superuser_puts_back_what_only_a_superuser_can(as_superuser: Target) -> None:
    shop, app = as_superuser, as_superuser.server.app.user
    shop.sql("GRANT CONNECT ON DATABASE {} TO {} WITH GRANT OPTION", app)
    shop.sql("SET ROLE {1}; GRANT CONNECT ON DATABASE {0} TO {2}; RESET ROLE", app, shop.stranger)
    shop.sql("ALTER DATABASE {} SET session_preload_libraries TO ''")
    shop.sql("ALTER DATABASE {} SET \"my.Own\" TO 'a\\b''c'")
    shop.sql("ALTER ROLE {1} IN DATABASE {0} SET work_mem TO '5MB'", app)
    before = properties.read(shop.admin, shop.name)
    assert properties.cannot_put_back(shop.admin, shop.name) == []
    properties.apply(shop.admin, shop.name, nothing_but_defaults(before))

    properties.apply(shop.admin, shop.name, before)

    assert properties.differences(properties.read(shop.admin, shop.name), before) == []


def test_what_this_login_cannot_put_back_is_named_and_nothing_changes(owned: Target) -> None:
    app = owned.server.app.user
    owned.sql("GRANT CONNECT ON DATABASE {} TO {} WITH GRANT OPTION", app)
    owned.sql("SET ROLE {1}; GRANT CONNECT ON DATABASE {0} TO {2}; RESET ROLE", app, owned.stranger)
    owned.sql("ALTER DATABASE {} SET session_preload_libraries TO ''")
    owned.sql("ALTER DATABASE {} SET work_mem TO '5MB'")
    before = properties.read(owned.admin, owned.name)

    found = properties.cannot_put_back(owned.admin, owned.name)

    assert len(found) == 2
    assert "session_preload_libraries" in found[0]
    assert found[1].startswith("privileges: ")
    assert properties.read(owned.admin, owned.name) == before


def test_stranger_changes_nothing_and_says_so(as_superuser: Target) -> None:
    before = properties.read(as_superuser.admin, as_superuser.name)

    with (
        as_superuser.server.session(as_superuser.server.migrator) as stranger,
        pytest.raises(StepFailed, match="permission denied"),
    ):
        properties.apply(stranger, as_superuser.name, nothing_but_defaults(before))

    assert properties.read(as_superuser.admin, as_superuser.name) == before


def test_owner_is_put_back(shop: Target) -> None:
    before = properties.read(shop.admin, shop.name)
    shop.sql("ALTER DATABASE {} OWNER TO {}", shop.server.admin.user)

    properties.apply(shop.superuser, shop.name, before)

    assert properties.differences(properties.read(shop.admin, shop.name), before) == []


def test_missing_database_is_named(server: Server) -> None:
    with server.session() as admin, pytest.raises(StepFailed, match='no database "no such"') as error:
        properties.read(admin, "no such")
    assert error.value.code == "no_such_database"


def test_leftover_of_an_interrupted_drop_is_left_alone(as_superuser: Target) -> None:
    shop = as_superuser
    before = properties.read(shop.admin, shop.name)
    shop.admin.execute(f"UPDATE pg_database SET datconnlimit = -2 WHERE oid = {before.oid}")

    with pytest.raises(StepFailed) as error:
        properties.apply(shop.admin, shop.name, before)

    assert error.value.code == "invalid_database"
    assert shop.admin.rows("SELECT 1") == [("1",)]
