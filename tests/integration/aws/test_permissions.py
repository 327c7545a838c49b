"""What IAM's simulation says is missing is named; where it may not be asked, what reads is tried."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from migrator.aws.account import Account
from migrator.aws.permissions import Missing, missing
from migrator.aws.policy import Where, statements
from migrator.config.load import load
from tests.integration.aws.providers import AlbCase, EcsCase, SsmCase
from tests.integration.aws.server import REGION, Shop, error
from tests.integration.aws.test_run import command
from tests.shop import Shop as Database

HERE = Where(account="123456789012", region=REGION)
ROLE = "arn:aws:sts::123456789012:assumed-role/migrator-migrate/migrator"


def simulated(denied: set[str], asked: list[dict[str, Any]]) -> Callable[[str, Callable[[], Any]], Any]:
    """IAM's answer, which the test's server does not know; what was asked is kept by `told`."""

    def harm(name: str, call: Callable[[], Any]) -> Any:
        if name == "sts:GetCallerIdentity":
            return {"Account": "123456789012", "Arn": ROLE, "UserId": "x"}
        if name == "iam:SimulatePrincipalPolicy":
            parameters = call.__closure__ or ()
            [given] = [cell.cell_contents for cell in parameters if isinstance(cell.cell_contents, dict)]
            asked.append(given)
            results = [
                {"EvalActionName": one, "EvalDecision": "implicitDeny" if one in denied else "allowed"}
                for one in given["ActionNames"]
            ]
            return {"EvaluationResults": results, "IsTruncated": False}
        return call()

    return harm


def configuration(tmp_path: Path, at_aws: Shop, endpoint: str) -> Path:
    alb, ecs, ssm = AlbCase.of(at_aws), EcsCase.of(at_aws), SsmCase.of(at_aws)
    file = tmp_path / "migrator.toml"
    file.write_text(f"""
[aws]
region = "{REGION}"
endpoint_url = "{endpoint}"
[environments.staging]
url = "postgresql://migrator@127.0.0.1:1/shop"
[environments.staging.maintenance]
outside = [
  {{ type = "alb", listener = "{alb.listener}" }},
  {{ type = "ecs", cluster = "{ecs.cluster}", service = "{ecs.service}" }},
  {{ type = "ssm", parameter = "{ssm.name}" }},
]
""")
    return file


def test_missing_actions_are_named_with_their_resources(at_aws: Shop, endpoint: str, tmp_path: Path) -> None:
    environment = load(configuration(tmp_path, at_aws, endpoint), {}).environment("staging")
    asked: list[dict[str, Any]] = []
    at_aws.harmed.harm = simulated({"ecs:UpdateService", "ssm:PutParameter"}, asked)
    found = missing(at_aws.harmed, statements(environment, "migrate", HERE))
    assert {one.action for one in found} == {"ecs:UpdateService", "ssm:PutParameter"}
    [ecs] = [one for one in found if one.action == "ecs:UpdateService"]
    service = f"arn:aws:ecs:{REGION}:123456789012:service/shop-{at_aws.key}/web"
    assert ecs == Missing(action="ecs:UpdateService", resource=service, why="implicitDeny")
    assert {one["PolicySourceArn"] for one in asked} == {"arn:aws:iam::123456789012:role/migrator-migrate"}
    given = {entry["ContextKeyName"] for one in asked for entry in one["ContextEntries"]}
    assert "aws:ResourceTag/migrator:environment" in given


@pytest.mark.slow
@pytest.mark.parametrize("may_simulate", [True, False])
def test_doctor_names_what_is_missing(
    at_aws: Shop, endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, may_simulate: bool
) -> None:
    configuration(tmp_path, at_aws, endpoint)
    real = Account.client

    def client(self: Account, name: str) -> Any:
        made = real(self, name)
        if name == "iam" and may_simulate:
            made._make_api_call = lambda _operation, parameters: {
                "EvaluationResults": [
                    {"EvalActionName": one, "EvalDecision": "implicitDeny" if "Update" in one else "allowed"}
                    for one in parameters["ActionNames"]
                ],
                "IsTruncated": False,
            }
        elif name == "iam":

            def denied(operation: str, _parameters: Any) -> Any:
                raise error("AccessDenied", f"iam:{operation}")

            made._make_api_call = denied
        return made

    monkeypatch.setattr(Account, "client", client)
    told = command(Database(server=None, login=None, folder=tmp_path), "doctor", code=3)  # type: ignore[arg-type]
    found = {one["name"]: one for one in told["findings"] if one["about"] == "staging"}
    permissions = found["aws permissions"]
    if may_simulate:
        problems = [one for one in told["findings"] if one["name"] == "aws permissions"]
        assert problems[0]["status"] == "problem"
        assert "ecs:UpdateService" in problems[0]["detail"]
        assert "--role migrate" in problems[0]["remedy"]
    else:
        assert "iam:SimulatePrincipalPolicy" in permissions["detail"]
    assert found[f"ecs shop-{at_aws.key}/web"]["status"] == "ok"
    assert json.dumps(told)


@pytest.mark.slow
def test_provider_that_may_not_be_read_is_a_problem_with_the_action(
    at_aws: Shop, endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configuration(tmp_path, at_aws, endpoint)
    real = Account.client

    def client(self: Account, name: str) -> Any:
        made = real(self, name)
        if name == "elbv2":

            def denied(operation: str, _parameters: Any) -> Any:
                raise error("AccessDenied", f"elbv2:{operation}")

            made._make_api_call = denied
        return made

    monkeypatch.setattr(Account, "client", client)
    from migrator import maintenance

    maintenance._account.cache_clear()
    told = command(Database(server=None, login=None, folder=tmp_path), "doctor", code=3)  # type: ignore[arg-type]
    maintenance._account.cache_clear()
    [alb] = [one for one in told["findings"] if one["name"].startswith("alb")]
    assert alb["status"] == "problem"
    assert "elasticloadbalancing:DescribeRules" in alb["remedy"]
