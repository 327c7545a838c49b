"""What a run must remember to be undone or resumed, by whichever machine comes next. Kept in the journal as JSON.

Never holds a secret: how to log in is asked of the configuration again.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from migrator.postgres.counters import Counters
from migrator.postgres.sequences import SequenceState


class TableState(BaseModel):
    """A table at one snapshot. `kept_columns` are those that no changeset names; they have a digest of their own
    where some column is named, so that a dropped column does not make the others incomparable."""

    model_config = ConfigDict(frozen=True)

    rows: int
    digest: str
    columns: dict[str, str] = Field(default_factory=dict)  # name -> type
    kept_columns: tuple[str, ...] = ()
    kept_digest: str | None = None

    def digest_of(self, columns: Sequence[str]) -> str | None:
        """The digest over the columns that no changeset names, when they are all among `columns`; else None."""
        return self.kept_digest if set(self.kept_columns) <= set(columns) else None


class Planned(BaseModel):
    """A changeset to be executed (or undone, in a rollback), as far as undo and proof need it."""

    model_config = ConfigDict(frozen=True)

    path: str
    id: str
    author: str
    has_rollback: bool
    checksum: str | None = None  # Liquibase's; None in a rollback
    always: bool = False  # runAlways: every update executes it again
    rerun: bool = False  # runAlways or runOnChange with a row in the ledger already: the row is updated, not added
    hides_writes: bool = True  # it, or its rollback, may write rows where no lock shows it

    @property
    def key(self) -> tuple[str, str, str]:
        return (self.path, self.id, self.author)


class PlannedBackfill(BaseModel):
    """A backfill to be done between the changesets (or undone, in a rollback), as it was when the run was planned."""

    model_config = ConfigDict(frozen=True)

    name: str
    checksum: str
    table: str
    after: str  # path::id::author
    inside: bool = False
    rows: int | None = None  # of the table, as far as the server knew
    leads_back: bool = False  # by a statement of its own
    file: str = ""
    definition: dict[str, JsonValue] = Field(default_factory=dict)  # all of it: its file may be another one by now


class Undo(BaseModel):
    """What a person wants undone: a run, all after a tag, or a number of changesets; just one of the three is set."""

    model_config = ConfigDict(frozen=True)

    run_id: str | None = None
    tag: str | None = None
    count: int | None = None
    changelogs: tuple[str, ...] = ()  # relative to liquibase.root; empty: those that the ledger and the journal name

    def __str__(self) -> str:
        if self.run_id is not None:
            return self.run_id
        return f"--to-tag {shlex.quote(self.tag)}" if self.tag is not None else f"--count {self.count}"


class Facts(BaseModel):
    """Everything below is None or empty until the step named in the comment has found it out."""

    model_config = ConfigDict(validate_assignment=True)

    attempt: int = 1
    changelog_parameters: dict[str, str] = Field(default_factory=dict)  # lock: those of the command line
    takes_back: str | None = None  # lock: the blue/green run whose swap is taken back
    accept_loss: bool = False  # lock: also where somebody has written since
    undo: Undo | None = None  # lock: what a rollback is to undo; its changelogs are known after preflight
    # preflight
    system_identifier: str | None = None
    timeline: str | None = None  # lock: of the server's WAL; another one is that of a server that has taken over
    failed_over: bool = False  # which may lack what was committed last, and whose transaction ids are other ones
    database_oid: int | None = None  # of the original; copy
    planned: list[Planned] = Field(default_factory=list)
    changelog_files: dict[str, str] = Field(default_factory=dict)  # -> SHA-256; read before the changesets were
    changelog_settings: dict[str, str] = Field(default_factory=dict)  # of parameters a digest
    backfills: list[PlannedBackfill] = Field(default_factory=list)
    requires: dict[str, list[str]] = Field(default_factory=dict)  # path::id::author -> backfills it cannot do without
    required: list[PlannedBackfill] = Field(default_factory=list)  # those of them that were done by an earlier run
    captures: list[str] = Field(default_factory=list)  # those of them that have a trigger of theirs on the table
    backfill_tables: list[str] = Field(default_factory=list)  # existing tables that a backfill walks through or writes
    tables_bytes: int = 0  # of all tables, by the pages that the planner counts
    existing: list[str] = Field(default_factory=list)  # every table that was there before
    named: list[str] = Field(default_factory=list)  # existing tables that the changesets name
    written: list[str] = Field(default_factory=list)  # those of them that the changesets' DML names
    words: list[str] = Field(default_factory=list)  # every identifier in the changesets, folded
    fingerprinted: list[str] | None = None  # tables whose rows are hashed before; None: all
    invariants_before: list[str] = Field(default_factory=list)  # each a Measured as JSON
    restore_estimate_s: float = 0.0  # how long a restore would take
    stale_lock: bool = False  # Liquibase's lock row has no living holder, and is released behind the fence
    unsound_before: list[str] = Field(default_factory=list)
    # maintain
    outside: dict[str, dict[str, str]] = Field(default_factory=dict)  # provider -> what stood before
    fence_up: bool = False
    users_back: bool = False  # about to let users in: from here on nothing may be compared or put back any more
    fence_lost: bool = False  # somebody else took the fence down: others may have written since the backup
    fence: str | None = None  # its description, for the case that the changelog overwrites the database's comment
    counters: Counters | None = None  # what the server had counted behind the fence; without one, before the change
    # copy
    copy_name: str | None = None  # of the database that is worked on instead of the original
    copy_oid: int | None = None  # known before it is made, where the server can be told one
    copied: bool = False  # it is there, whole, and what is done is done to it
    # hold
    xid: str | None = None
    snapshot: str | None = None
    sequences: dict[str, tuple[int, bool]] | None = None  # name -> last_value, is_called
    # back_up
    ledger_before: list[dict[str, str | None]] | None = None  # None: there was no ledger
    ledger_read: bool = False
    schema_before: dict[str, str] | None = None
    tables_before: dict[str, TableState] | None = None
    large_objects_before: TableState | None = None
    backup_id: str | None = None
    server_snapshot: str | None = None  # of RDS, asked for by this run
    server_backup_id: str | None = None  # of the manifest of what RDS keeps
    # apply, and the way back
    writes_known: bool = False  # the record's write set is all that this run's own transactions have written
    changed: list[str] = Field(default_factory=list)  # those tables of it of which rows were counted
    unclear: list[str] = Field(default_factory=list)  # written by an attempt that was rolled back, or by somebody else
    # apply
    applied: int = 0  # segments whose changesets are done
    moving: str | None = None  # the backfill at work, and no changeset since: a run killed now may carry on
    # verify, commit
    verified: bool = False
    committed: bool = False
    swapped: bool = False  # the copy bears the database's name
    schema_after: dict[str, str] | None = None  # of what is swapped in, by which a later way back tells who wrote since
    tables_after: dict[str, TableState] | None = None
    large_objects_after: TableState | None = None
    sequences_after: dict[str, tuple[int, bool]] | None = None
    unobserved: list[str] = Field(default_factory=list)  # apply: changesets whose writes no lock could tell
    breaches: list[str] = Field(default_factory=list)  # who came, or wrote, in spite of the fence
    # the way back
    going_back: bool = False  # decided: whoever takes over goes back too
    kept_warning: str | None = None  # of a restore: what a person has to compare, and what was not proven of it
    kept_unproven: str | None = None
    side_name: str | None = None
    side_oid: int | None = None
    restored: bool = False
    undone: bool = False
    proven_back: str | None = None  # the outcome that was proven: rolled_back or restored


def sequences_of(facts: Facts) -> dict[str, SequenceState]:
    """Where every sequence stood before, as `migrator.postgres.sequences` takes it."""
    return {
        name: SequenceState(last_value=last_value, is_called=is_called)
        for name, (last_value, is_called) in (facts.sequences or {}).items()
    }


def sequence_facts(states: Mapping[str, SequenceState]) -> dict[str, tuple[int, bool]]:
    """The same as the journal keeps it."""
    return {name: (state.last_value, state.is_called) for name, state in states.items()}
