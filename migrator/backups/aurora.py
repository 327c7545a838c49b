"""A backup by a snapshot of the Aurora cluster that the database stands on: of all the databases on it.

A restored cluster has no instance: a writer, like the original's, is made for it. What else there is about snapshots,
names and swaps is as for an instance (`rds.py`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from migrator.backups import rds_settings
from migrator.backups.rds import Instance
from migrator.backups.rds_server import FAILED, RdsServer, Words
from migrator.backups.server import Address, Described, LeftBehind
from migrator.errors import BackupFailed
from migrator.failpoints import Effect, effect


@dataclass(frozen=True, kw_only=True)
class Cluster(RdsServer):
    """One cluster, by its identifier."""

    kind = "aurora"
    words = Words(
        what="cluster",
        id="DBClusterIdentifier",
        resource_id="DbClusterResourceId",
        status="Status",
        servers="DBClusters",
        snapshot="db_cluster_snapshot",
        snapshots="DBClusterSnapshots",
        snapshot_id="DBClusterSnapshotIdentifier",
        snapshot_arn="DBClusterSnapshotArn",
        filter="",
    )

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
        self.make("restore_db_cluster_from_snapshot", parameters, new_id, self._named)
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
        self.make("restore_db_cluster_to_point_in_time", parameters, new_id, self._named)
        self._add_writer(original, new_id, tags)

    def available(self, new_id: str) -> Described:
        """The cluster of that name can be connected to. Raises: BackupFailed."""
        self._instance(new_id).available(_writer_of(new_id))

        def look() -> tuple[Described | None, str]:
            found = self.find(new_id)
            status = "not there yet" if found is None else str(found.get("Status"))
            if status in FAILED:
                raise BackupFailed(f"The cluster {new_id} is {status}.", hint="look at its events in the console")
            return replace(self, id=new_id).described() if status == "available" else None, status

        made: Described = self.limited(self.settings.restore_timeout_s).until(
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
        self.make("create_db_instance", parameters, _writer_of(new_id), self._named)

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


def _writer_of(cluster: str) -> str:
    """The name of a restored cluster's writer."""
    return f"{cluster}-1"
