"""A rule of an Application Load Balancer that comes before all others and answers 503.

The rule is made and deleted; no other rule is touched, least of all those that a blue/green deployment moves between
its target groups. Its own tags say whose it is.

A fixed response consists of a status, a type and a body: no header can be added to it (FixedResponseActionConfig in
the API's reference). So the page loads itself anew, and whoever needs a true Retry-After names a target group, such
as a function, that answers with it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from typing import TYPE_CHECKING, Any

from migrator.aws import Account, Service
from migrator.aws.refusals import code_of
from migrator.config.aws_maintenance import AlbProvider
from migrator.errors import MaintenanceFailed
from migrator.failpoints import Effect, effect
from migrator.maintenance import ProviderStatus, marks

if TYPE_CHECKING:
    from mypy_boto3_elbv2.type_defs import RuleTypeDef

_HOSTS = "migrator:hosts"  # so that two providers on one listener tell their rules apart
_MOST_TAGGED = 20  # resources in one call
_GONE = {"RuleNotFound", "RuleNotFoundException"}
_RACES = 5  # how often somebody may take the number that was free


@dataclass(frozen=True, kw_only=True)
class _Found:
    """The listener's rules but the default one."""

    ours: tuple[RuleTypeDef, ...]  # of this environment and these hosts, whichever run's
    tags: Mapping[str, Mapping[str, str]]  # ARN of a rule -> its tags
    rules: tuple[RuleTypeDef, ...]

    def run_of(self, rule: RuleTypeDef) -> str:
        return self.tags[rule["RuleArn"]].get(marks.RUN, "")

    def of_others(self) -> list[RuleTypeDef]:
        """Rules that no migrator made."""
        return [rule for rule in self.rules if marks.RUN not in self.tags[rule["RuleArn"]]]


