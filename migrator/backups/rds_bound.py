"""What is bound to an instance of RDS and does not follow its name when that is given to another one."""

from __future__ import annotations

from typing import Any

from migrator.aws import Account, Service
from migrator.backups.rds_server import tags_of
from migrator.backups.server import Described, LeftBehind
from migrator.errors import BackupFailed


def to_instance(account: Account, found: Described) -> tuple[LeftBehind, ...]:
    """What is bound to this very instance and would not follow its name. Raises: BackupFailed."""
    left = [
        LeftBehind(what="read replica", name=name, then="it goes on following the old instance: make it anew")
        for name in found.settings.get("ReadReplicaDBInstanceIdentifiers", [])
    ]
    left += _proxies(account, found.id)
    left += [
        LeftBehind(what="alarm", name=name, then="it watches the name, so the new instance from then on")
        for name in _alarms(account, found.id)
    ]
    owner = tags_of(found.settings).get("aws:cloudformation:stack-name")
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


def _proxies(account: Account, instance: str) -> list[LeftBehind]:
    service = account.service("rds", BackupFailed)
    proxies = service.idempotent(lambda rds: rds.describe_db_proxies(), doing="Looking for RDS proxies")
    found = []
    for proxy in proxies["DBProxies"]:
        targets = _targets(service, proxy["DBProxyName"])
        if any(target.get("RdsResourceId") == instance for target in targets):
            then = "register the new instance with it (aws rds register-db-proxy-targets)"
            found.append(LeftBehind(what="RDS proxy", name=proxy["DBProxyName"], then=then))
    return found


def _targets(service: Service, proxy: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = service.idempotent(
        lambda rds: rds.describe_db_proxy_targets(DBProxyName=proxy), doing=f"Looking at the proxy {proxy}"
    )["Targets"]
    return found


def _alarms(account: Account, instance: str) -> list[str]:
    alarms = account.service("cloudwatch", BackupFailed).idempotent(
        lambda cloudwatch: list(cloudwatch.get_paginator("describe_alarms").paginate()), doing="Looking for alarms"
    )
    dimension = {"Name": "DBInstanceIdentifier", "Value": instance}
    return [
        alarm["AlarmName"]
        for page in alarms
        for alarm in page["MetricAlarms"]
        if dimension in alarm.get("Dimensions", [])
    ]
