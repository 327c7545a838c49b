"""The shop that a test migrates: made once a server by a first run on an empty database, then cloned."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from migrator.config.login import Login
from migrator.errors import ConnectionFailed
from migrator.runs.record import Outcome
from tests import shop as shops
from tests.conftest import Server
from tests.shop import Shop

Template = Callable[[Server], str]


@pytest.fixture(scope="session")
def template() -> Iterator[Template]:
    """The name of the template database on a server; made there when it is first asked for, by a real run."""
    made: dict[int, Login] = {}
    with ExitStack() as stack:

        def on(server: Server) -> str:
            port = server.admin.port
            if port not in made:
                # A server of our own may be gone when this ends, and the template with it.
                stack.push(lambda kind, *_: kind is ConnectionFailed)
                login = stack.enter_context(shops.database(server))
                with tempfile.TemporaryDirectory() as folder:
                    first = Shop(server=server, login=login, folder=Path(folder))
                    record = first.run(first.write("changelogs/2026.01-base/changelog.sql", shops.small_base()))
                assert record.outcome is Outcome.MIGRATED, record.error
                made[port] = login
            return made[port].database

        yield on


@pytest.fixture
def shop(server: Server, template: Template, tmp_path: Path) -> Iterator[Shop]:
    """The small shop, filled, and an empty folder to migrate it from."""
    with shops.database(server, template=template(server)) as login:
        yield Shop(server=server, login=login, folder=tmp_path)


@pytest.fixture
def empty(server: Server, tmp_path: Path) -> Iterator[Shop]:
    """An empty database, which no Liquibase has seen."""
    with shops.database(server) as login:
        yield Shop(server=server, login=login, folder=tmp_path)