@dataclass(frozen=True, kw_only=True)
class Alb:
    account: Account
    settings: AlbProvider
    environment: str

    @property
    def name(self) -> str:
        hosts = f" ({', '.join(self.settings.hosts)})" if self.settings.hosts else ""
        _, balancer, _, listener = self.settings.listener.rsplit("/", 3)
        return f"alb {balancer}/{listener}{hosts}"

    def standing(self, run_id: str) -> dict[str, str]:
        """Raises: MaintenanceFailed, also where no rule of ours could come before all others."""
        found = self._found()
        self._refuse_foreign(found, run_id)
        if not found.ours:
            self._place(found)
        return {"rule": "absent"}

    @effect(Effect.OUTSIDE_ON)
    def on(self, run_id: str) -> dict[str, str]:
        """The rule answers before all others. Raises: MaintenanceFailed."""
        before = self.standing(run_id)
        for race in count(1):
            found = self._found()
            self._refuse_foreign(found, run_id)
            if found.ours:
                self._to_the_front(found)
                break
            try:
                self._create(run_id, self._place(found))
            except MaintenanceFailed as error:
                if error.__cause__ is None or code_of(error.__cause__) != "PriorityInUse" or race == _RACES:
                    raise
        found = self._found()
        problems = [problem for rule in found.ours[:1] for problem in self._wrong(found, rule)]
        if not found.ours or problems:
            raise MaintenanceFailed(
                f"{self.name}: the rule was made, and {'; '.join(problems) or 'is not there any more'}.",
                hint="Find out who else changes the listener's rules, and run again.",
                code="maintenance_drift",
            )
        return before

    @effect(Effect.OUTSIDE_OFF)
    def off(self, run_id: str, saved: dict[str, str]) -> None:  # noqa: ARG002  the rule itself says whose it is
        """No rule of this run is there. Raises: MaintenanceFailed."""
        found = self._found()
        self._refuse_foreign(found, run_id)
        for rule in found.ours:
            self._delete(rule["RuleArn"])

    def status(self) -> ProviderStatus:
        found = self._found()
        if not found.ours:
            return ProviderStatus(on=False, detail="no rule of migrator is there")
        rule = found.ours[0]
        drift = self._wrong(found, rule)
        run_id = found.run_of(rule)
        detail = f"rule {rule.get('Priority')} of the run {run_id}"
        return ProviderStatus(
            on=not drift, detail=detail + "".join(f"; DRIFT: it {one}" for one in drift), held_by=run_id
        )

    def _refuse_foreign(self, found: _Found, run_id: str) -> None:
        for rule in found.ours:
            if found.run_of(rule) != run_id:
                raise marks.foreign(self.name, found.run_of(rule), environment=self.environment)

    def _place(self, found: _Found, *, own: RuleTypeDef | None = None) -> int:
        """The lowest number that is free. Raises: MaintenanceFailed where another's rule would come first."""
        taken = {_number(rule): rule for rule in found.rules if rule is not own}
        free = next(number for number in count(1) if number not in taken)
        first = min(found.of_others(), key=_number, default=None)
        if first is not None and _number(first) < free:
            raise MaintenanceFailed(
                f"{self.name}: the rule {first['RuleArn']} has the number {_number(first)}, and none lower is free.",
                hint="Rules of others are not touched: give that one a higher number "
                "(aws elbv2 set-rule-priorities), so that maintenance can come first.",
                code="maintenance_no_room",
            )
        return free

    def _to_the_front(self, found: _Found) -> None:
        """Our rule has a lower number than any of others. Raises: MaintenanceFailed where that cannot be."""
        rule = found.ours[0]
        first = min((_number(one) for one in found.of_others()), default=None)
        if first is None or _number(rule) < first:
            return
        number = self._place(found, own=rule)
        self._elbv2.idempotent(
            lambda elbv2: elbv2.set_rule_priorities(
                RulePriorities=[{"RuleArn": rule["RuleArn"], "Priority": number}],
            ),
            doing=f"{self.name}: putting our rule in front again",
        )

    def _create(self, run_id: str, number: int) -> None:
        tags = {marks.RUN: run_id, marks.ENVIRONMENT: self.environment, _HOSTS: self._digest}
        self._elbv2.idempotent(  # a second one of the same number is refused
            lambda elbv2: elbv2.create_rule(
                ListenerArn=self.settings.listener,
                Priority=number,
                Conditions=self._conditions(),
                Actions=[self._action()],
                Tags=[{"Key": key, "Value": value} for key, value in tags.items()],
            ),
            doing=f"{self.name}: making the rule",
        )

    def _conditions(self) -> list[dict[str, Any]]:
        if self.settings.hosts:
            return [{"Field": "host-header", "HostHeaderConfig": {"Values": list(self.settings.hosts)}}]
        return [{"Field": "path-pattern", "PathPatternConfig": {"Values": ["/*"]}}]

    def _action(self) -> dict[str, Any]:
        if self.settings.target_group is not None:
            return {"Type": "forward", "TargetGroupArn": self.settings.target_group}
        page = self.settings.page.replace("{retry_after_s}", str(self.settings.retry_after_s))
        answer = {"StatusCode": "503", "ContentType": self.settings.content_type, "MessageBody": page}
        return {"Type": "fixed-response", "FixedResponseConfig": answer}

    def _wrong(self, found: _Found, rule: RuleTypeDef) -> list[str]:
        """What about our rule is not as it was made."""
        wrong = []
        earlier = [one for one in found.of_others() if _number(one) < _number(rule)]
        if earlier:
            wrong.append(f"comes after the rule {_number(earlier[0])} of somebody else")
        wanted = self._action()
        is_ours = any(
            action["Type"] == wanted["Type"]
            and action.get("TargetGroupArn") == wanted.get("TargetGroupArn")
            and _status(action) == _status(wanted)
            for action in rule.get("Actions", [])
        )
        if not is_ours:
            wrong.append("was edited by somebody: it answers otherwise")
        return wrong

    def _found(self) -> _Found:
        rules = [rule for rule in self._rules() if not rule.get("IsDefault")]
        tags = self._tags([rule["RuleArn"] for rule in rules])
        rules = [rule for rule in rules if rule["RuleArn"] in tags]  # else it is gone by now
        mine = (self.environment, self._digest)
        ours = [
            rule
            for rule in rules
            if marks.RUN in tags[rule["RuleArn"]]
            and (tags[rule["RuleArn"]].get(marks.ENVIRONMENT), tags[rule["RuleArn"]].get(_HOSTS)) == mine
        ]
        return _Found(ours=tuple(ours), tags=tags, rules=tuple(rules))

    def _rules(self) -> list[RuleTypeDef]:
        found: list[RuleTypeDef] = []
        marker: dict[str, str] = {}
        while True:
            page = self._page(marker)
            found += page["Rules"]
            if not page.get("NextMarker"):
                return found
            marker = {"Marker": page["NextMarker"]}

    def _page(self, marker: Mapping[str, str]) -> Any:
        return self._elbv2.idempotent(
            lambda elbv2: elbv2.describe_rules(ListenerArn=self.settings.listener, **marker),
            doing=f"{self.name}: reading the rules",
        )

    def _tags(self, arns: Sequence[str]) -> dict[str, Mapping[str, str]]:
        """ARN of a rule -> its tags; without those that are gone by now."""
        found: dict[str, Mapping[str, str]] = {}
        for first in range(0, len(arns), _MOST_TAGGED):
            found |= self._some_tags(arns[first : first + _MOST_TAGGED])
        return found

    def _some_tags(self, arns: Sequence[str]) -> dict[str, Mapping[str, str]]:
        described = self._elbv2.idempotent(
            lambda elbv2: elbv2.describe_tags(ResourceArns=list(arns)), doing=f"{self.name}: reading tags"
        )
        return {
            one["ResourceArn"]: {tag["Key"]: tag.get("Value", "") for tag in one.get("Tags", [])}
            for one in described["TagDescriptions"]
        }

    def _delete(self, arn: str) -> None:
        try:
            self._elbv2.idempotent(
                lambda elbv2: elbv2.delete_rule(RuleArn=arn), doing=f"{self.name}: deleting the rule"
            )
        except MaintenanceFailed as error:
            if code_of(error) not in _GONE:  # by a first attempt whose answer was lost
                raise

    @property
    def _digest(self) -> str:
        hosts = " ".join(sorted(self.settings.hosts))
        return hashlib.sha256(hosts.encode()).hexdigest()[:12] if hosts else "all"

    @cached_property
    def _elbv2(self) -> Service:
        return self.account.service("elbv2", MaintenanceFailed)


def _number(rule: RuleTypeDef) -> int:
    return int(rule.get("Priority", "0"))


def _status(action: Any) -> str | None:
    """What a fixed response answers; None for what is none."""
    answer: Mapping[str, str] = action.get("FixedResponseConfig") or {}
    return answer.get("StatusCode")
