"""A backup by a snapshot of the RDS instance that the database stands on: of all the databases on it.

It is restored beside, as another instance with every setting of the original; to give that the original's name is a
step of its own, which a person asks for (`rename`). Nothing here is ever done by itself.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any

from migrator.aws import Account, Service
from migrator.aws.refusals import code_of
from migrator.aws.waits import Wait
from migrator.backups import rds_settings
from migrator.backups.server import Address, Described, LeftBehind
from migrator.config.rds import RdsSettings
from migrator.errors import BackupFailed
from migrator.failpoints import Effect, effect

RUN, BACKUP = "migrator:run", "migrator:backup"
_GONE = {"DBInstanceNotFound", "DBInstanceNotFoundFault"}
_NO_SNAPSHOT = {"DBSnapshotNotFound", "DBSnapshotNotFoundFault"}
_THERE = {"DBSnapshotAlreadyExists", "DBSnapshotAlreadyExistsFault"}
_RESTORED = {"DBInstanceAlreadyExists", "DBInstanceAlreadyExistsFault"}
_FAILED = {"failed", "incompatible-restore", "incompatible-parameters", "incompatible-network", "storage-full"}


def name_of(run_id: str, what: str = "") -> str:
    """What a run's snapshot or restored instance is called: RDS takes letters, digits and single hyphens."""
    name = re.sub(r"[^a-z0-9]+", "-", f"mig-{run_id}{f'-{what}' if what else ''}".lower())
    return name.strip("-")[:60].rstrip("-")


def is_restored(found: Mapping[str, Any] | None, parameters: Mapping[str, Any], new_id: str) -> bool:
    """Whether what bears the name already is what these parameters make. Raises: BackupFailed for another's."""
    if found is None:
        return False
    tags = {tag["Key"]: tag["Value"] for tag in found.get("TagList", [])}
    if tags.get(BACKUP) != {tag["Key"]: tag["Value"] for tag in parameters["Tags"]}.get(BACKUP):
        raise BackupFailed(
            f"There is {new_id} already, and it is not restored from this backup.",
            hint="Look at it in the console of AWS; when nobody needs it, delete it.",
            code="rds_name_taken",
        )
    return True


