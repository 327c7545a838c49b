"""Whatever a database and its roles are called, they are fenced, copied, swapped and dropped under just that name."""

from __future__ import annotations

import os
import secrets

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import sql

from migrator.postgres import databases, fence, properties
from migrator.postgres.fence import Mode
from migrator.postgres.transactions import statement
from tests.conftest import Server

TIMES = int(os.environ.get("MIGRATOR_FUZZ", "1"))
_characters = st.characters(exclude_characters="\x00", exclude_categories=["Cs"])
_odd = st.sampled_from(
    ['"', "'", "--x", ";", "\\", "{}", "%s", "$1", " ", "\n", "é", "\u202e", "mig_x_new", "=", "/", "@"]
)
names = st.lists(_odd | st.text(_characters, max_size=3), min_size=1, max_size=12).map("".join)


def _cut(name: str, suffix: str) -> str:
    """The name with an ending of its own, in the 63 bytes that PostgreSQL leaves to it."""
    return name.encode()[: 63 - len(suffix)].decode(errors="ignore") + suffix


@pytest.mark.slow
@settings(
    max_examples=25 * TIMES,
    deadline=None,
    derandomize=TIMES == 1,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(name=names, comment=names)
def test_any_name_of_a_database_survives_fence_copy_and_swap(server: Server, name: str, comment: str) -> None:
    token = secrets.token_hex(4)
    database, copy, old = (_cut(name, f"{token}{kind}") for kind in "abc")
    with server.session() as superuser, server.session(server.migrator, role="admin") as admin:
        others = set(superuser.rows("select datname from pg_database"))
        try:
            create = "CREATE DATABASE {} TEMPLATE template0 OWNER {}"
            superuser.execute(statement(create, sql.Identifier(database), sql.Identifier(server.migrator.user)))
            superuser.execute(statement("COMMENT ON DATABASE {} IS {}", sql.Identifier(database), sql.Literal(comment)))
            before = properties.read(admin, database)
            fence.put_up(admin, database, run_id=token, mode=Mode.OFFLINE, reason=comment)
            fence.drain(admin, database, run_id=token, timeout_s=60.0)
            oid = databases.copy(admin, database, copy, owner=server.migrator.user, timeout_s=120.0)
            found = properties.read(admin, database)
            oids = (before.oid, oid)
            databases.swap(admin, current=database, incoming=copy, old_name=old, properties=found, oids=oids)
            assert (databases.oid_of(admin, database), databases.oid_of(admin, old)) == (oid, before.oid)
            assert fence.take_down(admin, database, run_id=token) is not None
            assert properties.differences(properties.read(admin, database), before) == []
            for made in (database, old):
                databases.drop(admin, made)
            assert set(superuser.rows("select datname from pg_database")) == others
        finally:
            for made in (database, copy, old):
                superuser.execute(statement("DROP DATABASE IF EXISTS {} WITH (FORCE)", sql.Identifier(made)))
