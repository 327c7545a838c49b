"""Snapshots of RDS and Aurora, what is restored of them, and names that change hands."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from migrator.aws.waits import Wait
from migrator.backups import pitr, rds_settings
from migrator.backups.aurora import Cluster
from migrator.backups.rds import BACKUP, RUN, Instance, name_of
from migrator.config.rds import RdsSettings
from migrator.errors import BackupFailed
from tests.integration.aws.server import Killed, Shop, killed_after, refused

ID = "20261123t175103_4f1c"
SETTINGS = RdsSettings(poll_s=0.01, snapshot_timeout_s=2.0, restore_timeout_s=5.0)
WAIT = Wait(limit_s=2.0, every_s=0.01, sleep=lambda _seconds: None)


@dataclass(frozen=True)
class Case:
    """An instance or a cluster, and how to make what works on it with another account."""

    shop: Shop
    server: Instance | Cluster

    def harmed(self, harm: Callable[[str, Callable[[], Any]], Any]) -> Instance | Cluster:
        self.shop.harmed.harm = harm
        return replace(self.server, account=self.shop.harmed)

    def tags(self) -> dict[str, str]:
        return {RUN: ID, BACKUP: f"{ID}-{self.shop.key}"}


def instance(shop: Shop) -> Instance:
    name = f"shop-{shop.key}"
    shop.account.client("rds").create_db_instance(
        DBInstanceIdentifier=name,
        DBInstanceClass="db.r6g.large",
        Engine="postgres",
        EngineVersion="16.3",
        AllocatedStorage=100,
        MasterUsername="postgres",
        MasterUserPassword="not a secret",
        MultiAZ=True,
        StorageType="gp3",
        DeletionProtection=False,
        EnableIAMDatabaseAuthentication=True,
        BackupRetentionPeriod=7,
        CopyTagsToSnapshot=True,
        Tags=[{"Key": "team", "Value": "shop"}],
    )
    return Instance(account=shop.account, id=name, settings=SETTINGS, wait=WAIT)


def cluster(shop: Shop) -> Cluster:
    name = f"shop-{shop.key}"
    rds = shop.account.client("rds")
    rds.create_db_cluster(
        DBClusterIdentifier=name,
        Engine="aurora-postgresql",
        MasterUsername="postgres",
        MasterUserPassword="not a secret",
        BackupRetentionPeriod=7,
    )
    rds.create_db_instance(
        DBInstanceIdentifier=f"{name}-writer",
        DBClusterIdentifier=name,
        DBInstanceClass="db.r6g.large",
        Engine="aurora-postgresql",
    )
    return Cluster(account=shop.account, id=name, settings=SETTINGS, wait=WAIT)


@pytest.fixture(params=["rds", "aurora"])
def case(request: pytest.FixtureRequest, at_aws: Shop) -> Iterator[Case]:
    made: Instance | Cluster = {"rds": instance, "aurora": cluster}[request.param](at_aws)
    yield Case(at_aws, made)
    rds = at_aws.account.client("rds")  # names are the account's: the next test wants them
    for delete, key in (
        (rds.delete_db_snapshot, "DBSnapshotIdentifier"),
        (rds.delete_db_cluster_snapshot, "DBClusterSnapshotIdentifier"),
    ):
        with suppress(rds.exceptions.ClientError):
            delete(**{key: name_of(ID)})


def test_snapshot_is_restored_beside_with_the_settings_of_the_original(case: Case) -> None:
    server, before = case.server, case.server.described()
    snapshot = server.begin(ID)
    assert server.begin(ID) == snapshot, "safe to repeat"
    assert f":{snapshot}" in server.finish(snapshot)
    new = f"{name_of(ID)}-{case.shop.key}"
    for _ in range(2):
        server.restore(snapshot, before.settings, new, case.tags())
    made = server.available(new)
    now = server.described()
    assert (now.id, now.resource_id, now.status) == (before.id, before.resource_id, before.status)
    assert made.resource_id != before.resource_id
    assert made.settings["TagList"][-1]["Value"] == f"{ID}-{case.shop.key}"
    if isinstance(server, Instance):
        assert {"Key": "team", "Value": "shop"} in made.settings["TagList"]
        for name in ("DBInstanceClass", "MultiAZ", "StorageType", "CopyTagsToSnapshot"):
            assert made.settings[name] == before.settings[name], name
    server.complete(new, before.settings)


@pytest.mark.slow
def test_killed_after_each_call_the_same_run_finds_its_snapshot(case: Case) -> None:
    for number in (1, 2):
        broken = case.harmed(killed_after(number))
        with pytest.raises(Killed):
            broken.finish(broken.begin(ID))
        assert case.server.begin(ID) == name_of(ID)
    case.server.finish(name_of(ID))


@pytest.mark.slow
def test_snapshot_of_somebody_else_is_not_adopted(case: Case) -> None:
    rds = case.shop.account.client("rds")
    if isinstance(case.server, Instance):
        rds.create_db_snapshot(DBInstanceIdentifier=case.server.id, DBSnapshotIdentifier=name_of(ID))
    else:
        rds.create_db_cluster_snapshot(DBClusterIdentifier=case.server.id, DBClusterSnapshotIdentifier=name_of(ID))
    with pytest.raises(BackupFailed, match="not this run's"):
        case.server.begin(ID)


@pytest.mark.slow
@pytest.mark.parametrize("status", ["creating", "failed", "gone"])
def test_snapshot_that_is_not_finished_is_none(case: Case, status: str) -> None:
    snapshot = case.server.begin(ID)

    def harm(name: str, call: Callable[[], Any]) -> Any:
        answer = call()
        for one in answer.get("DBSnapshots") or answer.get("DBClusterSnapshots") or ():
            one["Status"], one["PercentProgress"] = status, 40
        if status == "gone":
            answer |= {"DBSnapshots": [], "DBClusterSnapshots": []}
        return answer

    told: list[str] = []
    server = replace(case.harmed(harm), wait=replace(WAIT, progress=told.append))
    with pytest.raises(BackupFailed) as caught:
        server.finish(snapshot)
    assert caught.value.code == ("timeout" if status == "creating" else "rds_snapshot")
    assert status != "creating" or "40 %" in told[0]


@pytest.mark.slow
def test_denied_and_throttled_calls_say_so(case: Case) -> None:
    with pytest.raises(BackupFailed) as caught:
        case.harmed(refused("AccessDenied", at=1)).begin(ID)
    assert caught.value.code == "aws_denied"
    assert "rds:Create" in (caught.value.hint or "")
    server = case.harmed(refused("Throttling", at=1, times=3))
    server.finish(server.begin(ID))


def test_names_change_hands_by_resource_id(case: Case) -> None:
    server, before = case.server, case.server.described()
    snapshot = server.begin(ID)
    new = f"{name_of(ID)}-{case.shop.key}"
    server.restore(snapshot, before.settings, new, case.tags())
    restored = server.available(new)
    with pytest.raises(BackupFailed) as caught:
        server.rename(restored.resource_id, before.id)
    assert caught.value.code == "rds_name_taken", "RDS itself would take care; the server of the tests would not"
    for _ in range(2):
        server.rename(before.resource_id, f"{before.id}-old")
        server.rename(restored.resource_id, before.id)
    assert server.described().resource_id == restored.resource_id
    old = server.find(f"{before.id}-old")
    assert old is not None
    assert (old.get("DbiResourceId") or old.get("DbClusterResourceId")) == before.resource_id


@pytest.mark.slow
def test_instance_that_is_not_to_be_seen_for_a_while_is_waited_for(case: Case) -> None:
    before = case.server.described()
    seen: list[str] = []

    def harm(name: str, call: Callable[[], Any]) -> Any:
        answer = call()
        if "Modify" in name:
            seen.append(name)
        elif seen and len(seen) < 4:
            seen.append(name)
            return answer | {"DBInstances": [], "DBClusters": []}
        return answer

    case.harmed(harm).rename(before.resource_id, f"{before.id}-old")
    assert len(seen) == 4
    assert case.server.find(f"{before.id}-old") is not None


def test_what_would_be_left_behind_is_named(case: Case) -> None:
    cloudwatch = case.shop.account.client("cloudwatch")
    watched = case.server.id if isinstance(case.server, Instance) else f"{case.server.id}-writer"
    cloudwatch.put_metric_alarm(
        AlarmName=f"cpu-{case.shop.key}",
        MetricName="CPUUtilization",
        Namespace="AWS/RDS",
        Dimensions=[{"Name": "DBInstanceIdentifier", "Value": watched}],
        Period=60,
        EvaluationPeriods=1,
        Statistic="Average",
        Threshold=90,
        ComparisonOperator="GreaterThanThreshold",
    )
    found = [str(one) for one in case.server.left_behind()]
    assert any(one.startswith(f"alarm cpu-{case.shop.key}") for one in found)
    assert any(one.startswith("infrastructure code") for one in found)
    assert any("rds-db:connect" in one for one in found)


@pytest.mark.slow
def test_free_storage_is_what_cloudwatch_saw_last(at_aws: Shop) -> None:
    server = instance(at_aws)
    assert server.free_percent(100) is None
    at_aws.account.client("cloudwatch").put_metric_data(
        Namespace="AWS/RDS",
        MetricData=[
            {
                "MetricName": "FreeStorageSpace",
                "Dimensions": [{"Name": "DBInstanceIdentifier", "Value": server.id}],
                "Timestamp": datetime.now(UTC) - timedelta(minutes=2),
                "Value": 25 * 2**30,
                "Unit": "Bytes",
            }
        ],
    )
    assert server.free_percent(100) == pytest.approx(25)


def test_automated_backups_reach_far_and_close_enough(at_aws: Shop) -> None:
    now = datetime(2026, 11, 23, 12, tzinfo=UTC)
    found = replace(instance(at_aws).described(), restorable_until=now - timedelta(minutes=5))
    assert "7 days" in pitr.check(found, SETTINGS, now=now)
    late = replace(found, restorable_until=now - timedelta(hours=1))
    for bad, code in (
        (late, "pitr_lag"),
        (replace(found, restorable_until=None), "pitr_lag"),
        (replace(found, retention_days=0), "pitr_retention"),
    ):
        with pytest.raises(BackupFailed) as caught:
            pitr.check(bad, SETTINGS, now=now)
        assert caught.value.code == code
        assert caught.value.hint


def test_every_setting_that_a_restore_takes_is_given(at_aws: Shop) -> None:
    client = at_aws.account.client("rds")
    taken = rds_settings.accepted(client, "RestoreDBInstanceFromDBSnapshot")
    original = {
        "DBInstanceClass": "db.m6g.large",
        "MultiAZ": False,
        "AvailabilityZone": "eu-central-1b",
        "StorageType": "io2",
        "Iops": 4000,
        "AllocatedStorage": 500,
        "PubliclyAccessible": False,
        "DeletionProtection": True,
        "IAMDatabaseAuthenticationEnabled": True,
        "Endpoint": {"Port": 5433},
        "DBSubnetGroup": {"DBSubnetGroupName": "db"},
        "VpcSecurityGroups": [{"VpcSecurityGroupId": "sg-1"}, {"VpcSecurityGroupId": "sg-2"}],
        "DBParameterGroups": [{"DBParameterGroupName": "shop16"}],
        "OptionGroupMemberships": [{"OptionGroupName": "shop-options"}],
        "EnabledCloudwatchLogsExports": ["postgresql"],
        "CACertificateIdentifier": "rds-ca-rsa2048-g1",
        "NetworkType": "DUAL",
        "DBName": "shop",
        "Engine": "postgres",
    }
    found = rds_settings.for_restore(original, taken)
    assert found == {
        "DBInstanceClass": "db.m6g.large",
        "MultiAZ": False,
        "AvailabilityZone": "eu-central-1b",
        "StorageType": "io2",
        "Iops": 4000,
        "PubliclyAccessible": False,
        "DeletionProtection": True,
        "EnableIAMDatabaseAuthentication": True,
        "Port": 5433,
        "DBSubnetGroupName": "db",
        "VpcSecurityGroupIds": ["sg-1", "sg-2"],
        "DBParameterGroupName": "shop16",
        "OptionGroupName": "shop-options",
        "EnableCloudwatchLogsExports": ["postgresql"],
        "CACertificateIdentifier": "rds-ca-rsa2048-g1",
        "NetworkType": "DUAL",
    } | ({"AllocatedStorage": 500} if "AllocatedStorage" in found else {})
    assert "AvailabilityZone" not in rds_settings.for_restore(original | {"MultiAZ": True}, taken)
    assert "Iops" not in rds_settings.for_restore(original | {"StorageType": "gp3", "AllocatedStorage": 100}, taken)
    gp3 = original | {"StorageType": "gp3", "StorageThroughput": 500}
    assert rds_settings.for_restore(gp3, taken)["StorageThroughput"] == 500
    assert "StorageThroughput" not in rds_settings.for_restore(original | {"StorageThroughput": 0}, taken)
    changed = rds_settings.for_modify(
        {"BackupRetentionPeriod": 14, "MonitoringInterval": 60},
        {"BackupRetentionPeriod": 1, "MonitoringInterval": 60},
        rds_settings.accepted(client, "ModifyDBInstance"),
    )
    assert changed == {"BackupRetentionPeriod": 14}
