"""From how RDS describes an instance or a cluster to what makes another one like it.

What an operation takes is asked of boto3's own model of it, so that a setting which AWS adds is not silently lost as
long as it bears the same name in both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

_OWN = "migrator:"
_STRIPED_GB = 400  # of PostgreSQL on gp3: below, IOPS and throughput are given
_RESERVED = "aws:"
# Parameters whose value stands elsewhere in the description than under their own name.
_ELSEWHERE: Mapping[str, Callable[[Mapping[str, Any]], Any]] = {
    "DBSubnetGroupName": lambda found: (
        found["DBSubnetGroup"].get("DBSubnetGroupName")
        if isinstance(found.get("DBSubnetGroup"), Mapping)
        else found.get("DBSubnetGroup")
    ),
    "VpcSecurityGroupIds": lambda found: [
        group["VpcSecurityGroupId"] for group in found.get("VpcSecurityGroups") or []
    ],
    "DBParameterGroupName": lambda found: _first(found.get("DBParameterGroups"), "DBParameterGroupName"),
    "DBClusterParameterGroupName": lambda found: found.get("DBClusterParameterGroup"),
    "OptionGroupName": lambda found: _unless_default(_first(found.get("OptionGroupMemberships"), "OptionGroupName")),
    "Port": lambda found: found.get("Port") or (found.get("Endpoint") or {}).get("Port"),
    "EnableIAMDatabaseAuthentication": lambda found: found.get("IAMDatabaseAuthenticationEnabled"),
    "EnableCloudwatchLogsExports": lambda found: found.get("EnabledCloudwatchLogsExports"),
    "EnablePerformanceInsights": lambda found: found.get("PerformanceInsightsEnabled"),
    "EnableCustomerOwnedIp": lambda found: found.get("CustomerOwnedIpEnabled"),
    "CACertificateIdentifier": lambda found: found.get("CACertificateIdentifier"),
    "Domain": lambda found: _first(found.get("DomainMemberships"), "Domain"),
    "DomainIAMRoleName": lambda found: _first(found.get("DomainMemberships"), "IAMRoleName"),
    "ServerlessV2ScalingConfiguration": lambda found: (
        {
            key: value
            for key, value in (found.get("ServerlessV2ScalingConfiguration") or {}).items()
            if key in ("MinCapacity", "MaxCapacity", "SecondsUntilAutoPause")
        }
        or None
    ),
}
# What a restore must not be told: it is the snapshot's own, or of this very instance.
_NEVER = frozenset(
    {
        "DBInstanceIdentifier",
        "DBClusterIdentifier",
        "DBSnapshotIdentifier",
        "DBClusterSnapshotIdentifier",
        "Engine",
        "EngineVersion",
        "EngineMode",
        "DBName",
        "DatabaseName",
        "AllocatedStorage",
        "TagList",
        "Tags",
        "SourceDbiResourceId",
        "AvailabilityZones",
        "MasterUserSecretKmsKeyId",
    }
)
_AFTERWARDS = (
    "BackupRetentionPeriod",
    "PreferredBackupWindow",
    "PreferredMaintenanceWindow",
    "MaxAllocatedStorage",
    "MonitoringInterval",
    "MonitoringRoleArn",
    "EnablePerformanceInsights",
    "PerformanceInsightsKMSKeyId",
    "PerformanceInsightsRetentionPeriod",
    "DatabaseInsightsMode",
    "PromotionTier",
)
_COMPARED = (
    "DBInstanceClass",
    "MultiAZ",
    "PubliclyAccessible",
    "StorageType",
    "Iops",
    "StorageThroughput",
    "AutoMinorVersionUpgrade",
    "DeletionProtection",
    "CopyTagsToSnapshot",
    "KmsKeyId",
    "LicenseModel",
    "DBSubnetGroupName",
    "VpcSecurityGroupIds",
    "DBParameterGroupName",
    "DBClusterParameterGroupName",
    "OptionGroupName",
    "Port",
    "EnableIAMDatabaseAuthentication",
    "EnableCloudwatchLogsExports",
    "CACertificateIdentifier",
    "NetworkType",
    *_AFTERWARDS,
)


def accepted(client: Any, operation: str) -> frozenset[str]:
    """The parameters that an operation of RDS takes."""
    return frozenset(client.meta.service_model.operation_model(operation).input_shape.members)


def for_restore(original: Mapping[str, Any], accepted: frozenset[str]) -> dict[str, Any]:
    """Every setting of the original that the operation takes."""
    found = {name: value(original, name) for name in accepted - _NEVER}
    if original.get("MultiAZ"):
        found.pop("AvailabilityZone", None)  # the two exclude each other
    small = int(original.get("AllocatedStorage") or 0) < _STRIPED_GB
    if found.get("StorageType") not in ("gp3", "io1", "io2") or (found.get("StorageType") == "gp3" and small):
        found.pop("Iops", None)  # not to be chosen for these
        found.pop("StorageThroughput", None)
    if not found.get("StorageThroughput"):
        found.pop("StorageThroughput", None)  # 0: it has none of its own, and a restore does not take that
    return {name: one for name, one in found.items() if one not in (None, [], "", {})}


def for_modify(original: Mapping[str, Any], restored: Mapping[str, Any], accepted: frozenset[str]) -> dict[str, Any]:
    """What a restore does not take, where the restored one differs."""
    changes = {name: value(original, name) for name in _AFTERWARDS if name in accepted}
    return {
        name: one for name, one in changes.items() if one not in (None, [], "", {}) and one != value(restored, name)
    }


def differences(original: Mapping[str, Any], restored: Mapping[str, Any]) -> tuple[str, ...]:
    """The settings in which the restored one is not as the original was."""
    return tuple(
        f"{name} is {value(restored, name)}, was {value(original, name)}"
        for name in _COMPARED
        if (value(original, name) or None) != (value(restored, name) or None)
    )


def tags(original: Mapping[str, Any], own: Mapping[str, str]) -> list[dict[str, str]]:
    """The original's tags, but those that AWS keeps to itself, and our own."""
    kept = {
        tag["Key"]: tag.get("Value", "")
        for tag in original.get("TagList", [])
        if not tag["Key"].startswith((_RESERVED, _OWN))
    }
    return [{"Key": key, "Value": text} for key, text in {**kept, **own}.items()]


def value(found: Mapping[str, Any], name: str) -> Any:
    """The value of the parameter in the description."""
    where = _ELSEWHERE.get(name)
    return where(found) if where is not None else found.get(name)


def _first(items: Any, key: str) -> Any:
    return items[0].get(key) if items else None


def _unless_default(name: str | None) -> str | None:
    """The group, unless it is the one that RDS gives by itself."""
    return None if name is None or name.startswith("default:") else name
