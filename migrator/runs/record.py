"""What a run did, in the words of its report. Its JSON is `report.json`; the schema is shipped beside the reports."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

from migrator.plans.gate import GateState


class Outcome(StrEnum):
    """How a run ended, which is to say: the state of the database."""

    MIGRATED = "migrated"
    NOTHING_TO_DO = "nothing_to_do"
    REFUSED = "refused"
    LOCKED = "locked"
    FAILED_BEFORE = "failed_before"
    ROLLED_BACK = "rolled_back"
    RESTORED = "restored"
    BROUGHT_BACK = "brought_back"  # by hand: the database is the backup that a person asked for
    UNFINISHED = "unfinished"  # migrated and verified; something after it is left to do
    HALTED = "halted"
    INTERRUPTED = "interrupted"

    @property
    def exit_code(self) -> int:
        return _EXIT_CODES[self]


_EXIT_CODES = {
    Outcome.MIGRATED: 0,
    Outcome.NOTHING_TO_DO: 0,
    Outcome.REFUSED: 3,
    Outcome.LOCKED: 4,
    Outcome.FAILED_BEFORE: 5,
    Outcome.ROLLED_BACK: 6,
    Outcome.RESTORED: 7,
    Outcome.BROUGHT_BACK: 0,
    Outcome.UNFINISHED: 8,
    Outcome.HALTED: 9,
    Outcome.INTERRUPTED: 10,
}


class StepName(StrEnum):
    LOCK = "lock"
    PREFLIGHT = "preflight"
    MAINTAIN = "maintain"
    CLONE = "clone"
    COPY = "copy"
    HOLD = "hold"
    BACK_UP = "back_up"
    RESTORE = "restore"
    APPLY = "apply"
    VERIFY = "verify"
    COMMIT = "commit"
    SWAP = "swap"
    LIFT = "lift"
    REPORT = "report"


class Direction(StrEnum):
    UPDATE = "update"
    ROLLBACK = "rollback"


class Way(StrEnum):
    ATOMIC = "atomic"
    BLUEGREEN = "bluegreen"
    STEPWISE = "stepwise"
    RESTORE = "restore"  # no changelog: a backup is restored by hand
    SWAP_BACK = "swap_back"  # no changelog: the database that a blue/green run kept gets its name again


class ProofLevel(StrEnum):
    FULL = "full"
    TOUCHED = "touched"
    WRITE_SET = "write_set"


class Part(BaseModel):
    """A part of a record that is filled in while it goes on."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True)


class StepRecord(Part):
    name: StepName = Field(description="Which step of the run.")
    attempt: int = Field(default=1, description="1 for the first try; a resume or a fallback counts up.")
    status: str = Field(description="running, done, failed, undone, or interrupted.")
    started_at: datetime = Field(description="When the step began (UTC).")
    duration_s: float | None = Field(default=None, description="Seconds that it took; null while it runs.")
    note: str | None = Field(default=None, description="One line on what the step found or did.")


class ChangesetRecord(Part):
    id: str = Field(description="The changeset's id.")
    author: str = Field(description="The changeset's author.")
    path: str = Field(description="The changelog file that holds it, relative to liquibase.root.")
    status: str = Field(description="pending, executed, failed, skipped (precondition), or rolled_back.")
    duration_s: float | None = Field(default=None, description="Seconds that it took; null when it did not run.")


class BackfillRecord(Part):
    name: str = Field(description="The backfill's name.")
    table: str = Field(description="The table whose rows it walks through.")
    after: str = Field(description="path::id::author of the changeset that it follows.")
    state: str = Field(
        description="pending, running, moved, verified; or required, where a changeset says so: proven, and not moved. "
        "Taken back: undone."
    )
    rows: int | None = Field(default=None, description="Rows that this run has moved (or moved back); null before.")
    batches: int | None = Field(default=None, description="Transactions that it took; null before.")
    duration_s: float | None = Field(default=None, description="Seconds that it took, what it waited included.")
    rate: float | None = Field(default=None, description="Rows a second; null where it took no time.")
    waited_s: float | None = Field(default=None, description="Seconds of it that it held back, for a limit.")
    max_lag_bytes: int | None = Field(default=None, description="The largest replication lag seen; null: none known.")
    violations: int | None = Field(default=None, description="Rows that its verify query returned; null: not asked.")


class BackupRecord(Part):
    id: str = Field(description="The backup's id: the name of its folder in the store.")
    kind: str = Field(description="dump or clone.")
    location: str = Field(description="Where it lies: a folder, or a database's name.")
    size_bytes: int | None = Field(default=None, description="Size of all files together; null where not known.")
    started_at: datetime | None = Field(default=None, description="When it was begun (UTC); null where not known.")
    duration_s: float | None = Field(default=None, description="Seconds that it took.")


class MaintenanceRecord(Part):
    mode: str = Field(description="none, read-only or offline.")
    started_at: datetime | None = Field(default=None, description="When users were first held off (UTC).")
    ended_at: datetime | None = Field(default=None, description="When they were let in again (UTC); null while on.")
    downtime_s: float | None = Field(default=None, description="Seconds between the two.")


