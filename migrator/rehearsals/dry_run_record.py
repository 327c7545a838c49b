"""What a dry run found, in the words of its report."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from migrator.runs.record import CheckRecord, Part

Severity = Literal["error", "warning"]


class DryRunFinding(Part):
    code: str = Field(description="A stable word for programs.")
    severity: Severity = Field(description="error: a run would fail, or be refused, for it.")
    message: str = Field(description="What was found, on what.")
    hint: str | None = Field(default=None, description="What to do about it.")
    changeset: str | None = Field(default=None, description="path::id::author.")
    file: str | None = Field(default=None, description="The changelog file, relative to liquibase.root.")
    line: int | None = Field(default=None, description="The line in it.")
    sqlstate: str | None = Field(default=None, description="PostgreSQL's five characters.")


class TakenLock(Part):
    relation: str = Field(description="schema.name.")
    mode: str = Field(description="PostgreSQL's name of the lock, as AccessExclusiveLock.")
    keeps_out: str = Field(description="Whom it keeps waiting.")
    held_s: float | None = Field(default=None, description="Seconds until the commit gives it up; null: unknown.")


class ChangedRows(Part):
    table: str = Field(description="schema.name.")
    inserted: int = Field(default=0, description="Rows inserted.")
    updated: int = Field(default=0, description="Rows updated.")
    deleted: int = Field(default=0, description="Rows deleted.")
    named: bool = Field(default=True, description="Whether the changeset names the table; else a cascade or a trigger.")


class RewrittenTable(Part):
    table: str = Field(description="schema.name.")
    before_bytes: int = Field(description="Size before, where it was tried.")
    after_bytes: int = Field(description="Size after, where it was tried.")
    target_rows: int | None = Field(default=None, description="Rows that the target has, by the planner's estimate.")
    target_bytes: int | None = Field(default=None, description="Size that the target's has.")


class BuiltIndex(Part):
    index: str = Field(description="schema.name.")
    table: str = Field(description="schema.name of its table.")
    size_bytes: int = Field(description="Size, where it was tried.")
    on_new_table: bool = Field(description="Whether the table was made by this changelog too.")


class ResizedTable(Part):
    table: str = Field(description="schema.name.")
    before_bytes: int = Field(description="Size before, where it was tried.")
    after_bytes: int = Field(description="Size after.")


class TriedChangeset(Part):
    path: str = Field(description="The changelog file that holds it, relative to liquibase.root.")
    id: str = Field(description="The changeset's id.")
    author: str = Field(description="The changeset's author.")
    file: str | None = Field(default=None, description="The file that holds its text.")
    line: int | None = Field(default=None, description="The line in it.")
    status: str = Field(default="pending", description="executed, skipped, failed, or pending: it was not reached.")
    in_transaction: bool = Field(default=True, description="Whether it can be part of a transaction.")
    duration_s: float | None = Field(default=None, description="Seconds that it took; null: unknown.")
    rows: list[ChangedRows] = Field(default_factory=list, description="Rows that it changed, by table.")
    locks: list[TakenLock] = Field(
        default_factory=list, description="Locks that it was the first to take, by relation, the strongest first."
    )
    rewritten: list[RewrittenTable] = Field(default_factory=list, description="Tables that got a new file.")
    indexes: list[BuiltIndex] = Field(default_factory=list, description="Indexes that were built, or built anew.")
    created: list[str] = Field(default_factory=list, description="Tables and views that it created.")
    dropped: list[str] = Field(default_factory=list, description="Tables that it dropped.")
    sizes: list[ResizedTable] = Field(default_factory=list, description="Tables that it made larger or smaller.")
    wal_bytes: int | None = Field(default=None, description="WAL that the server wrote meanwhile; null: unknown.")
    temp_bytes: int | None = Field(default=None, description="Most temporary files seen at once; null: unknown.")

    @property
    def key(self) -> str:
        return f"{self.path}::{self.id}::{self.author}"


class InTheWay(Part):
    who: str = Field(description="pid, user and application of a session on the target.")
    age_s: float | None = Field(default=None, description="Age of its transaction; null: not to be seen.")
    locks: list[str] = Field(default_factory=list, description="schema.table: mode.")
    query: str = Field(default="", description="What it runs, or ran last.")


class DryRunRecord(Part):
    """One dry run, from the place where it was tried to what remained of it."""

    id: str = Field(description="Sorts by time.")
    environment: str = Field(description="The environment's name in migrator.toml.")
    database: str = Field(description="The target: postgresql://user@host:port/database.")
    changelog: str = Field(description="The changelog, relative to liquibase.root.")
    on: str = Field(description="target, or what the copy was made from: schema, clone, backup ID, dump FILE.")
    place: str | None = Field(default=None, description="The server where it was tried, in words.")
    how: str | None = Field(default=None, description="How the copy was made; null on the target.")
    copy_s: float | None = Field(default=None, description="Seconds that the copy took.")
    not_represented: list[str] = Field(default_factory=list, description="What of the target is not in the copy.")
    durations_known: bool = Field(default=False, description="Whether seconds, sizes and rows are those of real data.")
    held: bool = Field(default=True, description="Whether all ran in one transaction, which was rolled back.")
    way: str | None = Field(default=None, description="How a run of the environment would apply it.")
    way_reason: str | None = Field(default=None, description="Why.")
    started_at: datetime = Field(description="When it began (UTC).")
    ended_at: datetime | None = Field(default=None, description="When it ended (UTC).")
    passed: bool = Field(default=False, description="Whether nothing speaks against a run.")
    exit_code: int = Field(default=3, description="0: nothing speaks against a run, or nothing is pending. 3: it does.")
    apply_s: float | None = Field(default=None, description="Seconds from the first changeset to the last.")
    checks_s: float | None = Field(default=None, description="Seconds that the checks took, with all locks held.")
    wal_bytes: int | None = Field(default=None, description="WAL that the server wrote meanwhile, others' included.")
    temp_bytes: int | None = Field(default=None, description="Temporary files that were written; null: unknown.")
    changesets: list[TriedChangeset] = Field(default_factory=list, description="The pending ones, in order.")
    checks: list[CheckRecord] = Field(default_factory=list, description="Suites and invariants, before and after.")
    in_the_way: list[InTheWay] = Field(
        default_factory=list, description="Sessions on the target, now, with locks on what would be locked strongly."
    )
    findings: list[DryRunFinding] = Field(default_factory=list, description="What a person should know.")
    proven: list[str] = Field(default_factory=list, description="What was proven of what remained; one sentence each.")
    remains: list[str] = Field(default_factory=list, description="What did change, though nothing was committed.")
    versions: dict[str, str] = Field(default_factory=dict, description="Versions of the server and of every tool.")
    next_command: str | None = Field(default=None, description="What a person types next.")

    @property
    def errors(self) -> list[DryRunFinding]:
        return [one for one in self.findings if one.severity == "error"]

    def find(self, code: str, message: str, *, severity: Severity, hint: str | None = None) -> DryRunFinding:
        """The finding is in the record; returned, so that its place can be added."""
        found = DryRunFinding(code=code, severity=severity, message=message, hint=hint)
        self.findings.append(found)
        return found
