"""One server for all the tests that need AWS."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.aws import server
from tests.integration.aws.server import Harmed, Shop


@pytest.fixture(scope="session")
def endpoint() -> Iterator[str]:
    """The address of a server that stands in for AWS; nothing here knows credentials of any other."""
    from moto.server import ThreadedMotoServer

    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
            "AWS_EC2_METADATA_DISABLED": "true",
        }.items():
            patch.setenv(name, value)
        _give_instances_an_id_of_their_own(patch)
        moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        moto.start()
        host, port = moto.get_host_and_port()
        yield f"http://{host}:{port}"
        moto.stop()


def _give_instances_an_id_of_their_own(patch: pytest.MonkeyPatch) -> None:
    """All of the server's instances have the same resource id, by which a swap tells them apart."""
    from moto.rds.models import DBInstance

    make = DBInstance.__init__

    def made(self: DBInstance, *args: Any, **kwargs: Any) -> None:
        make(self, *args, **kwargs)
        self.dbi_resource_id = f"db-{secrets.token_hex(13).upper()}"

    patch.setattr(DBInstance, "__init__", made)


@pytest.fixture(scope="session")
def accounts(endpoint: str) -> tuple[Harmed, Harmed]:
    """Two for all tests, because a client takes long to make: one to look with, one whose calls come to harm."""
    return server.account(endpoint), server.account(endpoint)


@pytest.fixture
def at_aws(accounts: tuple[Harmed, Harmed]) -> Shop:
    """A place for what a test's application has at AWS."""
    return Shop(account=accounts[0], harmed=accounts[1])