class CheckRecord(Part):
    name: str = Field(description="Suite and expectation, or the invariant's file.")
    phase: str = Field(description="before or after.")
    success: bool = Field(description="Whether the rule held.")
    severity: str = Field(default="critical", description="critical fails the run; warning is reported.")
    table: str | None = Field(default=None, description="What the rule is about; null for an SQL invariant.")
    detail: str | None = Field(default=None, description="What was seen, or the error that kept it from being seen.")
    duration_s: float | None = Field(default=None, description="Seconds; null where the rule was part of a batch.")


class TableRecord(Part):
    name: str = Field(description="schema.table, quoted where PostgreSQL would.")
    rows_before: int | None = Field(default=None, description="Rows before; null where not counted.")
    rows_after: int | None = Field(default=None, description="Rows after; null where not counted.")
    inserted: int | None = Field(default=None, description="Rows that this run inserted; null where not known.")
    updated: int | None = Field(default=None, description="Rows that this run updated; null where not known.")
    deleted: int | None = Field(default=None, description="Rows that this run deleted; null where not known.")


class Proof(Part):
    level: ProofLevel | None = Field(default=None, description="full, touched or write_set; null before anything ran.")
    proven: list[str] = Field(default_factory=list, description="What was proven, and how; one sentence each.")
    not_proven: list[str] = Field(default_factory=list, description="What was not proven, and why.")
    others_wrote: list[str] = Field(
        default_factory=list,
        description="Of a run that went back: tables whose rows differ from before, where others were free to write.",
    )


class ApprovalRecord(Part):
    key: str = Field(description="The id of the key that signed.")
    by: str = Field(description="Who, in that person's words.")
    comment: str = Field(description="What else was said.")
    at: datetime = Field(description="When (UTC).")


class ErrorRecord(Part):
    code: str = Field(description="A stable word for programs.")
    message: str = Field(description="What failed, on what.")
    sqlstate: str | None = Field(default=None, description="PostgreSQL's five-character code.")
    changeset: str | None = Field(default=None, description="path::id::author of the changeset concerned.")
    file: str | None = Field(default=None, description="The file concerned.")
    line: int | None = Field(default=None, description="The line in that file.")
    hint: str | None = Field(default=None, description="What to do about it.")


class RunRecord(Part):
    """One run, from its first step to its report."""

    run_id: str = Field(description="Sorts by time.")
    environment: str = Field(description="The environment's name in migrator.toml.")
    database: str = Field(description="postgresql://user@host:port/database, without the password.")
    changelog: str = Field(description="The changelog, relative to liquibase.root.")
    direction: Direction = Field(
        default=Direction.UPDATE, description="update: changesets were executed. rollback: they were undone."
    )
    started_at: datetime = Field(description="When the run began (UTC).")
    ended_at: datetime | None = Field(default=None, description="When it ended (UTC); null while it runs.")
    outcome: Outcome | None = Field(default=None, description="How it ended; null while it runs.")
    exit_code: int | None = Field(default=None, description="The exit code that goes with the outcome.")
    way: Way | None = Field(default=None, description="How the changes were applied.")
    fallback: Way | None = Field(default=None, description="The way that the run may fall back to.")
    way_reason: str | None = Field(default=None, description="Why this way.")
    plan_digest: str | None = Field(default=None, description="Of the plan that was carried out; see migrator plan.")
    approvals: list[ApprovalRecord] = Field(default_factory=list, description="Who has approved that plan.")
    proof: Proof = Field(default_factory=Proof, description="What the verdict rests on.")
    steps: list[StepRecord] = Field(default_factory=list, description="Every step, in the order it was started.")
    changesets: list[ChangesetRecord] = Field(default_factory=list, description="Those to be executed, or undone.")
    backfills: list[BackfillRecord] = Field(
        default_factory=list, description="Data moved between the changesets, and what a changeset requires of it."
    )
    gates: list[GateState] = Field(default_factory=list, description="What had to be open before it might begin.")
    backups: list[BackupRecord] = Field(default_factory=list, description="What was backed up before.")
    maintenance: MaintenanceRecord = Field(
        default_factory=lambda: MaintenanceRecord(mode="none"), description="When users were held off, and how."
    )
    checks: list[CheckRecord] = Field(default_factory=list, description="Every check, before and after.")
    write_set: list[str] = Field(default_factory=list, description="Tables that this run's transactions wrote.")
    surprises: list[str] = Field(default_factory=list, description="Written tables that no changeset names.")
    tables: list[TableRecord] = Field(default_factory=list, description="Row counts, before and after.")
    warnings: list[str] = Field(default_factory=list, description="What a person should know all the same.")
    kept: list[str] = Field(default_factory=list, description="Databases and files kept, and how to drop them.")
    versions: dict[str, str] = Field(default_factory=dict, description="Versions of the server and of every tool.")
    error: ErrorRecord | None = Field(default=None, description="What went wrong first.")
    runbook: list[str] = Field(
        default_factory=list, description="What a person does to go back by a backup of RDS; never done by itself."
    )
    next_command: str | None = Field(default=None, description="What a person types next; null when nothing is left.")
