"""What a rehearsal found, in the words of its report."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from migrator.plans.attestation import Loss, Rollback
from migrator.runs.record import Part


class Finding(Part):
    code: str = Field(description="A stable word for programs.")
    severity: Literal["error", "warning"] = Field(description="error: the rehearsal failed for it.")
    message: str = Field(description="What was found, on what.")
    hint: str | None = Field(default=None, description="What to do about it.")


class LegRecord(Part):
    name: str = Field(description="apply, roll back, or apply again.")
    run_id: str | None = Field(default=None, description="Its run on the scratch copy; null where there was none.")
    outcome: str = Field(description="That of the run, or: left out.")
    duration_s: float = Field(default=0.0, description="Seconds that it took.")
    proven: list[str] = Field(default_factory=list, description="What was proven; one sentence each.")
    not_proven: list[str] = Field(default_factory=list, description="What was not proven, and why.")
    note: str | None = Field(default=None, description="Why it failed, or was left out.")


class RehearsedRecord(Part):
    path: str = Field(description="The changelog file that holds it, relative to liquibase.root.")
    id: str = Field(description="The changeset's id.")
    author: str = Field(description="The changeset's author.")
    checksum: str | None = Field(default=None, description="Liquibase's checksum of it.")
    status: str = Field(default="pending", description="What became of it when it was applied.")
    apply_s: float | None = Field(default=None, description="Seconds that it took on the copy.")
    rollback_s: float | None = Field(default=None, description="Seconds that its rollback took on the copy.")
    estimate_s: float | None = Field(
        default=None, description="Seconds that it would take on the target; null: unknown."
    )
    estimate_from: str | None = Field(default=None, description="How that was estimated.")
    rollback: Rollback = Field(
        default="not_tried",
        description="restores, restores_schema (no row was there), loses, fails, none (there is none), or not_tried.",
    )
    losses: list[Loss] = Field(default_factory=list, description="What its rollback does not bring back.")

    @property
    def key(self) -> str:
        return f"{self.path}::{self.id}::{self.author}"


class RehearsalRecord(Part):
    """One rehearsal, from its scratch copy to its verdict."""

    id: str = Field(description="Sorts by time.")
    environment: str = Field(description="The environment's name in migrator.toml.")
    database: str = Field(description="What was copied: postgresql://user@host:port/database.")
    changelog: str = Field(description="The changelog, relative to liquibase.root.")
    source: str = Field(description="What the copy was made from: schema, clone, backup ID or dump FILE.")
    with_data: bool = Field(description="Whether there were rows in it.")
    place: str | None = Field(default=None, description="The server of the copy, in words.")
    not_represented: list[str] = Field(default_factory=list, description="What of the target is not in the copy.")
    started_at: datetime = Field(description="When it began (UTC).")
    ended_at: datetime | None = Field(default=None, description="When it ended (UTC).")
    passed: bool = Field(default=False, description="Whether it passed.")
    exit_code: int = Field(default=3, description="0: it passed, or there was nothing to rehearse. 3: it did not.")
    way: str | None = Field(default=None, description="How a run of the environment would apply it.")
    fallback: str | None = Field(default=None, description="The way that such a run may fall back to.")
    lossy_rollback_allowed: bool = Field(default=False, description="Whether --allow-lossy-rollback was given.")
    changesets: list[RehearsedRecord] = Field(default_factory=list, description="Those that were rehearsed, in order.")
    legs: list[LegRecord] = Field(default_factory=list, description="The runs on the copy, in order.")
    findings: list[Finding] = Field(default_factory=list, description="What a person should know.")
    copy_bytes: int | None = Field(default=None, description="Size of the copy's tables.")
    target_bytes: int | None = Field(default=None, description="Size of the target's tables; null where not known.")
    estimate_s: float | None = Field(default=None, description="Seconds that all would take on the target.")
    versions: dict[str, str] = Field(default_factory=dict, description="Versions of the server and of every tool.")
    attestation: str | None = Field(default=None, description="The file of the attestation; null: none was written.")
    attestation_note: str | None = Field(
        default=None, description="Why none was written, or by whose key it is signed."
    )
    next_command: str | None = Field(default=None, description="What a person types next.")

    @property
    def errors(self) -> list[Finding]:
        return [one for one in self.findings if one.severity == "error"]

    def find(self, code: str, message: str, *, severity: Literal["error", "warning"], hint: str | None = None) -> None:
        """The finding is in the record."""
        self.findings.append(Finding(code=code, severity=severity, message=message, hint=hint))
