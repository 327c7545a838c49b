"""A service of ECS at zero tasks, its auto scaling suspended.

The service's own tags say which run holds it and what it was. They are written first and removed last, so that
whatever ends in between, this run or a later one finds what it has to put back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from migrator.aws import Account, Service
from migrator.aws.waits import Wait
from migrator.errors import MaintenanceFailed
from migrator.failpoints import Effect, effect
from migrator.maintenance import ProviderStatus, marks
from migrator.maintenance.marks import Mark

if TYPE_CHECKING:
    from mypy_boto3_application_autoscaling.type_defs import ScalableTargetTypeDef
    from mypy_boto3_ecs.type_defs import ServiceTypeDef

_DIMENSION = "ecs:service:DesiredCount"
_NAMESPACE = "ecs"
_FLAGS = {  # what is saved -> what Application Auto Scaling calls it; one that it does not name is false
    "scale_in": "DynamicScalingInSuspended",
    "scale_out": "DynamicScalingOutSuspended",
    "schedule": "ScheduledScalingSuspended",
}
_LIMIT = "timeout_s of the provider"
_MOST_TASKS = 100  # described in one call


@dataclass(frozen=True, kw_only=True)
class Ecs:
    account: Account
    cluster: str  # its name or ARN
    service: str
    environment: str
    wait: Wait  # for the tasks to stop, and to run again

    @property
    def name(self) -> str:
        return f"ecs {self.cluster.rpartition('/')[2]}/{self.service}"

    def standing(self, run_id: str) -> dict[str, str]:
        """Raises: MaintenanceFailed, also for a service that is being deployed or cannot be counted to zero."""
        service = self._described()
        mark = marks.read(_tags(service))
        if mark is None:
            self._refuse_unready(service)
            return self._before(service)
        if mark.run_id != run_id:
            raise marks.foreign(self.name, mark.run_id, environment=self.environment)
        return mark.before

    @effect(Effect.OUTSIDE_ON)
    def on(self, run_id: str) -> dict[str, str]:
        """No task of the service runs any more. Raises: MaintenanceFailed."""
        before = self.standing(run_id)
        service = self._described()
        if marks.read(_tags(service)) is None:
            self._mark(service, Mark(run_id=run_id, before=before))
        target = self._target(service)
        if target is not None and not all(_suspended(target).values()):
            self._suspend(service, dict.fromkeys(_FLAGS, True))
        if service["desiredCount"] != 0:
            self._count_to(0)
        self.wait.until(self._none_left, doing=f"{self.name}: stopping", setting=_LIMIT, kind=MaintenanceFailed)
        return before

    @effect(Effect.OUTSIDE_OFF)
    def off(self, run_id: str, saved: dict[str, str]) -> None:
        """As many tasks run as did before, and are scaled as they were. Raises: MaintenanceFailed."""
        service = self._described()
        mark = marks.read(_tags(service))
        if mark is not None and mark.run_id != run_id:
            raise marks.foreign(self.name, mark.run_id, environment=self.environment)
        before = saved or (mark.before if mark is not None else {})
        drift = self._put_back(service, before) if before else []
        self._unmark(service)
        if drift and mark is not None:  # told once: who comes again has looked, and takes it as it is
            raise marks.drifted(self.name, drift)

    def status(self) -> ProviderStatus:
        service = self._described()
        mark = marks.read(_tags(service))
        target = self._target(service)
        desired, running = service["desiredCount"], service["runningCount"]
        detail = f"{running} of {desired} tasks run"
        quiet = target is None or all(_suspended(target).values())  # else it may be started at any moment
        if target is not None:
            detail += f", auto scaling {'suspended' if quiet else 'active'}"
        if mark is not None:
            detail += f"; held by the run {mark.run_id}, {mark.before.get('desired', 'unknown')} tasks before it"
            if desired != 0:
                is_as_before = mark.before.get("desired") == str(desired)
                detail += "; not at zero yet, or again" if is_as_before else "; DRIFT: somebody started it meanwhile"
        on = desired == 0 and running == 0 and quiet
        return ProviderStatus(on=on, detail=detail, held_by=mark.run_id if mark is not None else None)

    def _before(self, service: ServiceTypeDef) -> dict[str, str]:
        before = {"desired": str(service["desiredCount"])}
        target = self._target(service)
        if target is not None:
            before |= {"min": str(target["MinCapacity"]), "max": str(target["MaxCapacity"])}
            before |= {flag: "suspended" if value else "active" for flag, value in _suspended(target).items()}
        return before

    def _put_back(self, service: ServiceTypeDef, before: Mapping[str, str]) -> list[str]:
        """What is still ours is as it was. Returns what is not ours any more. Raises: MaintenanceFailed."""
        drift = []
        count, now = _number(before.get("desired"), self.name), service["desiredCount"]
        if now not in (0, count):
            drift.append(f"it has {now} tasks; the run had put it to 0, and before it there were {count}")
        elif count != 0:
            self._start(count, already=now == count)
        drift += self._put_scaling_back(service, before)
        return drift

    def _start(self, count: int, *, already: bool) -> None:
        if not already:
            self._count_to(count)

        def look() -> tuple[bool | None, str]:
            service = self._described()
            steady = service["runningCount"] >= count and len(service.get("deployments", [])) <= 1
            return steady or None, f"{service['runningCount']} of {count} tasks run"

        self.wait.until(look, doing=f"{self.name}: starting", setting=_LIMIT, kind=MaintenanceFailed)

    def _put_scaling_back(self, service: ServiceTypeDef, before: Mapping[str, str]) -> list[str]:
        if not any(flag in before for flag in _FLAGS):
            return []
        target = self._target(service)
        if target is None:
            return ["it is not scaled any more"]
        wanted = {flag: before.get(flag) == "suspended" for flag in _FLAGS}
        now = _suspended(target)
        if now == wanted:
            return []
        if not all(now.values()):
            shown = ", ".join(f"{flag} {'suspended' if value else 'active'}" for flag, value in now.items())
            return [f"its auto scaling is {shown}"]
        self._suspend(service, wanted)
        return []

    def _refuse_unready(self, service: ServiceTypeDef) -> None:
        if service["status"] != "ACTIVE":
            raise MaintenanceFailed(f"{self.name} is {service['status']}.", hint="Name a service that is active.")
        if service.get("schedulingStrategy") == "DAEMON":
            raise MaintenanceFailed(
                f"{self.name} is a daemon service: it has no number of tasks that could be zero.",
                hint="Hold its users off in another way: alb, ssm or command.",
            )
        under_way = max(len(service.get("deployments", [])), len(service.get("taskSets", [])))
        if under_way > 1:
            raise MaintenanceFailed(
                f"{self.name} is being deployed ({under_way} deployments).",
                hint="Wait until the deployment is complete, and keep others from starting while the run is on.",
                code="maintenance_deploying",
            )

    def _described(self) -> ServiceTypeDef:
        found = self._ecs.idempotent(
            lambda ecs: ecs.describe_services(cluster=self.cluster, services=[self.service], include=["TAGS"]),
            doing=f"{self.name}: looking at it",
        )
        services: list[ServiceTypeDef] = found["services"]
        if not services:
            why = ", ".join(one.get("reason", "") for one in found["failures"]) or "it is not there"
            raise MaintenanceFailed(
                f"{self.name}: {why}.", hint="Look at the cluster and the service in maintenance.outside."
            )
        return services[0]

    def _target(self, service: ServiceTypeDef) -> ScalableTargetTypeDef | None:
        found: list[ScalableTargetTypeDef] = self._scaling.idempotent(
            lambda scaling: scaling.describe_scalable_targets(
                ServiceNamespace=_NAMESPACE, ResourceIds=[_scaled(service)], ScalableDimension=_DIMENSION
            )["ScalableTargets"],
            doing=f"{self.name}: looking at its auto scaling",
        )
        return found[0] if found else None

    def _suspend(self, service: ServiceTypeDef, flags: Mapping[str, bool]) -> None:
        state = {_FLAGS[flag]: value for flag, value in flags.items()}
        self._scaling.idempotent(
            lambda scaling: scaling.register_scalable_target(
                ServiceNamespace=_NAMESPACE,
                ResourceId=_scaled(service),
                ScalableDimension=_DIMENSION,
                SuspendedState=state,
            ),
            doing=f"{self.name}: setting what its auto scaling may do",
        )

    def _count_to(self, count: int) -> None:
        self._ecs.idempotent(
            lambda ecs: ecs.update_service(cluster=self.cluster, service=self.service, desiredCount=count),
            doing=f"{self.name}: setting its tasks to {count}",
        )

    def _mark(self, service: ServiceTypeDef, mark: Mark) -> None:
        tags = marks.tags_of(mark, environment=self.environment)
        self._ecs.idempotent(
            lambda ecs: ecs.tag_resource(
                resourceArn=service["serviceArn"],
                tags=[{"key": key, "value": value} for key, value in tags.items()],
            ),
            doing=f"{self.name}: writing down what it was",
        )

    def _unmark(self, service: ServiceTypeDef) -> None:
        keys = marks.keys(_tags(service))
        if keys:
            self._ecs.idempotent(
                lambda ecs: ecs.untag_resource(resourceArn=service["serviceArn"], tagKeys=keys),
                doing=f"{self.name}: removing its tags",
            )

    def _none_left(self) -> tuple[bool | None, str]:
        service = self._described()
        left = max(service["runningCount"] + service["pendingCount"], self._stopping())
        return left == 0 or None, f"{left} tasks are left"

    def _stopping(self) -> int:
        """Tasks that were told to stop and have not: they may still write."""
        arns = self._told_to_stop()
        return sum(self._still_running(arns[first : first + _MOST_TASKS]) for first in range(0, len(arns), _MOST_TASKS))

    def _told_to_stop(self) -> list[str]:
        found: list[str] = []
        more: dict[str, str] = {}
        while True:
            page = self._listed(more)
            found += page["taskArns"]
            if not page.get("nextToken"):
                return found
            more = {"nextToken": page["nextToken"]}

    def _listed(self, more: Mapping[str, str]) -> Any:
        return self._ecs.idempotent(
            lambda ecs: ecs.list_tasks(cluster=self.cluster, serviceName=self.service, desiredStatus="STOPPED", **more),
            doing=f"{self.name}: listing its tasks",
        )

    def _still_running(self, arns: Sequence[str]) -> int:
        tasks = self._ecs.idempotent(
            lambda ecs: ecs.describe_tasks(cluster=self.cluster, tasks=list(arns)),
            doing=f"{self.name}: looking at its tasks",
        )["tasks"]
        return sum(task["lastStatus"] != "STOPPED" for task in tasks)

    @cached_property
    def _ecs(self) -> Service:
        return self.account.service("ecs", MaintenanceFailed)

    @cached_property
    def _scaling(self) -> Service:
        return self.account.service("application-autoscaling", MaintenanceFailed)


def _scaled(service: ServiceTypeDef) -> str:
    """The service's name in Application Auto Scaling."""
    return f"service/{service['clusterArn'].rpartition('/')[2]}/{service['serviceName']}"


def _tags(service: ServiceTypeDef) -> dict[str, str]:
    return {tag["key"]: tag["value"] for tag in service.get("tags", []) if "key" in tag and "value" in tag}


def _suspended(target: ScalableTargetTypeDef) -> dict[str, bool]:
    state: Mapping[str, object] = dict(target.get("SuspendedState") or {})
    return {flag: bool(state.get(name)) for flag, name in _FLAGS.items()}


def _number(text: str | None, what: str) -> int:
    try:
        return int(text or "")
    except ValueError as error:
        raise MaintenanceFailed(
            f"How many tasks {what} had before the run cannot be read from what was saved.",
            hint="Set the number of its tasks, and resume its auto scaling, by hand.",
        ) from error
