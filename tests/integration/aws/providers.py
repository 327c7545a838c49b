"""The maintenance providers in their world, each as a case of one harness."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from migrator.aws import Account
from migrator.aws.waits import Wait
from migrator.config.aws_maintenance import AlbProvider
from migrator.maintenance import Provider, marks
from migrator.maintenance.alb import Alb
from migrator.maintenance.cloudfront import CloudFront
from migrator.maintenance.ecs import Ecs
from migrator.maintenance.ssm import Ssm
from tests.integration.aws.server import Shop

ENVIRONMENT = "staging"


def wait() -> Wait:
    return Wait(limit_s=5.0, every_s=0.01, sleep=lambda _seconds: None)


@dataclass(frozen=True, kw_only=True)
class Case(ABC):
    """A provider, and what its world says without asking the provider."""

    shop: Shop

    @abstractmethod
    def provider(self, account: Account | None = None) -> Provider:
        """The provider, with this account's calls."""

    @abstractmethod
    def world(self) -> Any:
        """All that the provider may have touched."""

    @abstractmethod
    def holds(self) -> bool:
        """Whether users are held off."""


@dataclass(frozen=True, kw_only=True)
class EcsCase(Case):
    cluster: str
    service: str

    @classmethod
    def of(cls, shop: Shop, *, scaled: bool = True, desired: int = 3) -> EcsCase:
        cluster, service = shop.ecs(scaled=scaled, desired=desired)
        return cls(shop=shop, cluster=cluster, service=service)

    def provider(self, account: Account | None = None) -> Ecs:
        return Ecs(
            account=account or self.shop.account,
            cluster=self.cluster,
            service=self.service,
            environment=ENVIRONMENT,
            wait=wait(),
        )

    def world(self) -> Any:
        service = self._service()
        return service["desiredCount"], service["runningCount"], service.get("tags", []), self.scaling()

    def holds(self) -> bool:
        service, scaling = self._service(), self.scaling()
        suspended = scaling is None or all(scaling[2].values())
        return service["desiredCount"] == 0 and service["runningCount"] == 0 and suspended

    def scaling(self) -> tuple[int, int, dict[str, bool]] | None:
        found = self.shop.account.client("application-autoscaling").describe_scalable_targets(
            ServiceNamespace="ecs", ResourceIds=[f"service/{self.cluster}/{self.service}"]
        )["ScalableTargets"]
        if not found:
            return None
        state = found[0].get("SuspendedState") or {}
        names = ("DynamicScalingInSuspended", "DynamicScalingOutSuspended", "ScheduledScalingSuspended")
        return found[0]["MinCapacity"], found[0]["MaxCapacity"], {name: bool(state.get(name)) for name in names}

    def count_to(self, count: int) -> None:
        self.shop.account.client("ecs").update_service(cluster=self.cluster, service=self.service, desiredCount=count)

    def _service(self) -> Any:
        return self.shop.account.client("ecs").describe_services(
            cluster=self.cluster, services=[self.service], include=["TAGS"]
        )["services"][0]


@dataclass(frozen=True, kw_only=True)
class AlbCase(Case):
    listener: str
    group: str

    @classmethod
    def of(cls, shop: Shop) -> AlbCase:
        listener, group = shop.listener()
        return cls(shop=shop, listener=listener, group=group)

    def provider(self, account: Account | None = None, **settings: Any) -> Alb:
        return Alb(
            account=account or self.shop.account,
            settings=AlbProvider(type="alb", listener=self.listener, **settings),
            environment=ENVIRONMENT,
        )

    def world(self) -> Any:
        return [(rule["RuleArn"], rule["Priority"], rule["Actions"], rule["Conditions"]) for rule in self.rules()]

    def rules(self) -> list[Any]:
        found: list[Any] = self.shop.account.client("elbv2").describe_rules(ListenerArn=self.listener)["Rules"]
        return sorted(found, key=lambda rule: 10**6 if rule["IsDefault"] else int(rule["Priority"]))

    def holds(self) -> bool:
        first = self.rules()[0]["Actions"][0]
        return bool(first["Type"] == "fixed-response" and first["FixedResponseConfig"]["StatusCode"] == "503")


@dataclass(frozen=True, kw_only=True)
class CloudFrontCase(Case):
    distribution: str

    @classmethod
    def of(cls, shop: Shop) -> CloudFrontCase:
        return cls(shop=shop, distribution=shop.distribution())

    def provider(self, account: Account | None = None, **settings: Any) -> CloudFront:
        return CloudFront(
            account=account or self.shop.account,
            distribution=self.distribution,
            origin="sorry",
            behaviors=("default", "/api/*"),
            environment=ENVIRONMENT,
            wait=wait(),
            **settings,
        )

    def world(self) -> Any:
        config = self.config()
        distribution = self._cloudfront.get_distribution(Id=self.distribution)["Distribution"]
        tags = self._cloudfront.list_tags_for_resource(Resource=distribution["ARN"])["Tags"].get("Items", [])
        return self.targets(), tags, config["Comment"], config["Enabled"], config["Origins"]

    def targets(self) -> list[str]:
        config = self.config()
        behaviors = [config["DefaultCacheBehavior"], *config["CacheBehaviors"]["Items"]]
        return [one["TargetOriginId"] for one in behaviors]

    def config(self) -> Any:
        return self._cloudfront.get_distribution_config(Id=self.distribution)["DistributionConfig"]

    def switch_default_to(self, origin: str) -> None:
        config = self.config()
        config["DefaultCacheBehavior"]["TargetOriginId"] = origin
        self._cloudfront.update_distribution(Id=self.distribution, IfMatch="any", DistributionConfig=config)

    def holds(self) -> bool:
        return self.targets() == ["sorry", "sorry"]

    @property
    def _cloudfront(self) -> Any:
        return self.shop.account.client("cloudfront")


@dataclass(frozen=True, kw_only=True)
class SsmCase(Case):
    name: str

    @classmethod
    def of(cls, shop: Shop, value: str | None = None) -> SsmCase:
        return cls(shop=shop, name=shop.parameter(value))

    def provider(self, account: Account | None = None) -> Ssm:
        return Ssm(account=account or self.shop.account, parameter=self.name, environment=ENVIRONMENT)

    def world(self) -> Any:
        ssm = self.shop.account.client("ssm")
        try:
            found = ssm.get_parameter(Name=self.name)["Parameter"]
        except ssm.exceptions.ParameterNotFound:
            return None
        return found["Value"], found["Type"]

    def put(self, value: str) -> None:
        self.shop.account.client("ssm").put_parameter(Name=self.name, Value=value, Overwrite=True)

    def holds(self) -> bool:
        value = self.world()
        return value is not None and json.loads(value[0]).get("on") is True


CASES = {
    "ecs": EcsCase.of,
    "ecs without auto scaling": lambda shop: EcsCase.of(shop, scaled=False),
    "ecs at zero already": lambda shop: EcsCase.of(shop, desired=0),
    "alb": AlbCase.of,
    "cloudfront": CloudFrontCase.of,
    "ssm": SsmCase.of,
    "ssm with a value": lambda shop: SsmCase.of(shop, '{"on": false, "by": "hand"}'),
}
__all__ = ["CASES", "ENVIRONMENT", "Case", "marks"]
