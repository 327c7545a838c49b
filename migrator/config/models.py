"""The settings of an environment, as frozen models. The text of a field is also its help in editors."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    InstanceOf,
    StringConstraints,
    WithJsonSchema,
)

from migrator.config.approvals import ApprovalSettings
from migrator.config.attestation import RequireAttestation
from migrator.config.aws import AwsSettings
from migrator.config.aws_maintenance import AlbProvider, CloudFrontProvider, EcsProvider, SsmProvider
from migrator.config.drift import DriftSettings, OnDrift
from migrator.config.lint import LintSettings
from migrator.config.login import Login
from migrator.config.notifications import NotificationSettings
from migrator.config.rds import RdsSettings
from migrator.config.scratch import NO_SCRATCH, ScratchSettings
from migrator.config.settings import FilePath, Flag, Identifier, Seconds, Settings, Text
from migrator.config.store import StoreSettings, StoreText
from migrator.config.task import TaskSettings
from migrator.config.window import MaintenanceWindow, OnOverrun

Profile = Literal["guarded", "online"]
ChosenWay = Literal["auto", "atomic", "bluegreen", "stepwise"]
ChosenProof = Literal["auto", "full", "touched", "write_set"]
DatabaseMode = Literal["offline", "read-only", "none"]
BackupKind = Literal["dump", "clone", "pitr", "rds", "aurora"]
RestorePolicy = Literal["automatic", "ask", "never"]

MOST_JOBS = 4
ENVIRONMENT_NAME = r"^[A-Za-z0-9][A-Za-z0-9_-]*$"


def default_jobs() -> int:
    """The number of cores, at most 4."""
    return max(1, min(MOST_JOBS, os.cpu_count() or 1))


def _once(kinds: tuple[BackupKind, ...]) -> tuple[BackupKind, ...]:
    if len(set(kinds)) != len(kinds):
        raise ValueError("names a kind twice")
    return kinds


def _no_limit(value: object) -> object:
    return None if value == "none" else value


Argv = Annotated[tuple[Text, ...], Field(min_length=1)]


class FlagProvider(Settings):
    """A file that an application or a load balancer watches: it exists while maintenance is on."""

    type: Literal["flag"]
    path: FilePath
    """The file. Relative to migrator.toml's folder."""


class CommandProvider(Settings):
    """The user's own commands, each a list of arguments; no shell. {run} and {environment} in them are filled in."""

    type: Literal["command"]
    on: Argv
    """Turns maintenance on. Exit code 0 means that users are held off now."""
    off: Argv
    """Turns maintenance off."""
    status: Argv
    """Exit code 0: maintenance is on; 1: it is off."""
    timeout_s: Seconds = 60.0
    """Seconds that each of the commands may take."""


OutsideProvider = Annotated[
    FlagProvider | CommandProvider | EcsProvider | AlbProvider | CloudFrontProvider | SsmProvider, Discriminator("type")
]


class MaintenanceSettings(Settings):
    database: DatabaseMode = "offline"
    """offline: nobody but the run connects. read-only: others read; no proof that nobody wrote. none: users go on."""
    outside: tuple[OutsideProvider, ...] = ()
    """What holds users off outside the database, turned on in this order and off in reverse."""


class BackupSettings(Settings):
    kinds: Annotated[tuple[BackupKind, ...], AfterValidator(_once)] = ("dump",)
    """dump: pg_dump into the store. clone: a copy on the same server. rds, aurora: a snapshot of the instance or the
    cluster. pitr: its automated backups, verified. [] is a decision: no backup."""
    store: StoreText = "backups"
    """The folder that backups go to, relative to migrator.toml's folder; or s3://bucket/prefix."""
    jobs: Annotated[int, Field(strict=True, ge=1, le=64)] = Field(default_factory=default_jobs)
    """Connections of a dump or a restore. Default: the environment's jobs."""
    keep_days: Annotated[int, Field(strict=True, ge=0, le=36500)] = 7
    """Days that a database which was swapped out, or a clone, is kept before `migrator clean` may drop it."""
    restore: RestorePolicy = "automatic"
    """Whether a failed run restores by itself, asks first, or prints the runbook."""


