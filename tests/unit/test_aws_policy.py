"""What each role is allowed: enough, and nothing of what another role does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from migrator.aws.policy import ROLES, Role, Statement, Where, document, statements
from migrator.config.load import load
from migrator.config.models import Environment
from migrator.config.rds import endpoint
from migrator.config.remote import StandIn

HERE = Where(account="123456789012", region="eu-central-1")
EVERYTHING = """
[environments.production]
url = "postgresql://migrator@shop.c9akciq32.eu-central-1.rds.amazonaws.com/shop?sslmode=verify-full"
login = "rds-iam"
[environments.production.maintenance]
outside = [
  { type = "alb", listener = "arn:aws:elasticloadbalancing:eu-central-1:123456789012:listener/app/shop/1/2" },
  { type = "ecs", cluster = "shop", service = "web" },
  { type = "ecs", cluster = "arn:aws:ecs:eu-central-1:123456789012:cluster/shop", service = "worker" },
  { type = "cloudfront", distribution = "E2QWRUHAPOMQZL", origin = "sorry", invalidate = true },
  { type = "ssm", parameter = "/shop/maintenance" },
  { type = "flag", path = "flag" },
]
[environments.production.backup]
kinds = ["dump", "rds", "pitr"]
store = "s3://shop-backups/migrator"
[environments.production.store]
kms_key = "alias/backups"
retain_days = 14
[environments.production.parameters]
token = "${aws-secret:shop/api#token}"
"""


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    (tmp_path / "migrator.toml").write_text(EVERYTHING)
    return load(tmp_path / "migrator.toml", {}, remote=StandIn()).environment("production")


def allowed(found: tuple[Statement, ...]) -> dict[str, set[str]]:
    """Action -> the resources that it is allowed on."""
    result: dict[str, set[str]] = {}
    for one in found:
        for action in one.actions:
            result.setdefault(action, set()).update(one.resources)
    return result


def test_plan_only_reads(environment: Environment) -> None:
    for action in allowed(statements(environment, "plan", HERE)):
        verb = action.partition(":")[2]
        assert verb.startswith(("Get", "Describe", "List", "Decrypt", "connect")), action


@pytest.mark.parametrize("role", ROLES)
def test_only_prune_deletes_backups_and_only_recover_restores(environment: Environment, role: Role) -> None:
    found = allowed(statements(environment, role, HERE))
    assert ("s3:DeleteObject" in found) is (role == "prune")
    assert ("rds:RestoreDBInstanceFromDBSnapshot" in found) is (role == "recover")
    assert ("rds:CreateDBSnapshot" in found) is (role == "migrate")
    assert ("s3:PutObject" in found) is (role == "migrate")
    assert ("ecs:UpdateService" in found) is (role in ("migrate", "recover"))
    assert not any(action.endswith("*") or (action.startswith("iam:") and role != "recover") for action in found)


def test_resources_are_those_of_the_configuration(environment: Environment) -> None:
    found = allowed(statements(environment, "migrate", HERE))
    assert found["ecs:UpdateService"] == {
        "arn:aws:ecs:eu-central-1:123456789012:service/shop/web",
        "arn:aws:ecs:eu-central-1:123456789012:service/shop/worker",
    }
    assert found["s3:PutObject"] == {"arn:aws:s3:::shop-backups/migrator/*"}
    assert found["cloudfront:UpdateDistribution"] == {"arn:aws:cloudfront::123456789012:distribution/E2QWRUHAPOMQZL"}
    assert found["ssm:PutParameter"] == {"arn:aws:ssm:eu-central-1:123456789012:parameter/shop/maintenance"}
    assert "arn:aws:rds:eu-central-1:123456789012:db:shop" in found["rds:CreateDBSnapshot"]
    assert found["secretsmanager:GetSecretValue"] == {
        "arn:aws:secretsmanager:eu-central-1:123456789012:secret:shop/api-??????"
    }
    assert found["rds-db:connect"] == {"arn:aws:rds-db:eu-central-1:123456789012:dbuser:*/migrator"}
    unbounded = {action for action, resources in found.items() if resources == {"*"}}
    verbs = ("Describe", "List", "Get")
    assert all(action.partition(":")[2].startswith(verbs) for action in unbounded), unbounded


def test_own_rules_are_known_by_their_tag(environment: Environment) -> None:
    [own] = [one for one in statements(environment, "migrate", HERE) if one.sid == "AlbOwnRules"]
    assert own.condition == {"StringEquals": {"aws:ResourceTag/migrator:environment": "production"}}


def test_document_is_what_iam_takes(environment: Environment) -> None:
    found = statements(environment, "recover", HERE)
    policy: dict[str, Any] = json.loads(json.dumps(document(found)))
    names = [one["Sid"] for one in policy["Statement"]]
    assert len(names) == len(set(names))
    assert all(name.isalnum() for name in names)
    assert policy["Version"] == "2012-10-17"
    assert len(json.dumps(policy, separators=(",", ":"))) < 6144, "a managed policy holds no more"


def test_a_journal_at_rds_is_logged_in_to(environment: Environment) -> None:
    found = allowed(statements(environment, "recover", HERE, also=("${ssm:/journal/key}",), journal="keeper"))
    users = {arn.rpartition("/")[2] for arn in found["rds-db:connect"]}
    assert users == {"migrator", "keeper"}
    assert "arn:aws:ssm:eu-central-1:123456789012:parameter/journal/key" in found["ssm:GetParameter"]


def test_nothing_of_aws_needs_nothing(tmp_path: Path) -> None:
    (tmp_path / "migrator.toml").write_text('[environments.dev]\nurl = "postgresql://m@db/shop"\n')
    environment = load(tmp_path / "migrator.toml", {}).environment("dev")
    assert [statements(environment, role, HERE) for role in ROLES] == [()] * len(ROLES)


@pytest.mark.parametrize(
    ("host", "kind"),
    [
        ("shop.c9akciq32.eu-central-1.rds.amazonaws.com", "instance"),
        ("shop.cluster-c9akciq32.eu-central-1.rds.amazonaws.com", "cluster"),
        ("shop.cluster-ro-c9akciq32.us-gov-west-1.rds.amazonaws.com", "reader"),
        ("shop.cluster-custom-c9akciq32.eu-central-1.rds.amazonaws.com", "custom"),
        ("shop.proxy-c9akciq32.cn-north-1.rds.amazonaws.com.cn", "proxy"),
    ],
)
def test_endpoint_says_what_it_is(host: str, kind: str) -> None:
    found = endpoint(host)
    assert found is not None
    assert (found.id, found.kind) == ("shop", kind)


@pytest.mark.parametrize("host", ["db.internal", "127.0.0.1", "rds.amazonaws.com", "x.rds.amazonaws.com.evil.com"])
def test_other_names_say_nothing(host: str) -> None:
    assert endpoint(host) is None


@pytest.mark.parametrize(
    ("host", "kinds"), [("shop.c9akciq32.eu-central-1.rds.amazonaws.com", ("pitr",)), ("db.internal", ())]
)
def test_profile_online_verifies_the_automated_backups_of_rds(
    tmp_path: Path, host: str, kinds: tuple[str, ...]
) -> None:
    (tmp_path / "migrator.toml").write_text(
        f'[environments.big]\nurl = "postgresql://m@{host}/shop?sslmode=verify-full"\nprofile = "online"\n'
    )
    assert load(tmp_path / "migrator.toml", {}).environment("big").backup.kinds == kinds
    chosen = load(tmp_path / "migrator.toml", {}, {"backup.kinds": ["rds"]}).environment("big")
    assert chosen.backup.kinds == ("rds",)
