"""A backup by a snapshot of the RDS instance that the database stands on: of all the databases on it.

It is restored beside, as another instance with every setting of the original; to give that the original's name is a
step of its own, which a person asks for (`rename`). Nothing here is ever done by itself.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from migrator.backups import rds_bound, rds_settings
from migrator.backups.rds_server import BACKUP, FAILED, RUN, RdsServer, Words, name_of
from migrator.backups.server import Address, Described, LeftBehind
from migrator.errors import BackupFailed
from migrator.failpoints import Effect, effect

__all__ = ["BACKUP", "RUN", "Instance", "name_of"]


@dataclass(frozen=True, kw_only=True)
class Instance(RdsServer):
    """One instance, by its identifier."""

    kind = "rds"
    words = Words(
        what="instance",
        id="DBInstanceIdentifier",
        resource_id="DbiResourceId",
        status="DBInstanceStatus",
        servers="DBInstances",
        snapshot="db_snapshot",
        snapshots="DBSnapshots",
        snapshot_id="DBSnapshotIdentifier",
        snapshot_arn="DBSnapshotArn",
        filter="dbi-resource-id",
    )

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
    def restore(self, snapshot: str, original: Mapping[str, Any], new_id: str, tags: Mapping[str, str]) -> None:
        """Another instance is being made of the snapshot, with every setting of the original. Safe to repeat."""
        rds_client = self.account.client("rds")
        accepted = rds_settings.accepted(rds_client, "RestoreDBInstanceFromDBSnapshot")
        parameters = rds_settings.for_restore(original, accepted) | {
            "DBInstanceIdentifier": new_id,
            "DBSnapshotIdentifier": snapshot,
            "Tags": rds_settings.tags(original, tags),
        }
        self.make("restore_db_instance_from_db_snapshot", parameters, new_id, self.find)

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
        self.make("restore_db_instance_to_point_in_time", parameters, new_id, self.find)

    def available(self, new_id: str) -> Described:
        """The instance of that name can be connected to. Raises: BackupFailed."""

        def look() -> tuple[Described | None, str]:
            found = self.find(new_id)
            status = "not there yet" if found is None else str(found.get("DBInstanceStatus"))
            if status in FAILED:
                raise BackupFailed(f"The instance {new_id} is {status}.", hint="look at its events in the console")
            done = found is not None and status == "available" and bool(found.get("Endpoint"))
            return replace(self, id=new_id).described() if done else None, status

        made: Described = self.limited(self.settings.restore_timeout_s).until(
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

    def left_behind(self) -> tuple[LeftBehind, ...]:
        """What is bound to this very instance and would not follow its name. Raises: BackupFailed."""
        return rds_bound.to_instance(self.account, self.described())

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
