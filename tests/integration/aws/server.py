"""A server that stands in for AWS, and accounts whose calls come to harm."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from botocore.exceptions import ClientError

from migrator.aws import Account
from migrator.config.aws import AwsSettings

REGION = "eu-central-1"
Harm = Callable[[str, Callable[[], Any]], Any]  # the call's name, and what makes it


class Killed(BaseException):
    """The process ends here, as far as the provider can tell."""


@dataclass
class Harmed(Account):
    """An account whose every call passes through `harm`; the names of the calls are kept."""

    harm: Harm = lambda _name, call: call()
    calls: list[str] = field(default_factory=list)

    def client(self, name: str) -> Any:
        client = super().client(name)
        if not hasattr(client, "unharmed"):
            client.unharmed = client._make_api_call

            def through(operation: str, parameters: Any) -> Any:
                call = f"{name}:{operation}"
                self.calls.append(call)
                return self.harm(call, lambda: client.unharmed(operation, parameters))

            client._make_api_call = through
        return client


def account(endpoint: str, harm: Harm | None = None) -> Harmed:
    settings = AwsSettings(region=REGION, endpoint_url=endpoint, attempts=4)
    made = Harmed(settings, sleep=lambda _seconds: None)
    if harm is not None:
        made.harm = harm
    return made


def killed_after(number: int) -> Harm:
    """The process is killed when the call of this number has been carried out, and before its answer is read."""
    left = [number]

    def harm(_name: str, call: Callable[[], Any]) -> Any:
        answer = call()
        left[0] -= 1
        if left[0] == 0:
            raise Killed
        return answer

    return harm


def refused(code: str, *, at: int, times: int = 1_000_000) -> Harm:
    """The call of this number, and those after it, `times` in all, are answered with an error."""
    seen = [0]

    def harm(name: str, call: Callable[[], Any]) -> Any:
        seen[0] += 1
        if at <= seen[0] < at + times:
            raise error(code, name)
        return call()

    return harm


def error(code: str, name: str) -> ClientError:
    status = {"Throttling": 400, "InternalFailure": 500}.get(code, 403)
    answer = {"Error": {"Code": code, "Message": "as told by the test"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(answer, name.partition(":")[2])


@dataclass(frozen=True, kw_only=True)
class Shop:
    """What an application has at AWS; each test makes its own."""

    account: Account
    harmed: Harmed  # another one, whose calls come to harm once it is told which
    key: str = field(default_factory=lambda: secrets.token_hex(4))

    def ecs(self, *, scaled: bool = True, desired: int = 3) -> tuple[str, str]:
        """A cluster and a service with tasks, and maybe auto scaling of which one part is suspended already."""
        ecs = self.account.client("ecs")
        cluster, service = f"shop-{self.key}", "web"
        ecs.create_cluster(clusterName=cluster)
        container = {"name": "web", "image": "web", "memory": 64}
        ecs.register_task_definition(family=f"web-{self.key}", containerDefinitions=[container])
        ecs.create_service(cluster=cluster, serviceName=service, taskDefinition=f"web-{self.key}", desiredCount=desired)
        ecs.update_service(cluster=cluster, service=service, desiredCount=desired)  # the server starts them only now
        if scaled:
            self.account.client("application-autoscaling").register_scalable_target(
                ServiceNamespace="ecs",
                ResourceId=f"service/{cluster}/{service}",
                ScalableDimension="ecs:service:DesiredCount",
                MinCapacity=2,
                MaxCapacity=9,
                SuspendedState={"DynamicScalingInSuspended": True},
            )
        return cluster, service

    def listener(self) -> tuple[str, str]:
        """A listener with two rules as blue/green has them, and the ARN of one of its target groups."""
        ec2, elbv2 = self.account.client("ec2"), self.account.client("elbv2")
        vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
        zones = [f"{REGION}{letter}" for letter in "ab"]
        subnets = [
            ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.0.{n}.0/24", AvailabilityZone=zone)["Subnet"]["SubnetId"]
            for n, zone in enumerate(zones)
        ]
        balancer = elbv2.create_load_balancer(Name=f"shop-{self.key}", Subnets=subnets)["LoadBalancers"][0]
        groups = [
            elbv2.create_target_group(Name=f"{colour}-{self.key}", Protocol="HTTP", Port=80, VpcId=vpc)
            for colour in ("blue", "green")
        ]
        blue, green = (group["TargetGroups"][0]["TargetGroupArn"] for group in groups)
        arn: str = elbv2.create_listener(
            LoadBalancerArn=balancer["LoadBalancerArn"],
            Protocol="HTTP",
            Port=80,
            DefaultActions=[{"Type": "forward", "TargetGroupArn": blue}],
        )["Listeners"][0]["ListenerArn"]
        for number, group in ((10, blue), (20, green)):
            self.rule(arn, number, group)
        return arn, green

    def rule(self, listener: str, number: int, group: str) -> str:
        """A rule that somebody else made."""
        arn: str = self.account.client("elbv2").create_rule(
            ListenerArn=listener,
            Priority=number,
            Conditions=[{"Field": "path-pattern", "Values": [f"/{number}/*"]}],
            Actions=[{"Type": "forward", "TargetGroupArn": group}],
        )["Rules"][0]["RuleArn"]
        return arn

    def distribution(self) -> str:
        """A distribution with the origins web, api and sorry, and a behaviour for /api/*."""
        origins = [
            {
                "Id": name,
                "DomainName": f"{name}.example.com",
                "CustomOriginConfig": {"HTTPPort": 80, "HTTPSPort": 443, "OriginProtocolPolicy": "https-only"},
            }
            for name in ("web", "api", "sorry")
        ]
        behavior = {
            "ViewerProtocolPolicy": "redirect-to-https",
            "MinTTL": 0,
            "ForwardedValues": {"QueryString": False, "Cookies": {"Forward": "none"}},
        }
        made: str = self.account.client("cloudfront").create_distribution(
            DistributionConfig={
                "CallerReference": self.key,
                "Comment": "the shop",
                "Enabled": True,
                "Origins": {"Quantity": len(origins), "Items": origins},
                "DefaultCacheBehavior": {"TargetOriginId": "web", **behavior},
                "CacheBehaviors": {
                    "Quantity": 1,
                    "Items": [{"PathPattern": "/api/*", "TargetOriginId": "api", **behavior}],
                },
            }
        )["Distribution"]["Id"]
        return made

    def parameter(self, value: str | None = None) -> str:
        """The name of a parameter that has this value, or is not there."""
        name = f"/shop-{self.key}/maintenance"
        if value is not None:
            self.account.client("ssm").put_parameter(Name=name, Value=value, Type="String")
        return name


def says(value: str) -> Any:
    return json.loads(value)
