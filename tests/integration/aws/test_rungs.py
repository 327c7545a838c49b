"""A whole run with everything at AWS, its password by reference too: how it ends on each rung, and what stands then."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from migrator.aws.account import Account
from migrator.aws.policy import Where, statements
from migrator.aws.refusals import action
from migrator.aws.secrets import Secrets
from migrator.config.load import load
from migrator.runs.record import Outcome, RunRecord
from tests import shop as shops
from tests.conftest import Server
from tests.integration.aws.providers import AlbCase, EcsCase, SsmCase
from tests.integration.aws.server import Shop, error
from tests.integration.aws.test_run import FAILS, GOOD, command, configured, held  # noqa: F401  a fixture
from tests.integration.runs.conftest import template as template  # noqa: PLC0414  a fixture

pytestmark = pytest.mark.slow

Held = tuple[AlbCase, EcsCase, SsmCase]
LOSES = "\ndelete from event where id % 2 = 0"
DENIED: set[str] = set()  # one for all tests: clients outlive them
MADE: set[str] = set()  # what was asked of AWS, in a policy's words
# What a run tries where an earlier attempt left something, and does without where its role may not.
NEVER_ALLOWED = {"s3:DeleteObject", "s3:ListBucketVersions"}
EVERYTHING = '"dump", "rds", "pitr"'


class Referring(shops.Shop):
    """A shop whose password is a key of a secret."""

    secret = ""

    def write_config(self) -> Path:
        path = super().write_config()
        text = path.read_text(encoding="utf-8")
        assert "${env:SHOP_PASSWORD}" in text
        path.write_text(text.replace("${env:SHOP_PASSWORD}", f"${{aws-secret:{self.secret}#password}}"))
        return path


@pytest.fixture(autouse=True)
def denied(monkeypatch: pytest.MonkeyPatch) -> Iterator[set[str]]:
    """The calls that AWS denies from now on, by name."""
    real = Account.client

    def client(self: Account, name: str) -> Any:
        made = real(self, name)
        if not hasattr(made, "allowed"):
            made.allowed = made._make_api_call

            def through(operation: str, parameters: Any) -> Any:
                call = f"{name}:{operation}"
                MADE.add(action(name, operation))
                if call in DENIED:
                    raise error("AccessDenied", call)
                return made.allowed(operation, parameters)

            made._make_api_call = through
        return made

    monkeypatch.setattr(Account, "client", client)
    DENIED.clear()
    yield DENIED
    DENIED.clear()


@pytest.fixture
def shop(
    server: Server,
    template: Any,
    tmp_path: Path,
    endpoint: str,
    at_aws: Shop,
    held: Held,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[shops.Shop]:
    with shops.database(server, template=template(server)) as login:
        made = Referring(server=server, login=login, folder=tmp_path)
        made.secret = f"shop/{at_aws.key}"
        assert login.password is not None
        at_aws.account.client("secretsmanager").create_secret(
            Name=made.secret, SecretString=json.dumps({"password": login.password.reveal()})
        )
        configured(made, endpoint, at_aws, held, monkeypatch, kinds=EVERYTHING)
        made.toml = made.toml.replace(f"[environments.{shops.ENVIRONMENT}.aws]", "[aws]")
        monkeypatch.setattr(shops, "load", partial(load, remote=Secrets()))
        yield made


def ended(record: RunRecord, outcome: Outcome, code: int) -> None:
    assert (record.outcome, record.exit_code) == (outcome, code), record.error


def test_success(shop: shops.Shop, held: Held) -> None:  # noqa: F811
    before = [case.world() for case in held]
    MADE.clear()
    record = shop.run(shop.sql(GOOD))
    made = set(MADE)
    ended(record, Outcome.MIGRATED, 0)
    assert [case.world() for case in held] == before
    assert [one.kind for one in record.backups] == ["dump", "rds"]
    assert shop.login.password is not None
    assert shop.login.password.reveal() not in record.model_dump_json()
    environment = shop.config().environment(shops.ENVIRONMENT)
    policy = statements(environment, "migrate", Where(account="*", region="*"))
    allowed = {one for statement in policy for one in statement.actions}
    assert made - allowed <= NEVER_ALLOWED
    assert {"rds:CreateDBSnapshot", "ecs:UpdateService", "secretsmanager:GetSecretValue"} <= made


def test_refused_before_anything(shop: shops.Shop, at_aws: Shop, held: Held) -> None:  # noqa: F811
    at_aws.rule(held[0].listener, 1, held[0].group)  # no rule of ours could come first
    before, dump = [case.world() for case in held], shop.dump()
    record = shop.run(shop.sql(GOOD))
    ended(record, Outcome.REFUSED, 3)
    assert [case.world() for case in held] == before
    assert shop.dump() == dump


@pytest.mark.parametrize("call", ["ecs:UpdateService", "ssm:PutParameter", "rds:CreateDBSnapshot", "s3:PutObject"])
def test_failed_before_the_migration(shop: shops.Shop, held: Held, denied: set[str], call: str) -> None:  # noqa: F811
    before, dump = [case.world() for case in held], shop.dump()
    denied.add(call)
    record = shop.run(shop.sql(GOOD))
    ended(record, Outcome.FAILED_BEFORE, 5)
    assert record.error is not None
    assert call in f"{record.error.message} {record.error.hint}"
    assert [case.world() for case in held] == before
    assert shop.dump() == dump


def test_rolled_back(shop: shops.Shop, held: Held) -> None:  # noqa: F811
    before, dump = [case.world() for case in held], shop.dump()
    ended(shop.run(shop.sql(GOOD, FAILS)), Outcome.ROLLED_BACK, 6)
    assert [case.world() for case in held] == before
    assert shop.dump() == dump


def test_restored_from_the_bucket(shop: shops.Shop, held: Held) -> None:  # noqa: F811
    before, dump = [case.world() for case in held], shop.dump()
    ended(shop.run(shop.sql(LOSES, FAILS), {"way": "stepwise"}), Outcome.RESTORED, 7)
    assert [case.world() for case in held] == before
    assert shop.dump() == dump


def test_migrated_and_not_let_in(shop: shops.Shop, held: Held, denied: set[str]) -> None:  # noqa: F811
    before = [case.world() for case in held]
    denied.add("elasticloadbalancing:DeleteRule")
    denied.add("elbv2:DeleteRule")
    record = shop.run(shop.sql(GOOD))
    ended(record, Outcome.UNFINISHED, 8)
    assert [case.holds() for case in held] == [True, False, False]
    denied.clear()
    command(shop, "maintenance", "off")
    assert [case.world() for case in held] == before


def test_halted_where_the_backup_cannot_be_read(shop: shops.Shop, held: Held, denied: set[str]) -> None:  # noqa: F811
    class Denies(shops.SilentReporter):
        def changeset(self, *_args: Any) -> None:
            denied.add("s3:GetObject")

    record = shop.run(shop.sql(LOSES, FAILS), {"way": "stepwise"}, reporter=Denies())
    ended(record, Outcome.HALTED, 9)
    assert all(case.holds() for case in held)
    assert any("backup restore" in one for one in record.runbook)
