"""What others do at AWS while a run holds users off: seen, told, and never written over."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from migrator.aws import Account
from migrator.config.aws import AwsSettings
from migrator.errors import MaintenanceFailed
from tests.integration.aws.providers import AlbCase, CloudFrontCase, EcsCase, SsmCase
from tests.integration.aws.server import Harm, Shop, error

RUN = "20261123t175103_4f1c"


def answering(name: str, change: Callable[[Any], None]) -> Harm:
    """Every answer to this call is changed."""

    def harm(called: str, call: Callable[[], Any]) -> Any:
        answer = call()
        if called == name:
            change(answer)
        return answer

    return harm


class Answers:
    """An account of which every call is answered by the test, with its parameters known."""

    def __init__(self, api: Callable[[str, Any], Any]) -> None:
        self.api = api

    def list_tasks(self, **parameters: Any) -> Any:
        return self.api("ListTasks", parameters)

    def describe_tasks(self, **parameters: Any) -> Any:
        return self.api("DescribeTasks", parameters)


class Answered(Account):
    def __init__(self, client: Answers) -> None:
        super().__init__(AwsSettings())
        self.answers = client

    def client(self, name: str) -> Any:
        return self.answers


def answered(api: Callable[[str, Any], Any]) -> Account:
    return Answered(Answers(api))


def before_the_first(name: str, act: Callable[[], None]) -> Harm:
    """Somebody else acts just before this call is made for the first time."""
    done: list[bool] = []

    def harm(called: str, call: Callable[[], Any]) -> Any:
        if called == name and not done:
            done.append(True)
            act()
        return call()

    return harm


def refused_with(code: str, act: Callable[[], Any]) -> str:
    with pytest.raises(MaintenanceFailed) as caught:
        act()
    assert caught.value.code == code, caught.value
    assert caught.value.hint
    return caught.value.message


@pytest.mark.slow
def test_service_that_somebody_started_keeps_its_number_and_gets_its_scaling_back(at_aws: Shop) -> None:
    case = EcsCase.of(at_aws)
    provider, before = case.provider(), case.world()
    saved = provider.on(RUN)
    case.count_to(2)
    assert "DRIFT" in provider.status().detail
    assert not provider.status().on
    message = refused_with("maintenance_drift", lambda: provider.off(RUN, saved))
    assert "it has 2 tasks" in message
    assert "there were 3" in message
    desired, _, tags, scaling = case.world()
    assert (desired, tags, scaling) == (2, [], before[3])
    provider.off(RUN, saved)
    assert case.world()[0] == 2, "taken as it is, the second time"


@pytest.mark.slow
def test_service_that_is_being_deployed_is_refused(at_aws: Shop) -> None:
    case = EcsCase.of(at_aws)
    before = case.world()
    second = {"id": "ecs-svc/2", "status": "ACTIVE"}
    at_aws.harmed.harm = answering(
        "ecs:DescribeServices", lambda answer: answer["services"][0]["deployments"].append(second)
    )
    provider = case.provider(at_aws.harmed)
    assert "2 deployments" in refused_with("maintenance_deploying", lambda: provider.standing(RUN))
    refused_with("maintenance_deploying", lambda: provider.on(RUN))
    assert case.world() == before


@pytest.mark.slow
def test_tasks_that_do_not_stop_are_waited_for_with_an_end(at_aws: Shop) -> None:
    case = EcsCase.of(at_aws)
    before = case.world()
    at_aws.harmed.harm = answering("ecs:DescribeServices", lambda answer: answer["services"][0].update(runningCount=1))
    assert "1 tasks are left" in refused_with("timeout", lambda: case.provider(at_aws.harmed).on(RUN))
    case.provider().off(RUN, {})
    assert case.world() == before


@pytest.mark.slow
def test_task_that_is_stopping_still_counts(at_aws: Shop) -> None:
    case = EcsCase.of(at_aws)
    seen: list[str] = []

    def harm(name: str, call: Callable[[], Any]) -> Any:
        if name == "ecs:ListTasks":
            return {"taskArns": ["arn:task"]}
        if name == "ecs:DescribeTasks":
            seen.append("STOPPING" if len(seen) < 3 else "STOPPED")
            return {"tasks": [{"lastStatus": seen[-1]}]}
        return call()

    at_aws.harmed.harm = harm
    case.provider(at_aws.harmed).on(RUN)
    assert seen[-2:] == ["STOPPING", "STOPPED"]


@pytest.mark.slow
def test_stopping_tasks_are_counted_to_the_last_page(at_aws: Shop) -> None:
    case = EcsCase.of(at_aws)
    pages = {None: ([f"arn:{n}" for n in range(100)], "2"), "2": (["arn:100", "arn:101"], None)}
    described: list[int] = []

    def api(operation: str, parameters: Any) -> Any:
        if operation == "ListTasks":
            arns, more = pages[parameters.get("nextToken")]
            return {"taskArns": arns, **({"nextToken": more} if more else {})}
        described.append(len(parameters["tasks"]))
        return {"tasks": [{"lastStatus": "STOPPING" if arn == "arn:101" else "STOPPED"} for arn in parameters["tasks"]]}

    provider = case.provider(answered(api))
    assert provider._stopping() == 1
    assert described == [100, 2]


@pytest.mark.slow
def test_scaling_that_somebody_resumed_is_left(at_aws: Shop) -> None:
    case = EcsCase.of(at_aws)
    provider = case.provider()
    saved = provider.on(RUN)
    at_aws.account.client("application-autoscaling").register_scalable_target(
        ServiceNamespace="ecs",
        ResourceId=f"service/{case.cluster}/{case.service}",
        ScalableDimension="ecs:service:DesiredCount",
        SuspendedState={"ScheduledScalingSuspended": True},
    )
    held = case.scaling()
    refused_with("maintenance_drift", lambda: provider.off(RUN, saved))
    assert (case.world()[0], case.scaling()) == (3, held)


@pytest.mark.slow
def test_rule_of_somebody_else_that_would_come_first_is_named_and_not_moved(at_aws: Shop) -> None:
    case = AlbCase.of(at_aws)
    first = at_aws.rule(case.listener, 1, case.group)
    before = case.world()
    assert first in refused_with("maintenance_no_room", lambda: case.provider().standing(RUN))
    refused_with("maintenance_no_room", lambda: case.provider().on(RUN))
    assert case.world() == before


@pytest.mark.slow
def test_number_that_somebody_takes_at_the_same_moment(at_aws: Shop) -> None:
    case = AlbCase.of(at_aws)
    at_aws.harmed.harm = before_the_first(
        "elbv2:CreateRule", lambda: at_aws.rule(case.listener, 1, case.group) and None
    )
    refused_with("maintenance_no_room", lambda: case.provider(at_aws.harmed).on(RUN))
    assert not case.holds()


@pytest.mark.slow
def test_rule_that_is_gone_when_it_is_to_be_deleted_is_gone(at_aws: Shop) -> None:
    case = AlbCase.of(at_aws)
    before = case.world()
    saved = case.provider().on(RUN)

    def harm(name: str, call: Callable[[], Any]) -> Any:
        answer = call()
        if name == "elbv2:DeleteRule":  # carried out by an attempt whose answer was lost
            raise error("RuleNotFound", name)
        return answer

    at_aws.harmed.harm = harm
    case.provider(at_aws.harmed).off(RUN, saved)
    assert case.world() == before


@pytest.mark.slow
def test_blue_green_may_switch_while_users_are_held_off(at_aws: Shop) -> None:
    case = AlbCase.of(at_aws)
    provider = case.provider()
    saved = provider.on(RUN)
    elbv2 = at_aws.account.client("elbv2")
    blue = next(rule["RuleArn"] for rule in case.rules() if rule["Priority"] == "10")
    elbv2.modify_rule(RuleArn=blue, Actions=[{"Type": "forward", "TargetGroupArn": case.group}])
    provider.off(RUN, saved)
    actions = {rule["Priority"]: rule["Actions"][0]["TargetGroupArn"] for rule in case.rules()}
    assert actions["10"] == actions["20"] == case.group
    assert set(actions) == {"10", "20", "default"}


@pytest.mark.slow
def test_our_rule_that_somebody_moved_or_edited_is_seen_and_goes_all_the_same(at_aws: Shop) -> None:
    case = AlbCase.of(at_aws)
    provider, before = case.provider(), case.world()
    provider.on(RUN)
    elbv2 = at_aws.account.client("elbv2")
    ours = case.rules()[0]["RuleArn"]
    elbv2.set_rule_priorities(RulePriorities=[{"RuleArn": ours, "Priority": 50}])
    assert not provider.status().on
    assert "DRIFT: it comes after the rule 10" in provider.status().detail
    provider.on(RUN)
    assert case.rules()[0]["RuleArn"] == ours
    assert provider.status().on
    elbv2.modify_rule(RuleArn=ours, Actions=[{"Type": "forward", "TargetGroupArn": case.group}])
    assert "was edited" in provider.status().detail
    provider.off(RUN, {})
    assert case.world() == before


@pytest.mark.slow
def test_two_providers_on_one_listener_have_a_rule_each(at_aws: Shop) -> None:
    case = AlbCase.of(at_aws)
    before = case.world()
    shop, admin = case.provider(hosts=("shop.example.com",)), case.provider(hosts=("admin.example.com",))
    saved = [one.on(RUN) for one in (shop, admin)]
    assert [rule["Priority"] for rule in case.rules()] == ["1", "2", "10", "20", "default"]
    shop.off(RUN, saved[0])
    assert not shop.status().on
    assert admin.status().on
    admin.off(RUN, saved[1])
    assert case.world() == before


@pytest.mark.slow
def test_target_group_answers_where_one_is_named(at_aws: Shop) -> None:
    case = AlbCase.of(at_aws)
    provider, before = case.provider(target_group=case.group), case.world()
    provider.on(RUN)
    assert case.rules()[0]["Actions"][0]["TargetGroupArn"] == case.group
    assert provider.status().on
    provider.off(RUN, {})
    assert case.world() == before


@pytest.mark.slow
def test_distribution_that_somebody_changes_at_the_same_moment_keeps_their_change(at_aws: Shop) -> None:
    case = CloudFrontCase.of(at_aws)
    cloudfront = at_aws.account.client("cloudfront")
    stale: list[str] = []

    def harm(name: str, call: Callable[[], Any]) -> Any:
        if name == "cloudfront:UpdateDistribution" and len(stale) < 2:
            config = case.config()
            config["Comment"] = f"changed by somebody {len(stale)}"
            cloudfront.update_distribution(Id=case.distribution, IfMatch="any", DistributionConfig=config)
            stale.append(name)
            raise error("PreconditionFailed", name)
        return call()

    at_aws.harmed.harm = harm
    saved = case.provider(at_aws.harmed).on(RUN)
    assert case.holds()
    assert case.config()["Comment"] == "changed by somebody 1"
    case.provider().off(RUN, saved)
    assert case.targets() == ["web", "api"]
    assert case.config()["Comment"] == "changed by somebody 1"


@pytest.mark.slow
def test_distribution_that_never_gets_everywhere_has_an_end(at_aws: Shop) -> None:
    case = CloudFrontCase.of(at_aws)
    before = case.world()
    at_aws.harmed.harm = answering(
        "cloudfront:GetDistribution", lambda answer: answer["Distribution"].update(Status="InProgress")
    )
    assert "InProgress" in refused_with("timeout", lambda: case.provider(at_aws.harmed).on(RUN))
    case.provider().off(RUN, {})
    assert case.world() == before


@pytest.mark.slow
def test_behavior_that_somebody_switched_is_left_and_the_others_go_back(at_aws: Shop) -> None:
    case = CloudFrontCase.of(at_aws)
    provider = case.provider()
    saved = provider.on(RUN)
    case.switch_default_to("api")
    assert "DRIFT" in provider.status().detail
    assert "default goes to api, went to web" in refused_with("maintenance_drift", lambda: provider.off(RUN, saved))
    assert case.targets() == ["api", "api"]
    assert case.world()[1] == []
    provider.off(RUN, saved)
    assert case.targets() == ["api", "api"], "taken as it is, the second time"


@pytest.mark.slow
def test_cached_pages_are_dropped_where_that_is_asked_for(at_aws: Shop) -> None:
    case = CloudFrontCase.of(at_aws)
    provider = case.provider(invalidate=True)
    provider.off(RUN, provider.on(RUN))
    found = at_aws.account.client("cloudfront").list_invalidations(DistributionId=case.distribution)
    assert found["InvalidationList"]["Quantity"] >= 1


@pytest.mark.slow
@pytest.mark.parametrize("what", ["behaviors", "origin"])
def test_what_the_distribution_does_not_have_is_refused_with_what_it_has(at_aws: Shop, what: str) -> None:
    from dataclasses import replace

    case = CloudFrontCase.of(at_aws)
    provider = replace(case.provider(), **{what: ("/none/*",) if what == "behaviors" else "none"})
    with pytest.raises(MaintenanceFailed, match="none") as caught:
        provider.standing(RUN)
    assert {"behaviors": "/api/*", "origin": "sorry"}[what] in (caught.value.hint or "")


@pytest.mark.slow
def test_parameter_that_somebody_wrote_meanwhile_is_left(at_aws: Shop) -> None:
    case = SsmCase.of(at_aws, '{"on": false}')
    provider = case.provider()
    saved = provider.on(RUN)
    case.put('{"on": true, "by": "stocktaking"}')
    refused_with("maintenance_drift", lambda: provider.off(RUN, saved))
    assert case.holds()
    case.put("off")
    provider.off(RUN, saved)
    assert case.world() == ("off", "String")


@pytest.mark.slow
def test_secret_parameter_is_no_flag(at_aws: Shop) -> None:
    case = SsmCase.of(at_aws)
    at_aws.account.client("ssm").put_parameter(Name=case.name, Value="hush", Type="SecureString")
    with pytest.raises(MaintenanceFailed, match="SecureString") as caught:
        case.provider().on(RUN)
    assert "hush" not in str(caught.value)
