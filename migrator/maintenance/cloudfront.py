"""Behaviours of a CloudFront distribution switched to an origin of it that serves the maintenance page.

A distribution is only ever written whole, as it was read a moment before, with the behaviours' origin changed and
If-Match: what somebody else changed meanwhile is never written over. What is saved are the old origins alone; the
distribution's tags keep them too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from migrator.aws import Account, Service
from migrator.aws.refusals import code_of
from migrator.aws.waits import Wait
from migrator.errors import MaintenanceFailed
from migrator.failpoints import Effect, effect
from migrator.maintenance import ProviderStatus, marks
from migrator.maintenance.marks import Mark

if TYPE_CHECKING:
    from mypy_boto3_cloudfront.type_defs import DistributionConfigOutputTypeDef

DEFAULT = "default"
_RACES = 8  # how often somebody may have been quicker
_STALE = {"PreconditionFailed", "InvalidIfMatchVersion"}
_LIMIT = "timeout_s of the provider"


@dataclass(frozen=True, kw_only=True)
class CloudFront:
    account: Account
    distribution: str
    origin: str  # the maintenance origin's id
    behaviors: tuple[str, ...]  # "default", or path patterns
    environment: str
    wait: Wait  # for a change to reach every edge
    invalidate: bool = False

    @property
    def name(self) -> str:
        return f"cloudfront {self.distribution}"

    def standing(self, run_id: str) -> dict[str, str]:
        """Raises: MaintenanceFailed, also for a behaviour or an origin that the distribution does not have."""
        mark = self._mark()
        if mark is not None and mark.run_id != run_id:
            raise marks.foreign(self.name, mark.run_id, environment=self.environment)
        config, _ = self._config()
        targets = _targets(config)
        self._refuse_unknown(config, targets)
        if mark is not None:
            return mark.before
        before = {behavior: targets[behavior] for behavior in self.behaviors}
        marks.tags_of(Mark(run_id=run_id, before=before), environment=self.environment)  # they fit
        return before

    @effect(Effect.OUTSIDE_ON)
    def on(self, run_id: str) -> dict[str, str]:
        """Every edge sends the behaviours' requests to the maintenance origin. Raises: MaintenanceFailed."""
        before = self.standing(run_id)
        if self._mark() is None:
            tags = marks.tags_of(Mark(run_id=run_id, before=before), environment=self.environment)
            self._cloudfront.idempotent(
                lambda cloudfront: cloudfront.tag_resource(
                    Resource=self._arn, Tags={"Items": [{"Key": key, "Value": tags[key]} for key in tags]}
                ),
                doing=f"{self.name}: writing down what it was",
            )
        self._switch(lambda _targets: dict.fromkeys(self.behaviors, self.origin))
        return before

    @effect(Effect.OUTSIDE_OFF)
    def off(self, run_id: str, saved: dict[str, str]) -> None:
        """Every edge sends the requests where it did before. Raises: MaintenanceFailed."""
        mark = self._mark()
        if mark is not None and mark.run_id != run_id:
            raise marks.foreign(self.name, mark.run_id, environment=self.environment)
        before = saved or (mark.before if mark is not None else {})
        drift: list[str] = []

        def back(targets: Mapping[str, str]) -> dict[str, str]:
            drift[:] = self._not_ours(targets, before)
            return {one: before[one] for one in before if targets.get(one) == self.origin}

        if before:
            self._switch(back)
        self._unmark()
        if drift and mark is not None:  # told once: who comes again has looked, and takes it as it is
            raise marks.drifted(self.name, drift)

    def status(self) -> ProviderStatus:
        config, _ = self._config()
        targets = _targets(config)
        mark = self._mark()
        shown = ", ".join(f"{one} -> {targets.get(one, 'not there')}" for one in self.behaviors)
        on = all(targets.get(one) == self.origin for one in self.behaviors)
        if mark is not None:
            shown += f"; held by the run {mark.run_id}"
            if not on:
                is_as_before = all(targets.get(one) == mark.before.get(one) for one in self.behaviors)
                shown += "; not switched yet, or back" if is_as_before else "; DRIFT: somebody switched it meanwhile"
        return ProviderStatus(on=on, detail=shown, held_by=mark.run_id if mark is not None else None)

    def _not_ours(self, targets: Mapping[str, str], before: Mapping[str, str]) -> list[str]:
        return [
            f"{one} goes to {targets.get(one, 'nowhere: it is gone')}, went to {before[one]} before"
            for one in before
            if targets.get(one) not in (self.origin, before[one])
        ]

    def _switch(self, wanted: Callable[[Mapping[str, str]], Mapping[str, str]]) -> None:
        """The behaviours go where `wanted`, asked with what stands now, says. Raises: MaintenanceFailed."""
        tried = False
        for race in range(1, _RACES + 1):
            config, etag = self._config()
            changes = {one: to for one, to in wanted(_targets(config)).items() if _targets(config)[one] != to}
            gone = sorted({to for to in changes.values() if to not in _origins(config)})
            if gone:
                raise MaintenanceFailed(
                    f"{self.name}: the origin {gone[0]} is not there any more.",
                    hint="Add it again, or set the behaviours by hand.",
                )
            if not changes:
                break
            tried = True
            try:
                self._update(_with(config, changes), etag)
                break
            except MaintenanceFailed as error:
                if error.__cause__ is None or code_of(error.__cause__) not in _STALE or race == _RACES:
                    raise
        self.wait.until(self._deployed, doing=f"{self.name}: reaching every edge", setting=_LIMIT, kind=_KIND)
        if tried:
            self._read_back(wanted)
            if self.invalidate:
                self._invalidate(etag)

    def _read_back(self, wanted: Callable[[Mapping[str, str]], Mapping[str, str]]) -> None:
        config, _ = self._config()
        targets = _targets(config)
        left = [one for one, to in wanted(targets).items() if targets[one] != to]
        if left:
            raise MaintenanceFailed(
                f"{self.name}: {left[0]} was switched back by somebody else at once.",
                hint="Find out who else writes the distribution, and run again.",
                code="maintenance_drift",
            )

    def _update(self, config: DistributionConfigOutputTypeDef, etag: str) -> None:
        self._cloudfront.idempotent(  # what is older than it was read is refused
            lambda cloudfront: cloudfront.update_distribution(
                Id=self.distribution, IfMatch=etag, DistributionConfig=config
            ),
            doing=f"{self.name}: switching the origin",
        )

    def _invalidate(self, reference: str) -> None:
        """What the edges hold is dropped. The same reference, again, is the same invalidation."""
        batch = {"CallerReference": f"migrator-{reference}", "Paths": {"Quantity": 1, "Items": ["/*"]}}
        found = self._cloudfront.idempotent(
            lambda cloudfront: cloudfront.create_invalidation(
                DistributionId=self.distribution, InvalidationBatch=batch
            ),
            doing=f"{self.name}: dropping what is cached",
        )["Invalidation"]

        def look() -> tuple[bool | None, str]:
            status = self._cloudfront.idempotent(
                lambda cloudfront: cloudfront.get_invalidation(DistributionId=self.distribution, Id=found["Id"]),
                doing=f"{self.name}: looking at the invalidation",
            )["Invalidation"]["Status"]
            return str(status).lower() == "completed" or None, str(status)

        self.wait.until(look, doing=f"{self.name}: dropping what is cached", setting=_LIMIT, kind=_KIND)

    def _deployed(self) -> tuple[bool | None, str]:
        status = self._get()["Status"]
        return status == "Deployed" or None, str(status)

    def _refuse_unknown(self, config: DistributionConfigOutputTypeDef, targets: Mapping[str, str]) -> None:
        missing = [one for one in self.behaviors if one not in targets]
        if missing:
            raise MaintenanceFailed(
                f"{self.name} has no behaviour {missing[0]}.", hint=f"It has: {', '.join(targets)}."
            )
        if self.origin not in _origins(config):
            raise MaintenanceFailed(
                f"{self.name} has no origin {self.origin}.",
                hint=f"Add one that serves the maintenance page; it has: {', '.join(sorted(_origins(config)))}.",
            )

    def _config(self) -> tuple[DistributionConfigOutputTypeDef, str]:
        found = self._cloudfront.idempotent(
            lambda cloudfront: cloudfront.get_distribution_config(Id=self.distribution),
            doing=f"{self.name}: reading it",
        )
        return found["DistributionConfig"], found["ETag"]

    def _get(self) -> Any:
        return self._cloudfront.idempotent(
            lambda cloudfront: cloudfront.get_distribution(Id=self.distribution), doing=f"{self.name}: looking at it"
        )["Distribution"]

    @cached_property
    def _arn(self) -> str:
        return str(self._get()["ARN"])

    def _tags(self) -> dict[str, str]:
        found = self._cloudfront.idempotent(
            lambda cloudfront: cloudfront.list_tags_for_resource(Resource=self._arn), doing=f"{self.name}: reading tags"
        )
        return {tag["Key"]: tag.get("Value", "") for tag in found["Tags"].get("Items", [])}

    def _mark(self) -> Mark | None:
        return marks.read(self._tags())

    def _unmark(self) -> None:
        keys = marks.keys(self._tags())
        if keys:
            self._cloudfront.idempotent(
                lambda cloudfront: cloudfront.untag_resource(Resource=self._arn, TagKeys={"Items": keys}),
                doing=f"{self.name}: removing its tags",
            )

    @cached_property
    def _cloudfront(self) -> Service:
        return self.account.service("cloudfront", MaintenanceFailed)


