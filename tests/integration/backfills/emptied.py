"""One database for all tests of a file, empty before each: a database of its own for every test would take longer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from migrator.config.login import Login
from migrator.postgres.connect import connect
from tests.conftest import Server, fresh_database

_SCHEMAS = r"select quote_ident(nspname) from pg_namespace where nspname !~ '^(pg_|information_schema)'"


@pytest.fixture(scope="module")
def one_database(server: Server) -> Iterator[Login]:
    with fresh_database(server) as login:
        yield login


@pytest.fixture
def database(one_database: Login) -> Login:
    """As tests.conftest's."""
    with closing(connect(one_database, role="test", run_id="test")) as session:
        session.execute("set client_min_messages = warning")
        for (schema,) in session.rows(_SCHEMAS):
            session.execute(f"drop schema {schema} cascade")
        session.execute("create schema public; grant usage on schema public to public")
    return one_database
