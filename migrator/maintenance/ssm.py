"""A parameter of the Parameter Store that says whether maintenance is on; the application watches it.

What was there before is one of the parameter's own earlier versions: only the version's number is saved, never the
value.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from migrator.aws import Account, Service
from migrator.aws.refusals import code_of
from migrator.errors import MaintenanceFailed
from migrator.failpoints import Effect, effect
from migrator.maintenance import ProviderStatus, marks

if TYPE_CHECKING:
    from mypy_boto3_ssm.type_defs import ParameterTypeDef

_MARK = "migrator"  # the key by which a value of ours is known
_GONE = {"ParameterNotFound", "ParameterVersionNotFound"}


@dataclass(frozen=True, kw_only=True)
class Ssm:
    """The parameter is replaced by a version that says on, and put back as a newer version of what it was."""

    account: Account
    parameter: str
    environment: str
    says: str = "maintenance"  # the "mode" in the value

    @property
    def name(self) -> str:
        return f"ssm {self.parameter}"

    def standing(self, run_id: str) -> dict[str, str]:
        """Raises: MaintenanceFailed, also for a parameter that is a secret."""
        current = self._current()
        said = _ours(current)
        if said is None:
            if current is None:
                return {"version": "absent"}
            if current["Type"] != "String":
                raise MaintenanceFailed(
                    f"The parameter {self.parameter} is a {current['Type']}.",
                    hint="A flag is no secret: name a parameter of the type String.",
                )
            return {"version": str(current["Version"])}
        if said["run"] != run_id:
            raise marks.foreign(f"The parameter {self.parameter}", said["run"], environment=self.environment)
        return {"version": str(said.get("before", "absent"))}

    @effect(Effect.OUTSIDE_ON)
    def on(self, run_id: str) -> dict[str, str]:
        """The parameter says on. Raises: MaintenanceFailed."""
        before = self.standing(run_id)
        if _ours(self._current()) is None:
            said = {
                _MARK: 1,
                "on": True,
                "run": run_id,
                "environment": self.environment,
                "since": datetime.now(UTC).isoformat(timespec="seconds"),
                "mode": self.says,
                "before": before["version"],
            }
            self._put(json.dumps(said), run_id=run_id, new=before["version"] == "absent")
            after = _ours(self._current())
            if after is None or after["run"] != run_id:
                raise MaintenanceFailed(
                    f"The parameter {self.parameter} was replaced by somebody else at the same moment.",
                    hint="Find out who else writes it, and run again.",
                    code="maintenance_drift",
                )
        return before

    @effect(Effect.OUTSIDE_OFF)
    def off(self, run_id: str, saved: dict[str, str]) -> None:
        """The parameter says what it said before, or is gone where there was none. Raises: MaintenanceFailed."""
        current = self._current()
        said = _ours(current)
        if said is None:
            self._refuse_drift(current, saved)
            return
        if said["run"] != run_id:
            raise marks.foreign(f"The parameter {self.parameter}", said["run"], environment=self.environment)
        version = saved.get("version") or str(said.get("before", "absent"))
        if version == "absent":
            self._delete()
            return
        before = self._get(f"{self.parameter}:{version}")
        if before is None:
            raise MaintenanceFailed(
                f"Version {version} of the parameter {self.parameter}, which was there before the run, is gone.",
                hint="Put the value back by hand.",
            )
        self._put(before["Value"], run_id=run_id, new=False)

    def status(self) -> ProviderStatus:
        current = self._current()
        said = _ours(current)
        if current is None:
            return ProviderStatus(on=False, detail=f"there is no parameter {self.parameter}")
        if said is None:
            on = _says_on(current["Value"])
            return ProviderStatus(on=on, detail=f"version {current['Version']}, not written by migrator")
        return ProviderStatus(
            on=bool(said.get("on")),
            detail=f"version {current['Version']}, written by the run {said['run']}",
            held_by=said["run"],
        )

    def _refuse_drift(self, current: ParameterTypeDef | None, saved: Mapping[str, str]) -> None:
        """Raises: MaintenanceFailed where somebody else has said on, over what was ours."""
        version = saved.get("version")
        if current is None or version is None or str(current["Version"]) == version:
            return
        before = None if version == "absent" else self._get(f"{self.parameter}:{version}")
        if before is not None and before["Value"] == current["Value"]:
            return  # put back already
        if _says_on(current["Value"]):
            raise MaintenanceFailed(
                f"The parameter {self.parameter} was replaced by somebody else during the run and says on; it is left "
                f"as it is (version {current['Version']}).",
                hint="Set it by hand if maintenance is over.",
                code="maintenance_drift",
            )

    def _current(self) -> ParameterTypeDef | None:
        return self._get(self.parameter)

    def _get(self, name: str) -> ParameterTypeDef | None:
        try:
            found: ParameterTypeDef = self._ssm.idempotent(
                lambda ssm: ssm.get_parameter(Name=name), doing=f"Reading the parameter {name}"
            )["Parameter"]
        except MaintenanceFailed as error:
            if error.__cause__ is not None and code_of(error.__cause__) in _GONE:
                return None
            raise
        return found

    def _put(self, value: str, *, run_id: str, new: bool) -> None:
        how: dict[str, Any] = {"Overwrite": True}
        if new:  # tags are only taken then, and one that appeared meanwhile is not overwritten
            tags = [{"Key": marks.RUN, "Value": run_id}, {"Key": marks.ENVIRONMENT, "Value": self.environment}]
            how = {"Overwrite": False, "Type": "String", "Tags": tags}
        try:
            self._ssm.idempotent(
                lambda ssm: ssm.put_parameter(Name=self.parameter, Value=value, **how),
                doing=f"Writing the parameter {self.parameter}",
            )
        except MaintenanceFailed as error:
            # By somebody else, or by a first attempt whose answer was lost: who reads it next sees which.
            if error.__cause__ is None or code_of(error.__cause__) != "ParameterAlreadyExists":
                raise

    def _delete(self) -> None:
        try:
            self._ssm.idempotent(
                lambda ssm: ssm.delete_parameter(Name=self.parameter), doing=f"Deleting the parameter {self.parameter}"
            )
        except MaintenanceFailed as error:
            if error.__cause__ is None or code_of(error.__cause__) not in _GONE:
                raise

    @cached_property
    def _ssm(self) -> Service:
        return self.account.service("ssm", MaintenanceFailed)


def _ours(current: ParameterTypeDef | None) -> dict[str, Any] | None:
    """What a value of ours says; None where it is not ours."""
    if current is None:
        return None
    try:
        said = json.loads(current["Value"])
    except (ValueError, RecursionError):
        return None
    return said if isinstance(said, dict) and _MARK in said and isinstance(said.get("run"), str) else None


def _says_on(value: str) -> bool:
    """Whether somebody else's value holds users off, as far as its form is known."""
    try:
        said = json.loads(value)
    except (ValueError, RecursionError):
        said = value.strip().lower() in {"on", "true", "yes"}
    return said.get("on") is True if isinstance(said, dict) else said in (True, 1)