@dataclass(frozen=True, kw_only=True)
class Instance:
    """One instance, by its identifier."""

    account: Account
    id: str
    settings: RdsSettings
    wait: Wait  # for its progress; the limits are the settings'

    kind = "rds"

    def described(self) -> Described:
        """Raises: BackupFailed where it is not there."""
        found = self.find(self.id)
        if found is None:
            raise BackupFailed(
                f"There is no RDS instance {self.id} in {self.account.region}.",
                hint='write rds.instance = "NAME" for the environment, and [aws] region',
                code="rds_not_found",
            )
        endpoint = found.get("Endpoint") or {}
        return Described(
            id=found["DBInstanceIdentifier"],
            resource_id=found.get("DbiResourceId", ""),
            status=found.get("DBInstanceStatus", ""),
            address=Address(host=endpoint.get("Address", ""), port=int(endpoint.get("Port") or 0)),
            retention_days=int(found.get("BackupRetentionPeriod") or 0),
            restorable_until=found.get("LatestRestorableTime"),
            storage_gb=int(found.get("AllocatedStorage") or 0),
            summary=f"{found.get('DBInstanceClass')}, {found.get('Engine')} {found.get('EngineVersion')}, "
            f"{found.get('AllocatedStorage')} GB",
            settings=json.loads(json.dumps(found, default=str)),
            cluster=found.get("DBClusterIdentifier"),
        )

    @effect(Effect.PROVIDER_CALL)
    def begin(self, run_id: str) -> str:
        """A snapshot of the instance, tagged with the run, has been asked for. Safe to repeat. Returns its name.

        Raises: BackupFailed, also where there is one of that name that is not this run's.
        """
        name = name_of(run_id)
        try:
            self._rds.idempotent(
                lambda rds: rds.create_db_snapshot(
                    DBInstanceIdentifier=self.id, DBSnapshotIdentifier=name, Tags=[{"Key": RUN, "Value": run_id}]
                ),
                doing=f"Asking for a snapshot of the instance {self.id}",
            )
        except BackupFailed as error:
            if code_of(error) not in _THERE:
                raise
            self._adopt(name, run_id)
        return name

    def finish(self, snapshot: str) -> str:
        """The snapshot is available. Returns its ARN. Raises: BackupFailed when it failed or took too long."""

        def look() -> tuple[str | None, str]:
            found = self.snapshot(snapshot)
            if found is None:
                # The waiter of AWS's own takes this for the end, and a good one.
                raise BackupFailed(f"The snapshot {snapshot} of the instance {self.id} is gone.", code="rds_snapshot")
            if found["Status"] in _FAILED:
                raise BackupFailed(
                    f"The snapshot {snapshot} of the instance {self.id} is {found['Status']}.",
                    hint="look at the instance's events in the console of AWS",
                    code="rds_snapshot",
                )
            done = found["Status"] == "available"
            return found["DBSnapshotArn"] if done else None, f"{found['Status']}, {found.get('PercentProgress', 0)} %"

        arn: str = self._limited(self.settings.snapshot_timeout_s).until(
            look, doing=f"snapshot {snapshot}", setting="rds.snapshot_timeout_s", kind=BackupFailed
        )
        return arn

    @effect(Effect.PROVIDER_CALL)
    def delete(self, snapshot: str) -> None:
        """The snapshot is gone. Safe to repeat. Raises: BackupFailed."""
        try:
            self._rds.idempotent(
                lambda rds: rds.delete_db_snapshot(DBSnapshotIdentifier=snapshot), doing=f"Deleting {snapshot}"
            )
        except BackupFailed as error:
            if code_of(error) not in _NO_SNAPSHOT:
                raise

    @effect(Effect.PROVIDER_CALL)
    def restore(self, snapshot: str, original: Mapping[str, Any], new_id: str, tags: Mapping[str, str]) -> None:
        """Another instance is being made of the snapshot, with every setting of the original. Safe to repeat."""
        rds_client = self.account.client("rds")
        accepted = rds_settings.accepted(rds_client, "RestoreDBInstanceFromDBSnapshot")
        parameters = rds_settings.for_restore(original, accepted) | {
            "DBInstanceIdentifier": new_id,
            "DBSnapshotIdentifier": snapshot,
            "Tags": rds_settings.tags(original, tags),
        }
        self._restore("restore_db_instance_from_db_snapshot", parameters, new_id)

    def to_moment(self, moment: datetime, original: Mapping[str, Any], new_id: str, tags: Mapping[str, str]) -> None:
        """The same, as the instance was at a moment, by its automated backups."""
        rds_client = self.account.client("rds")
        accepted = rds_settings.accepted(rds_client, "RestoreDBInstanceToPointInTime")
        parameters = rds_settings.for_restore(original, accepted) | {
            "SourceDbiResourceId": original["DbiResourceId"],
            "TargetDBInstanceIdentifier": new_id,
            "RestoreTime": moment,
            "Tags": rds_settings.tags(original, tags),
        }
        self._restore("restore_db_instance_to_point_in_time", parameters, new_id)

    def available(self, new_id: str) -> Described:
        """The instance of that name can be connected to. Raises: BackupFailed."""

        def look() -> tuple[Described | None, str]:
            found = self.find(new_id)
            status = "not there yet" if found is None else str(found.get("DBInstanceStatus"))
            if status in _FAILED:
                raise BackupFailed(f"The instance {new_id} is {status}.", hint="look at its events in the console")
            done = found is not None and status == "available" and bool(found.get("Endpoint"))
            return Instance(account=self.account, id=new_id, settings=self.settings, wait=self.wait).described() if (
                done
            ) else None, status

        made: Described = self._limited(self.settings.restore_timeout_s).until(
            look, doing=f"instance {new_id}", setting="rds.restore_timeout_s", kind=BackupFailed
        )
        return made

    @effect(Effect.PROVIDER_CALL)
    def complete(self, new_id: str, original: Mapping[str, Any]) -> tuple[str, ...]:
        """What a restore does not take is set too. Returns the settings that still differ. Raises: BackupFailed."""
        accepted = rds_settings.accepted(self.account.client("rds"), "ModifyDBInstance")
        changes = rds_settings.for_modify(original, self.available(new_id).settings, accepted)
        if changes:
            self._rds.idempotent(
                lambda rds: rds.modify_db_instance(DBInstanceIdentifier=new_id, ApplyImmediately=True, **changes),
                doing=f"Setting what the instance {new_id} lacks",
            )
        return rds_settings.differences(original, self.available(new_id).settings)

    @effect(Effect.PROVIDER_CALL)
    def rename(self, resource_id: str, new_id: str) -> None:
        """The instance of that resource id bears the name. Safe to repeat. Raises: BackupFailed.

        It is known by its resource id alone: a name may be nobody's for a while, and another's after it.
        """
        found = self.by_resource(resource_id)
        if found is None:
            raise BackupFailed(f"There is no instance with the resource id {resource_id}.", code="rds_not_found")
        old_id = found["DBInstanceIdentifier"]
        if old_id != new_id:
            other = self.find(new_id)
            if other is not None:
                raise BackupFailed(
                    f"The name {new_id} is another instance's ({other.get('DbiResourceId')}).", code="rds_name_taken"
                )
            self._rds.idempotent(
                lambda rds: rds.modify_db_instance(
                    DBInstanceIdentifier=old_id, NewDBInstanceIdentifier=new_id, ApplyImmediately=True
                ),
                doing=f"Renaming the instance {old_id} to {new_id}",
            )

        def look() -> tuple[bool | None, str]:
            now = self.by_resource(resource_id)
            if now is None:
                return None, "not to be seen just now"
            named = now["DBInstanceIdentifier"] == new_id and now.get("DBInstanceStatus") == "available"
            return named or None, f"{now['DBInstanceIdentifier']}, {now.get('DBInstanceStatus')}"

        self._limited(self.settings.restore_timeout_s).until(
            look, doing=f"renaming {old_id} to {new_id}", setting="rds.restore_timeout_s", kind=BackupFailed
        )

    def left_behind(self) -> tuple[LeftBehind, ...]:
        """What is bound to this very instance and would not follow its name. Raises: BackupFailed."""
        found = self.described()
        left = [
            LeftBehind(what="read replica", name=name, then="it goes on following the old instance: make it anew")
            for name in found.settings.get("ReadReplicaDBInstanceIdentifiers", [])
        ]
        left += self._proxies(found.id)
        left += [
            LeftBehind(what="alarm", name=name, then="it watches the name, so the new instance from then on")
            for name in self._alarms(found.id)
        ]
        stacks = {tag["Key"]: tag["Value"] for tag in found.settings.get("TagList", [])}
        owner = stacks.get("aws:cloudformation:stack-name")
        left.append(
            LeftBehind(
                what="infrastructure code",
                name=f"CloudFormation stack {owner}" if owner else "Terraform, CloudFormation or CDK, if they made it",
                then="it knows the old instance: import the new one, or its next change may undo or replace it",
            )
        )
        left.append(
            LeftBehind(
                what="login by token",
                name=f"policies with rds-db:connect on {found.resource_id}",
                then="the new instance has another resource id: allow that one",
            )
        )
        return tuple(left)

    def free_percent(self, storage_gb: int) -> float | None:
        """Of its storage, by CloudWatch; None where that has no number for it. Raises: BackupFailed."""
        now = datetime.now(UTC)
        points = self.account.service("cloudwatch", BackupFailed).idempotent(
            lambda cloudwatch: cloudwatch.get_metric_statistics(
                Namespace="AWS/RDS",
                MetricName="FreeStorageSpace",
                Dimensions=[{"Name": "DBInstanceIdentifier", "Value": self.id}],
                StartTime=now - timedelta(minutes=30),
                EndTime=now,
                Period=60,
                Statistics=["Minimum"],
            ),
            doing=f"Asking CloudWatch for the free storage of {self.id}",
        )["Datapoints"]
        if not points or not storage_gb:
            return None
        latest = max(points, key=lambda point: point["Timestamp"])
        return float(latest["Minimum"]) / (storage_gb * 2**30) * 100

    def find(self, name: str) -> dict[str, Any] | None:
        """The instance of that name, as RDS describes it."""
        return self._one("describe_db_instances", "DBInstances", _GONE, DBInstanceIdentifier=name)

    def by_resource(self, resource_id: str) -> dict[str, Any] | None:
        """The instance with that resource id, whatever it is called just now."""
        filters = [{"Name": "dbi-resource-id", "Values": [resource_id]}]
        return self._one("describe_db_instances", "DBInstances", _GONE, Filters=filters)

    def snapshot(self, name: str) -> dict[str, Any] | None:
        return self._one("describe_db_snapshots", "DBSnapshots", _NO_SNAPSHOT, DBSnapshotIdentifier=name)

    def _adopt(self, name: str, run_id: str) -> None:
        found = self.snapshot(name)
        tags = {tag["Key"]: tag["Value"] for tag in (found or {}).get("TagList", [])}
        if found is None or tags.get(RUN) != run_id or found.get("DBInstanceIdentifier") != self.id:
            raise BackupFailed(
                f"There is a snapshot {name} already, and it is not this run's.",
                hint=f"look at it: aws rds describe-db-snapshots --db-snapshot-identifier {name}",
                code="rds_snapshot",
            )

    def _restore(self, operation: str, parameters: Mapping[str, Any], new_id: str) -> None:
        if is_restored(self.find(new_id), parameters, new_id):
            return
        try:
            self._rds.idempotent(
                lambda rds: getattr(rds, operation)(**parameters), doing=f"Restoring beside, as the instance {new_id}"
            )
        except BackupFailed as error:  # by the first attempt, whose answer was lost
            if code_of(error) not in _RESTORED or not is_restored(self.find(new_id), parameters, new_id):
                raise

    def _proxies(self, instance: str) -> list[LeftBehind]:
        proxies = self._rds.idempotent(lambda rds: rds.describe_db_proxies(), doing="Looking for RDS proxies")
        found = []
        for proxy in proxies["DBProxies"]:
            targets = self._targets(proxy["DBProxyName"])
            if any(target.get("RdsResourceId") == instance for target in targets):
                then = "register the new instance with it (aws rds register-db-proxy-targets)"
                found.append(LeftBehind(what="RDS proxy", name=proxy["DBProxyName"], then=then))
        return found

    def _targets(self, proxy: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._rds.idempotent(
            lambda rds: rds.describe_db_proxy_targets(DBProxyName=proxy), doing=f"Looking at the proxy {proxy}"
        )["Targets"]
        return found

    def _alarms(self, instance: str) -> list[str]:
        alarms = self.account.service("cloudwatch", BackupFailed).idempotent(
            lambda cloudwatch: list(cloudwatch.get_paginator("describe_alarms").paginate()), doing="Looking for alarms"
        )
        dimension = {"Name": "DBInstanceIdentifier", "Value": instance}
        return [
            alarm["AlarmName"]
            for page in alarms
            for alarm in page["MetricAlarms"]
            if dimension in alarm.get("Dimensions", [])
        ]

    def _one(self, operation: str, key: str, gone: set[str], **parameters: Any) -> dict[str, Any] | None:
        try:
            found: list[dict[str, Any]] = self._rds.idempotent(
                lambda rds: getattr(rds, operation)(**parameters)[key], doing=f"Looking at {key} of RDS"
            )
        except BackupFailed as error:
            if code_of(error) in gone:
                return None
            raise
        return found[0] if found else None

    def _limited(self, limit_s: float) -> Wait:
        return Wait(
            limit_s=limit_s,
            every_s=self.settings.poll_s,
            progress=self.wait.progress,
            sleep=self.wait.sleep,
            clock=self.wait.clock,
        )

    @cached_property
    def _rds(self) -> Service:
        return self.account.service("rds", BackupFailed)
