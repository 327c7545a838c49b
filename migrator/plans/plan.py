"""What a run would do, as one document with a digest: what was shown, approved and run is the same, or is refused.

The digest covers what must not change. The rest is what was seen when the plan was made (who is in the way, how long it
may take, what was found), and is another one tomorrow. `document` is the digest of all of it, so that what is signed is
what was read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from migrator.backups.signing import canonical
from migrator.plans.gate import GateState

FORMAT_VERSION = 2


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class PlannedChangeset(_Part):
    """A changeset that would be executed. Values that came from a reference stand as `${name}` in its SQL."""

    path: str = Field(description="The changelog file that holds it, relative to liquibase.root, as the ledger has it.")
    id: str = Field(description="The changeset's id.")
    author: str = Field(description="The changeset's author.")
    checksum: str | None = Field(description="Liquibase's checksum of it.")
    in_transaction: bool = Field(description="False: it says runInTransaction=false.")
    fails_quietly: bool = Field(description="Whether an error in it is swallowed (failOnError=false).")
    runs_again: bool = Field(description="Whether it ran before: runAlways, runOnChange.")
    has_rollback: bool = Field(description="Whether it can be undone by Liquibase.")
    sql: tuple[str, ...] = Field(description="What it would run; empty where it cannot be said as SQL (a data load).")
    rollback_sql: tuple[str, ...] = Field(description="What undoing it would run.")
    # Seen, and not part of the digest.
    file: str | None = Field(default=None, description="The file, where it is another than path says.")
    line: int | None = Field(default=None, description="The line in that file.")
    comment: str | None = Field(default=None, description="What the changelog says of it.")
    precondition: Literal["none", "holds", "fails", "unknown"] = Field(
        description="Its precondition, as the database is now; unknown until the run where there is no ledger yet."
    )
    precondition_says: str | None = Field(default=None, description="Why it fails, or why it is not known.")
    on_fail: str | None = Field(default=None, description="What Liquibase does where it fails: HALT, MARK_RAN, ...")

    @property
    def key(self) -> str:
        return f"{self.path}::{self.id}::{self.author}"


class LeftOut(_Part):
    """A changeset that would not be executed, and why."""

    path: str = Field(description="The changelog file that holds it.")
    id: str = Field(description="The changeset's id.")
    author: str = Field(description="The changeset's author.")
    why: Literal["ran", "changed", "other_context", "other_label", "other_dbms", "ignored", "not_known"] = Field(
        description="ran, changed (edited after it ran), another context, label or dbms, ignored, "
        "or not_known: in the ledger and not in this changelog."
    )
    says: str | None = Field(default=None, description="The same in Liquibase's words.")
    ran_at: str | None = Field(default=None, description="When the ledger says that it ran.")


class BackfillView(_Part):
    """Data that would be moved between the changesets."""

    name: str = Field(description="Its name.")
    checksum: str = Field(description="Of what decides which rows become what.")
    table: str = Field(description="The table whose rows are walked through.")
    after: str = Field(description="path::id::author of the changeset that it follows.")
    inside: bool = Field(description="Whether it is part of the run's one transaction.")
    # Seen, and not part of the digest.
    rows: int | None = Field(default=None, description="Rows of the table, by estimate; null where it is not there.")
    leads_back: bool = Field(default=False, description="Whether it has a statement that takes it back.")
    capture: str = Field(default="none", description="How rows are caught that are written meanwhile.")


class ProofView(_Part):
    level: str = Field(description="full, touched or write_set.")
    reason: str = Field(description="Why this one.")
    tables: int = Field(description="How many tables are hashed before.")
    estimate_s: float = Field(description="Seconds that the hashing takes, by estimate.")
    will_not_prove: tuple[str, ...] = Field(description="What no proof of this run will say; one sentence each.")


class BackupView(_Part):
    kind: str = Field(description="dump, clone, or another kind of the configuration.")
    where: str = Field(description="Where it would lie.")
    size_bytes: int = Field(description="Of what is backed up: a dump is smaller, since it is compressed.")


class DiskView(_Part):
    where: str = Field(description="Which disk.")
    needed_for: str = Field(description="What would be written there.")
    needed_bytes: int = Field(description="How much, at most.")
    free_bytes: int | None = Field(description="What is free; null where nobody can tell.")


class InTheWay(_Part):
    """A session, or a prepared transaction, with locks on a table concerned."""

    pid: int | None = Field(description="Of the session; null for a prepared transaction.")
    user: str = Field(description="Who.")
    application: str = Field(description="What it calls itself.")
    state: str = Field(description="active, idle in transaction, ...; empty where this login may not see it.")
    age_s: float | None = Field(description="Seconds since its transaction began; null where it may not be seen.")
    query: str = Field(description="What it runs, or ran last: the first 200 characters.")
    locks: tuple[str, ...] = Field(description="`table: mode` of each lock, waited for or held.")


class FindingView(_Part):
    rule: str = Field(description="Which rule.")
    severity: str = Field(description="error, warning or info.")
    message: str = Field(description="What the changeset does, to what.")
    why: str = Field(description="Why that matters.")
    safer: str = Field(description="The safer way.")
    changeset: str | None = Field(default=None, description="path::id::author.")
    file: str | None = Field(default=None, description="The file concerned.")
    line: int | None = Field(default=None, description="The line in that file.")
    rows: int | None = Field(default=None, description="Rows at stake in this database; null where not counted.")
    switched_off: str | None = Field(default=None, description="The reason why it counts no more, where there is one.")


class ObstacleView(_Part):
    what: str = Field(description="What stands in the way of a run.")
    remedy: str = Field(description="What removes it.")


class Estimate(_Part):
    """Seconds, by estimate; what is not known is not counted."""

    backup_s: float = Field(description="Of the backup, and of a copy that is migrated.")
    proof_s: float = Field(description="Of the hashing before.")
    restore_s: float = Field(description="Of a restore, if it came to that.")
    basis: str = Field(description="What this rests on: earlier runs, or the size alone.")

    @property
    def before_s(self) -> float:
        """Everything that users wait for before the migration itself."""
        return self.backup_s + self.proof_s


class Approval(_Part):
    """A person's word for the plan with this digest, signed."""

    digest: str = Field(description="Of the plan that is approved.")
    document: str = Field(description="The same of all that the plan showed when it was approved.")
    key: str = Field(description="The id of the key that signed.")
    by: str = Field(default="", description="Who says so, in that person's words.")
    comment: str = Field(default="", description="What else was said.")
    at: datetime = Field(description="When (UTC).")
    signature: str = Field(default="", description="Of all the above.")