class ChecksSettings(Settings):
    suites: tuple[FilePath, ...] = ()
    """Great Expectations suites: files or patterns, relative to migrator.toml's folder."""
    invariants: tuple[FilePath, ...] = ()
    """SQL invariants: files or patterns, relative to migrator.toml's folder."""
    expected_writes: tuple[Text, ...] = ()
    """Tables that triggers or cascades may write though no changeset names them: schema.table, with * and ?."""
    redact: tuple[Text, ...] = ()
    """Columns whose values are not shown where a check fails: column, table.column or schema.table.column, * and ?."""
    inside: Literal["all", "marked"] = "all"
    """Which checks run inside the transaction of the atomic way: all, or those marked `inside`."""
    inside_timeout_s: Seconds = 300.0
    """Seconds that one check may take inside the transaction."""


class LimitsSettings(Settings):
    lock_timeout_s: Seconds = 10.0
    """Seconds that a statement waits for a lock."""
    lock_retries: Annotated[int, Field(strict=True, ge=0, le=1000)] = 3
    """How often a migration that did not get its lock is tried again, after a random pause."""
    drain_s: Seconds = 60.0
    """Seconds that the sessions of others have to end before they are ended."""
    max_downtime_s: Seconds = 1800.0
    """Seconds of maintenance after which the run goes back by itself."""
    max_blocked_s: Annotated[
        Seconds | None,
        BeforeValidator(_no_limit),
        WithJsonSchema({"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"const": "none"}]}),
    ] = None
    """Seconds that the run may keep other sessions waiting before it rolls back; "none": no limit."""
    proof_budget_s: Seconds = 60.0
    """Seconds that fingerprints may take where the proof may choose."""
    restore_max_s: Seconds = 1800.0
    """A restore that would take longer, by estimate, is not started without a person."""
    migration_timeout_s: Seconds = 3600.0
    """Seconds that Liquibase may take in all."""
    backup_timeout_s: Seconds = 3600.0
    """Seconds that a backup, or a restore, may take."""
    check_timeout_s: Seconds = 300.0
    """Seconds that one check may take outside the transaction."""
    connect_timeout_s: Seconds = 10.0
    """Seconds that the server has to answer."""
    lease_s: Annotated[Seconds, Field(ge=5)] = 60.0
    """Seconds after its last sign of life at which a run counts as gone."""


class EnvironmentSettings(Settings):
    """Everything that a profile, [defaults], [environments.X] and the command line can choose."""

    profile: Profile = "guarded"
    """guarded: a maintenance window exists. online: there is none."""
    way: ChosenWay = "auto"
    """How the changes are applied. auto: atomic where every changeset allows it, else bluegreen or stepwise."""
    bluegreen: Flag = False
    """Whether auto may migrate a copy and swap it in, for what cannot be atomic."""
    contexts: str = ""
    """Liquibase's context filter."""
    labels: str = ""
    """Liquibase's label filter."""
    parameters: Mapping[str, str] = Field(default_factory=dict, repr=False)
    """Changelog parameters."""
    default_schema: Identifier | None = None
    """The schema that a changelog means when it names none. Default: the login's search_path."""
    liquibase_schema: Identifier | None = None
    """The schema of Liquibase's own tables. Default: default_schema."""
    protected: Flag = False
    """A person confirms each run; a backup is mandatory; the plan's way is never left."""
    maintenance_database: Identifier = "postgres"
    """The database of the same server that the run's lock and its copies are made from; never the target."""
    proof: ChosenProof = "auto"
    """full: fingerprints of all tables. touched: of the tables that a changeset names. write_set: the run's own locks
    alone. auto: the strongest that fits proof_budget_s."""
    jobs: Annotated[int, Field(strict=True, ge=1, le=64)] = Field(default_factory=default_jobs)
    """Connections that fingerprints, dumps and restores use. Default: the number of cores, at most 4."""
    maintenance_window: tuple[MaintenanceWindow, ...] = ()
    """When a run may begin: it is refused outside of all of them. Default: at any time."""
    on_overrun: OnOverrun = "warn"
    """What becomes of a run that would outlast the window, by estimate: it is told and goes on, or is refused."""
    on_drift: OnDrift = "warn"
    """What becomes of a run when somebody else has changed the schema since the last verified one."""
    drift: DriftSettings = DriftSettings()
    maintenance: MaintenanceSettings = MaintenanceSettings()
    backup: BackupSettings = Field(default_factory=BackupSettings)
    store: StoreSettings = StoreSettings()
    aws: AwsSettings = AwsSettings()
    rds: RdsSettings = RdsSettings()
    task: TaskSettings = TaskSettings()
    checks: ChecksSettings = ChecksSettings()
    limits: LimitsSettings = LimitsSettings()
    lint: LintSettings = LintSettings()
    notifications: NotificationSettings = NotificationSettings()
    require_attestation: RequireAttestation = RequireAttestation()
    approvals: ApprovalSettings = ApprovalSettings()
    scratch: ScratchSettings = NO_SCRATCH


class Environment(EnvironmentSettings):
    """A named target with its effective settings: every reference resolved, every path absolute."""

    name: str
    login: InstanceOf[Login] | None = Field(exclude=True)
    """How the target is reached; None: the embedded server."""
    sources: Mapping[str, str] = Field(repr=False)
    """Dotted key of every setting -> where its value comes from."""
    references: Mapping[str, str] = Field(default_factory=dict, repr=False)
    """Dotted key -> the text that held a reference such as ${env:X}, before it was resolved."""


class EnvironmentTable(EnvironmentSettings):
    """What [defaults] and [environments.X] may say in the file."""

    url: Text | None = None
    """postgresql://user@host:port/database?sslmode=verify-full, without a password."""
    password: Text | None = None
    """A reference such as ${env:STAGING_DB_PASSWORD}, ${aws-secret:shop/db#password} or ${ssm:/shop/db}."""
    login: Text | None = None
    """Another way to log in than by a password. rds-iam: a token of RDS, made anew for every connection."""


class LiquibaseTable(Settings):
    """[liquibase]"""

    version: Text = "5.0.4"
    """The version that is fetched, checked and used."""
    home: FilePath | None = None
    """The folder of an existing installation, in place of version."""
    java_home: FilePath | None = None
    """The folder of a Java runtime. Default: the one that comes with migrator."""
    root: FilePath = Path()
    """The one root of changelog paths. Default: the folder of migrator.toml."""


class JournalTable(Settings):
    """[journal]"""

    url: Text = "sqlite:///.migrator/journal.db"
    """sqlite:///path (relative to migrator.toml's folder) or postgresql://user@host/database."""
    password: Text | None = None
    """A reference such as ${env:JOURNAL_PASSWORD}."""
    login: Text | None = None
    """rds-iam: a token of RDS instead of a password, made for every connection."""


class SigningTable(Settings):
    """[signing]"""

    key: Text | None = None
    """A reference such as ${env:MIGRATOR_SIGNING_KEY} to an Ed25519 private key."""
    public_keys: tuple[FilePath, ...] = ()
    """Public keys: files or patterns, relative to migrator.toml's folder."""
    attestations: FilePath = Path("attestations")
    """The folder that rehearsals write attestations to, and that runs find them in."""


class ConfigFile(Settings):
    """The whole of migrator.toml."""

    liquibase: LiquibaseTable = LiquibaseTable()
    journal: JournalTable = JournalTable()
    signing: SigningTable = SigningTable()
    aws: AwsSettings = AwsSettings()
    """How AWS is reached, for all environments."""
    defaults: EnvironmentTable = EnvironmentTable()
    """What all environments share."""
    environments: Mapping[
        Annotated[str, StringConstraints(pattern=ENVIRONMENT_NAME, max_length=63)], EnvironmentTable
    ] = Field(default_factory=dict)
    """The named targets. `local` without a url is the embedded server."""
