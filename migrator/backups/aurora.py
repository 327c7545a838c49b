"""A backup by a snapshot of the Aurora cluster that the database stands on: of all the databases on it.

A restored cluster has no instance: a writer, like the original's, is made for it. What else there is about snapshots,
names and swaps is as for an instance (`rds.py`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from migrator.aws import Account, Service
from migrator.aws.refusals import code_of
from migrator.aws.waits import Wait
from migrator.backups import rds_settings
from migrator.backups.rds import RUN, Instance, is_restored, name_of
from migrator.backups.server import Address, Described, LeftBehind
from migrator.config.rds import RdsSettings
from migrator.errors import BackupFailed
from migrator.failpoints import Effect, effect

_GONE = {"DBClusterNotFoundFault", "DBClusterNotFound"}
_NO_SNAPSHOT = {"DBClusterSnapshotNotFoundFault", "DBClusterSnapshotNotFound"}
_THERE = {"DBClusterSnapshotAlreadyExistsFault", "DBClusterSnapshotAlreadyExists"}
_RESTORED = {"DBClusterAlreadyExistsFault", "DBInstanceAlreadyExists", "DBInstanceAlreadyExistsFault"}
_FAILED = {"failed", "inaccessible-encryption-credentials"}


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """One cluster, by its identifier."""

    account: Account
    id: str
    settings: RdsSettings
    wait: Wait  # for its progress; the limits are the settings'

    kind = "aurora"

    def described(self) -> Described:
        """Raises: BackupFailed where it is not there."""
        found = self.find(self.id)
        if found is None:
            raise BackupFailed(
                f"There is no Aurora cluster {self.id} in {self.account.region}.",
                hint='write rds.cluster = "NAME" for the environment, and [aws] region',
                code="rds_not_found",
            )
        settings = json.loads(json.dumps(found, default=str))
        writer = self._writer(found)
        if writer is not None:
            settings["Writer"] = json.loads(json.dumps(writer, default=str))
        members = found.get("DBClusterMembers", [])
        return Described(
            id=found["DBClusterIdentifier"],
            resource_id=found.get("DbClusterResourceId", ""),
            status=found.get("Status", ""),
            address=Address(host=found.get("Endpoint", ""), port=int(found.get("Port") or 0)),
            retention_days=int(found.get("BackupRetentionPeriod") or 0),
            restorable_until=found.get("LatestRestorableTime"),
            storage_gb=0,
            summary=f"{found.get('Engine')} {found.get('EngineVersion')}, {len(members)} members",
            settings=settings,
        )

    @effect(Effect.PROVIDER_CALL)
    def begin(self, run_id: str) -> str:
        """A snapshot of the cluster, tagged with the run, has been asked for. Safe to repeat. Returns its name."""
        name = name_of(run_id)
        try:
            self._rds.idempotent(
                lambda rds: rds.create_db_cluster_snapshot(
                    DBClusterIdentifier=self.id, DBClusterSnapshotIdentifier=name, Tags=[{"Key": RUN, "Value": run_id}]
                ),
                doing=f"Asking for a snapshot of the cluster {self.id}",
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
            if found is None or found["Status"] in _FAILED:
                how = "gone" if found is None else found["Status"]
                raise BackupFailed(f"The snapshot {snapshot} of the cluster {self.id} is {how}.", code="rds_snapshot")
            done = found["Status"] == "available"
            arn = found["DBClusterSnapshotArn"] if done else None
            return arn, f"{found['Status']}, {found.get('PercentProgress', 0)} %"

        arn: str = self._limited(self.settings.snapshot_timeout_s).until(
            look, doing=f"snapshot {snapshot}", setting="rds.snapshot_timeout_s", kind=BackupFailed
        )
        return arn

    @effect(Effect.PROVIDER_CALL)
    def delete(self, snapshot: str) -> None:
        """The snapshot is gone. Safe to repeat. Raises: BackupFailed."""
        try:
            self._rds.idempotent(
                lambda rds: rds.delete_db_cluster_snapshot(DBClusterSnapshotIdentifier=snapshot),
                doing=f"Deleting {snapshot}",
            )
        except BackupFailed as error:
            if code_of(error) not in _NO_SNAPSHOT:
                raise

    @effect(Effect.PROVIDER_CALL)
    def restore(self, snapshot: str, original: Mapping[str, Any], new_id: str, tags: Mapping[str, str]) -> None:
        """Another cluster with a writer is being made of the snapshot, with every setting. Safe to repeat."""
        accepted = rds_settings.accepted(self.account.client("rds"), "RestoreDBClusterFromSnapshot")
        parameters = rds_settings.for_restore(original, accepted) | {
            "DBClusterIdentifier": new_id,
            "SnapshotIdentifier": snapshot,
            "Engine": original["Engine"],
            "EngineVersion": original["EngineVersion"],
            "Tags": rds_settings.tags(original, tags),
        }
        self._call("restore_db_cluster_from_snapshot", parameters, new_id)
        self._add_writer(original, new_id, tags)

    def to_moment(self, moment: datetime, original: Mapping[str, Any], new_id: str, tags: Mapping[str, str]) -> None:
        """The same, as the cluster was at a moment, by its automated backups."""
        accepted = rds_settings.accepted(self.account.client("rds"), "RestoreDBClusterToPointInTime")
        parameters = rds_settings.for_restore(original, accepted) | {
            "DBClusterIdentifier": new_id,
            "SourceDbClusterResourceId": original["DbClusterResourceId"],
            "RestoreToTime": moment,
            "Tags": rds_settings.tags(original, tags),
        }
        self._call("restore_db_cluster_to_point_in_time", parameters, new_id)
        self._add_writer(original, new_id, tags)

    def available(self, new_id: str) -> Described:
        """The cluster of that name can be connected to. Raises: BackupFailed."""
        self._instance(new_id).available(_writer_of(new_id))

        def look() -> tuple[Described | None, str]:
            found = self.find(new_id)
            if found is None or found.get("Status") != "available":
                return None, "not there yet" if found is None else str(found.get("Status"))
            other = Cluster(account=self.account, id=new_id, settings=self.settings, wait=self.wait)
            return other.described(), "available"

        made: Described = self._limited(self.settings.restore_timeout_s).until(
            look, doing=f"cluster {new_id}", setting="rds.restore_timeout_s", kind=BackupFailed
        )
        return made

    @effect(Effect.PROVIDER_CALL)
    def complete(self, new_id: str, original: Mapping[str, Any]) -> tuple[str, ...]:
        """What a restore does not take is set too. Returns the settings that still differ. Raises: BackupFailed."""
        accepted = rds_settings.accepted(self.account.client("rds"), "ModifyDBCluster")
        changes = rds_settings.for_modify(original, self.available(new_id).settings, accepted)
        if changes:
            self._rds.idempotent(
                lambda rds: rds.modify_db_cluster(DBClusterIdentifier=new_id, ApplyImmediately=True, **changes),
                doing=f"Setting what the cluster {new_id} lacks",
            )
        return rds_settings.differences(original, self.available(new_id).settings)

    @effect(Effect.PROVIDER_CALL)
    def rename(self, resource_id: str, new_id: str) -> None:
        """The cluster of that resource id bears the name. Safe to repeat. Raises: BackupFailed."""
        found = self.by_resource(resource_id)
        if found is None:
            raise BackupFailed(f"There is no cluster with the resource id {resource_id}.", code="rds_not_found")
        old_id = found["DBClusterIdentifier"]
        if old_id != new_id:
            if self.find(new_id) is not None:
                raise BackupFailed(f"The name {new_id} is another cluster's.", code="rds_name_taken")
            self._rds.idempotent(
                lambda rds: rds.modify_db_cluster(
                    DBClusterIdentifier=old_id, NewDBClusterIdentifier=new_id, ApplyImmediately=True
                ),
                doing=f"Renaming the cluster {old_id} to {new_id}",
            )

        def look() -> tuple[bool | None, str]:
            now = self.by_resource(resource_id)
            if now is None:
                return None, "not to be seen just now"
            named = now["DBClusterIdentifier"] == new_id and now.get("Status") == "available"
            return named or None, f"{now['DBClusterIdentifier']}, {now.get('Status')}"

        self._limited(self.settings.restore_timeout_s).until(
            look, doing=f"renaming {old_id} to {new_id}", setting="rds.restore_timeout_s", kind=BackupFailed
        )

    def left_behind(self) -> tuple[LeftBehind, ...]:
        """What is bound to this very cluster and would not follow its name. Raises: BackupFailed."""
        found = self.described().settings
        members = [one["DBInstanceIdentifier"] for one in found.get("DBClusterMembers", [])]
        left = [
            LeftBehind(what="member", name=one, then="it stays with the old cluster: the new one has a writer alone")
            for one in members
        ]
        for one in members:
            left += [item for item in self._instance(one).left_behind() if item not in left]
        return tuple(left)

    def free_percent(self, storage_gb: int) -> float | None:  # noqa: ARG002  its storage grows by itself
        return None

    def find(self, name: str) -> dict[str, Any] | None:
        """The cluster of that name, as RDS describes it."""
        return self._one("describe_db_clusters", "DBClusters", _GONE, DBClusterIdentifier=name)

    def by_resource(self, resource_id: str) -> dict[str, Any] | None:
        """The cluster with that resource id, whatever it is called just now."""
        found: list[dict[str, Any]] = self._rds.idempotent(
            lambda rds: [
                one for page in rds.get_paginator("describe_db_clusters").paginate() for one in page["DBClusters"]
            ],
            doing="Looking at the clusters of RDS",
        )
        return next((one for one in found if one.get("DbClusterResourceId") == resource_id), None)

    def snapshot(self, name: str) -> dict[str, Any] | None:
        return self._one(
            "describe_db_cluster_snapshots", "DBClusterSnapshots", _NO_SNAPSHOT, DBClusterSnapshotIdentifier=name
        )

    def _adopt(self, name: str, run_id: str) -> None:
        found = self.snapshot(name)
        tags = {tag["Key"]: tag["Value"] for tag in (found or {}).get("TagList", [])}
        if found is None or tags.get(RUN) != run_id or found.get("DBClusterIdentifier") != self.id:
            raise BackupFailed(
                f"There is a cluster snapshot {name} already, and it is not this run's.", code="rds_snapshot"
            )

    def _add_writer(self, original: Mapping[str, Any], new_id: str, tags: Mapping[str, str]) -> None:
        writer = original.get("Writer")
        if writer is None:
            raise BackupFailed(f"The cluster {self.id} had no writer when it was backed up: its class is not known.")
        accepted = rds_settings.accepted(self.account.client("rds"), "CreateDBInstance")
        of_cluster = {"VpcSecurityGroupIds", "BackupRetentionPeriod", "PreferredBackupWindow", "Port", "KmsKeyId"}
        of_cluster |= {"StorageType", "StorageEncrypted", "DeletionProtection", "MasterUsername", "DBSubnetGroupName"}
        of_cluster |= {"EnableIAMDatabaseAuthentication", "EnableCloudwatchLogsExports", "MultiAZ", "LicenseModel"}
        of_cluster |= {"Iops", "StorageThroughput", "OptionGroupName", "MaxAllocatedStorage", "NetworkType"}
        parameters = {
            name: value for name, value in rds_settings.for_restore(writer, accepted).items() if name not in of_cluster
        } | {
            "DBInstanceIdentifier": _writer_of(new_id),
            "DBClusterIdentifier": new_id,
            "Engine": original["Engine"],
            "Tags": rds_settings.tags(writer, tags),
        }
        self._call("create_db_instance", parameters, _writer_of(new_id))

    def _call(self, operation: str, parameters: Mapping[str, Any], new_id: str) -> None:
        if is_restored(self._named(new_id), parameters, new_id):
            return
        try:
            self._rds.idempotent(
                lambda rds: getattr(rds, operation)(**parameters), doing=f"Restoring beside: making {new_id}"
            )
        except BackupFailed as error:  # by the first attempt, whose answer was lost
            if code_of(error) not in _RESTORED or not is_restored(self._named(new_id), parameters, new_id):
                raise

    def _named(self, name: str) -> dict[str, Any] | None:
        """The cluster of that name, or the instance."""
        return self.find(name) or self._instance(name).find(name)

    def _instance(self, name: str) -> Instance:
        return Instance(account=self.account, id=name, settings=self.settings, wait=self.wait)

    def _writer(self, found: Mapping[str, Any]) -> dict[str, Any] | None:
        members = found.get("DBClusterMembers", [])
        name = next((one["DBInstanceIdentifier"] for one in members if one.get("IsClusterWriter")), None)
        if name is None:
            return None
        return self._instance(name).find(name)

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


def _writer_of(cluster: str) -> str:
    """The name of a restored cluster's writer."""
    return f"{cluster}-1"