class Plan(_Part):
    """What a run would do. `digest` is that of what must not change until it does."""

    format_version: Literal[2] = 2
    digest: str = Field(default="", description="SHA-256 of everything below that must not change.")
    document: str = Field(default="", description="SHA-256 of the whole plan, but for signature and approvals.")
    environment: str = Field(description="The environment's name in migrator.toml.")
    server: str = Field(description="The server's system identifier; host:port where it may not be seen.")
    database: str = Field(description="The database's name.")
    changelog: str = Field(description="The changelog, relative to liquibase.root.")
    files: Mapping[str, str] = Field(description="Every file that the changelog is made of -> SHA-256 of its content.")
    changesets: tuple[PlannedChangeset, ...] = Field(description="What would be executed, in this order.")
    backfills: tuple[BackfillView, ...] = Field(default=(), description="What is moved between them.")
    requires: Mapping[str, tuple[str, ...]] = Field(
        default_factory=dict, description="path::id::author of a changeset -> the backfills that it requires."
    )
    way: str | None = Field(description="atomic, bluegreen or stepwise; null where none is possible.")
    fallback: str | None = Field(description="The way that the run may fall back to.")
    parameters: Mapping[str, str] = Field(description="Changelog parameter -> a digest of its value.")
    settings: Mapping[str, JsonValue] = Field(description="The environment's settings that decide what is done.")
    checks: Mapping[str, str] = Field(description="File of a check -> SHA-256 of its content.")
    schema_objects: Mapping[str, str] = Field(
        description="Objects that the changesets touch, partitions left out -> a digest of their definition."
    )
    versions: Mapping[str, str] = Field(description="Versions of the server and of the tools that decide.")
    # Seen, and not part of the digest.
    target: str = Field(description="postgresql://user@host:port/database, without the password.")
    made_at: datetime = Field(description="When the plan was made (UTC).")
    has_ledger: bool = Field(description="Whether Liquibase has been here before.")
    way_reason: str = Field(description="Why this way.")
    proof: ProofView | None = Field(description="The proof that the budget allows.")
    backups: tuple[BackupView, ...] = Field(description="What would be backed up.")
    estimate: Estimate | None = Field(description="How long it takes.")
    disk: tuple[DiskView, ...] = Field(description="Disk that is needed, and what is there.")
    maintenance: str = Field(description="none, read-only or offline: what keeps users away meanwhile.")
    outside: tuple[str, ...] = Field(description="What holds users off outside the database.")
    others: int | None = Field(description="Sessions of others in the database just now; null where not known.")
    in_the_way: tuple[InTheWay, ...] = Field(description="Who has locks on the tables concerned just now.")
    tables: tuple[str, ...] = Field(description="Existing tables that the changesets name, partitions included.")
    left_out: tuple[LeftOut, ...] = Field(description="What would not be executed, and why.")
    findings: tuple[FindingView, ...] = Field(description="What a person should know of the changesets.")
    gates: tuple[GateState, ...] = Field(description="What the environment insists on, and whether it is there.")
    obstacles: tuple[ObstacleView, ...] = Field(description="What a run would be refused for just now.")
    warnings: tuple[str, ...] = Field(description="What a person should know all the same.")
    signature: str | None = Field(
        default=None, description="Of digest and document, by the key of the one who made it."
    )
    approvals: tuple[Approval, ...] = Field(default=(), description="Who has approved it.")

    @property
    def computed_digest(self) -> str:
        """The digest that this content has, whatever the field says."""
        bound = self.model_dump(mode="json", include=_BOUND)
        return hashlib.sha256(canonical(bound)).hexdigest()

    @property
    def computed_document(self) -> str:
        """The same of all of it; who signed and approved it is said from outside."""
        shown = self.model_dump(mode="json", exclude={"document", "signature", "approvals"})
        return hashlib.sha256(canonical(shown)).hexdigest()

    @property
    def without_rollback(self) -> list[PlannedChangeset]:
        """The changesets that Liquibase cannot undo."""
        return [one for one in self.changesets if not one.has_rollback]

    def with_digest(self) -> Plan:
        """The same with both its digests filled in."""
        digested = self.model_copy(update={"digest": self.computed_digest})
        return digested.model_copy(update={"document": digested.computed_document})


_BOUND_OF_CHANGESET = {
    *("path", "id", "author", "checksum", "in_transaction", "fails_quietly", "runs_again", "has_rollback"),
    *("sql", "rollback_sql"),
}
_BOUND: dict[str, Any] = {
    **dict.fromkeys(("format_version", "environment", "server", "database", "changelog", "way", "fallback"), True),
    **dict.fromkeys(("requires", "files", "parameters", "settings", "checks", "schema_objects", "versions"), True),
    "changesets": {"__all__": _BOUND_OF_CHANGESET},
    "backfills": {"__all__": {"name", "checksum", "table", "after", "inside"}},
}