_KIND = MaintenanceFailed


def _targets(config: DistributionConfigOutputTypeDef) -> dict[str, str]:
    """Behaviour -> the id of the origin, or group of origins, that it goes to."""
    others = _items(config, "CacheBehaviors")
    return {
        DEFAULT: config["DefaultCacheBehavior"]["TargetOriginId"],
        **{one["PathPattern"]: one["TargetOriginId"] for one in others},
    }


def _origins(config: DistributionConfigOutputTypeDef) -> set[str]:
    """Everything that a behaviour may go to: origins and groups of them."""
    groups = _items(config, "OriginGroups")
    return {one["Id"] for one in config["Origins"]["Items"]} | {one["Id"] for one in groups}


def _with(config: DistributionConfigOutputTypeDef, changes: Mapping[str, str]) -> DistributionConfigOutputTypeDef:
    """The same, with other origins."""
    changed: Any = {**config}
    if DEFAULT in changes:
        changed["DefaultCacheBehavior"] = {**config["DefaultCacheBehavior"], "TargetOriginId": changes[DEFAULT]}
    if _items(config, "CacheBehaviors"):
        items = [
            {**one, "TargetOriginId": changes.get(one["PathPattern"], one["TargetOriginId"])}
            for one in _items(config, "CacheBehaviors")
        ]
        changed["CacheBehaviors"] = {**changed["CacheBehaviors"], "Items": items}
    result: DistributionConfigOutputTypeDef = changed
    return result


def _items(config: Any, name: str) -> list[Any]:
    return list((config.get(name) or {}).get("Items") or [])
