"""The least that a role must be allowed, for one environment's configuration: IAM policies with the ARNs in them.

Roles are split: `plan` only reads, `migrate` holds users off, backs up and lets them in, `recover` goes back and ends
maintenance, `prune` alone may delete backups, `start` starts the task that does any of these.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from migrator.config.aws_maintenance import AlbProvider, CloudFrontProvider, EcsProvider, SsmProvider
from migrator.config.models import Environment
from migrator.config.rds import endpoint
from migrator.config.references import pointers
from migrator.config.remote import Pointer
from migrator.config.store import is_s3, s3_address

Role = Literal["plan", "migrate", "recover", "prune", "start"]
ROLES: tuple[Role, ...] = get_args(Role)
SNAPSHOTS = "mig-*"  # what migrator calls its snapshots and the instances that it restores
_CHANGES = ("migrate", "recover")


@dataclass(frozen=True, kw_only=True)
class Where:
    """What ARNs are made of."""

    account: str  # twelve digits, or * where it is not known
    region: str

    @property
    def partition(self) -> str:
        for start, partition in (("cn-", "aws-cn"), ("us-gov-", "aws-us-gov")):
            if self.region.startswith(start):
                return partition
        return "aws"

    def arn(self, service: str, resource: str, *, region: str | None = None) -> str:
        return f"arn:{self.partition}:{service}:{self.region if region is None else region}:{self.account}:{resource}"


@dataclass(frozen=True, kw_only=True)
class Statement:
    """One statement of a policy."""

    sid: str
    actions: tuple[str, ...]
    resources: tuple[str, ...]
    condition: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


def statements(
    environment: Environment, role: Role, where: Where, *, also: tuple[str, ...] = (), journal: str | None = None
) -> tuple[Statement, ...]:
    """What the role must be allowed. `also` are texts with references that belong to no environment, as the
    signing key's; `journal` is the user that logs in to the journal by token. Empty where the configuration names
    nothing of AWS."""
    if role == "start":
        return _merged(list(_task(environment, where)))
    found: list[Statement] = []
    for one in environment.maintenance.outside:
        match one:
            case EcsProvider():
                found += _ecs(one, role, where)
            case AlbProvider():
                found += _alb(one, role, environment.name)
            case CloudFrontProvider():
                found += _cloudfront(one, role, where)
            case SsmProvider():
                found += _parameter(one, role, where)
    found += _store(environment, role, where)
    found += _rds(environment, role, where)
    found += [_by_token(journal, where)] if journal is not None else []
    found += _references(environment, also, where)
    return _merged(found)


def document(found: tuple[Statement, ...]) -> dict[str, object]:
    """The policy as IAM takes it."""
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Sid": one.sid,
                "Effect": "Allow",
                "Action": list(one.actions),
                "Resource": one.resources[0] if len(one.resources) == 1 else list(one.resources),
                **({"Condition": {key: dict(value) for key, value in one.condition.items()}} if one.condition else {}),
            }
            for one in found
        ],
    }


def _ecs(one: EcsProvider, role: Role, where: Where) -> Iterator[Statement]:
    if role == "prune":
        return
    cluster = one.cluster.rpartition("/")[2]
    service = where.arn("ecs", f"service/{cluster}/{one.service}")
    write = ("ecs:UpdateService", "ecs:TagResource", "ecs:UntagResource") if role in _CHANGES else ()
    yield Statement(sid="EcsService", actions=("ecs:DescribeServices", *write), resources=(service,))
    yield Statement(sid="EcsScaling", actions=("application-autoscaling:DescribeScalableTargets",), resources=("*",))
    if role in _CHANGES:
        yield Statement(
            sid="EcsTasks",
            actions=("ecs:ListTasks",),
            resources=("*",),
            condition={"ArnEquals": {"ecs:cluster": where.arn("ecs", f"cluster/{cluster}")}},
        )
        tasks = where.arn("ecs", f"task/{cluster}/*")
        yield Statement(sid="EcsTask", actions=("ecs:DescribeTasks",), resources=(tasks,))
        yield Statement(
            sid="EcsSuspend",
            actions=("application-autoscaling:RegisterScalableTarget",),
            resources=(where.arn("application-autoscaling", "scalable-target/*"),),
            condition={
                "StringEquals": {
                    "application-autoscaling:service-namespace": "ecs",
                    "application-autoscaling:scalable-dimension": "ecs:service:DesiredCount",
                }
            },
        )


def _alb(one: AlbProvider, role: Role, environment: str) -> Iterator[Statement]:
    if role == "prune":
        return
    read = ("elasticloadbalancing:DescribeRules", "elasticloadbalancing:DescribeTags")
    yield Statement(sid="AlbRead", actions=read, resources=("*",))  # they know no resources
    rules = one.listener.replace(":listener/app/", ":listener-rule/app/") + "/*"
    if role == "migrate":
        yield Statement(sid="AlbRule", actions=("elasticloadbalancing:CreateRule",), resources=(one.listener,))
        yield Statement(
            sid="AlbTag",
            actions=("elasticloadbalancing:AddTags",),
            resources=(rules,),
            condition={"StringEquals": {"elasticloadbalancing:CreateAction": "CreateRule"}},
        )
    if role in _CHANGES:
        yield Statement(
            sid="AlbOwnRules",
            actions=("elasticloadbalancing:SetRulePriorities", "elasticloadbalancing:DeleteRule"),
            resources=(rules,),
            condition={"StringEquals": {"aws:ResourceTag/migrator:environment": environment}},
        )


def _cloudfront(one: CloudFrontProvider, role: Role, where: Where) -> Iterator[Statement]:
    if role == "prune":
        return
    actions = ["GetDistribution", "GetDistributionConfig", "ListTagsForResource"]
    if role in _CHANGES:
        actions += ["UpdateDistribution", "TagResource", "UntagResource"]
        actions += ["CreateInvalidation", "GetInvalidation"] if one.invalidate else []
    yield Statement(
        sid="CloudFront",
        actions=tuple(f"cloudfront:{action}" for action in actions),
        resources=(where.arn("cloudfront", f"distribution/{one.distribution}", region=""),),
    )


def _parameter(one: SsmProvider, role: Role, where: Where) -> Iterator[Statement]:
    if role == "prune":
        return
    write = ("ssm:PutParameter", "ssm:AddTagsToResource", "ssm:DeleteParameter") if role in _CHANGES else ()
    arn = where.arn("ssm", f"parameter/{one.parameter.removeprefix('/')}")
    yield Statement(sid="SsmFlag", actions=("ssm:GetParameter", *write), resources=(arn,))


def _task(environment: Environment, where: Where) -> Iterator[Statement]:
    task = environment.task
    if task.cluster is None or task.definition is None:
        return
    cluster = task.cluster.rpartition("/")[2]
    family = task.definition.rpartition("/")[2].partition(":")[0]
    yield Statement(
        sid="TaskRun",
        actions=("ecs:RunTask",),
        resources=(where.arn("ecs", f"task-definition/{family}:*"),),
        condition={"ArnEquals": {"ecs:cluster": where.arn("ecs", f"cluster/{cluster}")}},
    )
    yield Statement(sid="TaskDefinition", actions=("ecs:DescribeTaskDefinition",), resources=("*",))
    tasks = where.arn("ecs", f"task/{cluster}/*")
    yield Statement(sid="TaskFollow", actions=("ecs:DescribeTasks", "ecs:StopTask"), resources=(tasks,))
    yield Statement(
        sid="TaskRoles",  # its own role and the one that fetches its image; name them here to narrow it further
        actions=("iam:PassRole",),
        resources=(where.arn("iam", "role/migrator*", region=""),),
        condition={"StringEquals": {"iam:PassedToService": "ecs-tasks.amazonaws.com"}},
    )
    logs = where.arn("logs", f"log-group:*:log-stream:*/{task.container}/*")
    yield Statement(sid="TaskLog", actions=("logs:GetLogEvents",), resources=(logs,))


def _store(environment: Environment, role: Role, where: Where) -> Iterator[Statement]:
    store = environment.backup.store
    if not is_s3(store):
        return
    address, settings = s3_address(store), environment.store
    bucket = f"arn:{where.partition}:s3:::{address.bucket}"
    objects = f"{bucket}/{address.prefix}/*"
    locks = ("s3:GetBucketObjectLockConfiguration",)
    yield Statement(sid="StoreBucket", actions=("s3:ListBucket", *locks), resources=(bucket,))
    actions = ["GetObject", "GetObjectVersion", "GetObjectAttributes", "GetObjectRetention"]
    if role == "migrate":
        actions += ["PutObject", "AbortMultipartUpload", "ListMultipartUploadParts"]
        actions += ["PutObjectRetention"] if settings.retain_days is not None else []
        uploads = ("s3:ListBucketMultipartUploads",)
        yield Statement(sid="StoreUploads", actions=uploads, resources=(bucket,))
    if role == "prune":
        actions += ["DeleteObject", "DeleteObjectVersion"]
        yield Statement(sid="StoreVersions", actions=("s3:ListBucketVersions",), resources=(bucket,))
    yield Statement(sid="StoreObjects", actions=tuple(f"s3:{action}" for action in actions), resources=(objects,))
    if settings.kms_key is not None:
        yield _key(settings.kms_key, where, "s3", writes=role == "migrate")


def _key(key: str, where: Where, via: str, *, writes: bool) -> Statement:
    arn, condition = key, {"StringEquals": {"kms:ViaService": f"{via}.{where.region}.amazonaws.com"}}
    if key.startswith("alias/"):  # a policy cannot name a key by its alias, but ask for it
        arn = where.arn("kms", "key/*")
        condition = {**condition, "ForAnyValue:StringEquals": {"kms:ResourceAliases": key}}
    elif not key.startswith("arn:"):
        arn = where.arn("kms", f"key/{key}")
    actions = ("kms:Decrypt", "kms:GenerateDataKey") if writes else ("kms:Decrypt",)
    return Statement(sid="StoreKey", actions=actions, resources=(arn,), condition=condition)


def _rds(environment: Environment, role: Role, where: Where) -> Iterator[Statement]:
    kinds = {"rds", "aurora", "pitr"} & set(environment.backup.kinds)
    login = environment.login
    if "login" in environment.sources and login is not None:  # by a token: there is no other way to say
        yield _by_token(login.user, where)
    if kinds & {"rds", "aurora"} and role == "prune":
        gone = tuple(where.arn("rds", f"{what}:{SNAPSHOTS}") for what in ("snapshot", "cluster-snapshot"))
        deletes = ("rds:DeleteDBSnapshot", "rds:DeleteDBClusterSnapshot")
        yield Statement(sid="RdsPrune", actions=deletes, resources=gone)
    if not kinds or role == "prune":
        return
    told = endpoint(login.host) if login is not None else None
    instance = environment.rds.instance or (told.id if told and told.kind == "instance" else None)
    cluster = environment.rds.cluster or (told.id if told and told.kind in ("cluster", "reader") else None)
    own = tuple(
        where.arn("rds", f"{what}:{name}")
        for what, name in (("db", instance or ("*" if cluster else None)), ("cluster", cluster))
        if name is not None
    ) or (where.arn("rds", "db:*"),)
    made = tuple(where.arn("rds", f"{what}:{SNAPSHOTS}") for what in ("snapshot", "cluster-snapshot"))
    describe = ("DBInstances", "DBClusters", "DBSnapshots", "DBClusterSnapshots", "DBInstanceAutomatedBackups")
    around = ("rds:DescribeDBProxies", "rds:DescribeDBProxyTargets", "cloudwatch:DescribeAlarms")
    yield Statement(
        sid="RdsRead",
        actions=(*(f"rds:Describe{one}" for one in describe), *around, "cloudwatch:GetMetricStatistics"),
        resources=("*",),
    )
    yield Statement(sid="RdsTags", actions=("rds:ListTagsForResource",), resources=(*own, *made))
    if role == "migrate" and kinds & {"rds", "aurora"}:
        actions = ("rds:CreateDBSnapshot", "rds:CreateDBClusterSnapshot", "rds:AddTagsToResource")
        yield Statement(sid="RdsSnapshot", actions=actions, resources=(*own, *made))
    if role == "recover" and kinds & {"rds", "aurora"}:
        yield from _rds_restore((*own, *made), where)


def _by_token(user: str, where: Where) -> Statement:
    # The resource is the instance's own id, which only RDS knows: DbiResourceId, or DbClusterResourceId.
    arn = where.arn("rds-db", f"dbuser:*/{user}")
    return Statement(sid="RdsLogin", actions=("rds-db:connect",), resources=(arn,))


def _rds_restore(known: tuple[str, ...], where: Where) -> Iterator[Statement]:
    restored = tuple(where.arn("rds", f"{what}:{SNAPSHOTS}") for what in ("db", "cluster"))
    groups = tuple(where.arn("rds", f"{what}:*") for what in ("subgrp", "pg", "cluster-pg", "og"))
    actions = (
        "rds:RestoreDBInstanceFromDBSnapshot",
        "rds:RestoreDBClusterFromSnapshot",
        "rds:CreateDBInstance",
        "rds:ModifyDBInstance",
        "rds:ModifyDBCluster",
        "rds:AddTagsToResource",
    )
    yield Statement(sid="RdsRestore", actions=actions, resources=(*known, *restored, *groups))
    yield Statement(
        sid="RdsKey",
        actions=("kms:DescribeKey", "kms:CreateGrant"),
        resources=(where.arn("kms", "key/*"),),
        condition={"StringEquals": {"kms:ViaService": f"rds.{where.region}.amazonaws.com"}},
    )
    yield Statement(
        sid="RdsMonitoring",  # where the instance has enhanced monitoring, its role is given to the restored one
        actions=("iam:PassRole",),
        resources=(where.arn("iam", "role/rds-monitoring-role", region=""),),
        condition={"StringEquals": {"iam:PassedToService": "monitoring.rds.amazonaws.com"}},
    )


def _references(environment: Environment, also: tuple[str, ...], where: Where) -> Iterator[Statement]:
    texts = (*environment.references.values(), *also)
    for one in sorted({one for text in texts for one in pointers(text)}, key=str):
        yield _read(one, where)


def _read(one: Pointer, where: Where) -> Statement:
    arn = one.name.startswith("arn:")
    if one.kind == "ssm":
        name = one.name if arn else where.arn("ssm", f"parameter/{one.name.removeprefix('/').partition(':')[0]}")
        return Statement(sid="Parameters", actions=("ssm:GetParameter",), resources=(name,))
    # Secrets Manager adds six characters of its own to a name.
    name = one.name if arn else where.arn("secretsmanager", f"secret:{one.name}-??????")
    return Statement(sid="Secrets", actions=("secretsmanager:GetSecretValue",), resources=(name,))


def _merged(found: list[Statement]) -> tuple[Statement, ...]:
    """Statements that differ in their resources alone are one; no two have the same name."""
    by_rest: dict[tuple[str, tuple[str, ...], str], Statement] = {}
    for one in found:
        key = (one.sid, one.actions, repr(one.condition))
        known = by_rest.get(key)
        resources = tuple(dict.fromkeys((*known.resources, *one.resources))) if known else one.resources
        by_rest[key] = Statement(sid=one.sid, actions=one.actions, resources=resources, condition=one.condition)
    result: list[Statement] = []
    for one in by_rest.values():
        same = sum(other.sid.rstrip("0123456789") == one.sid for other in result)
        sid = f"{one.sid}{same + 1}" if same else one.sid
        result.append(Statement(sid=sid, actions=one.actions, resources=one.resources, condition=one.condition))
    return tuple(result)
