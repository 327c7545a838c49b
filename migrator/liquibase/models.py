"""What the parent and the worker tell each other, as the rest of migrator sees it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from migrator.postgres.write_set import Counts

Mode = Literal["held", "stepwise", "read_only"]
Measure = Literal["copy", "target"]  # on a copy, where nobody else is, more can be asked for


class ChangesetState(StrEnum):
    PENDING = "pending"
    RAN = "ran"
    CHANGED = "changed"  # ran with another checksum, and neither runOnChange nor runAlways is set
    OTHER_CONTEXT = "other_context"
    OTHER_LABEL = "other_label"
    OTHER_DBMS = "other_dbms"
    IGNORED = "ignored"
    NOT_KNOWN = "not_known"  # in the ledger, not in this changelog


@dataclass(frozen=True, kw_only=True)
class LiquibaseOptions:
    version: str
    root: Path  # the one folder that changelog paths are relative to
    contexts: str = ""
    labels: str = ""
    parameters: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    default_schema: str | None = None
    liquibase_schema: str | None = None
    ledger_table: str | None = None  # None: databasechangelog
    lock_table: str | None = None  # None: databasechangeloglock


@dataclass(frozen=True, kw_only=True)
class Connected:
    pid: int  # of the server's backend
    liquibase_version: str
    java_version: str


@dataclass(frozen=True, kw_only=True)
class Held:
    """The one transaction: its id, and the name of the snapshot that it exported before anything else."""

    xid: str
    snapshot: str

    def __post_init__(self) -> None:
        if not (self.xid.isascii() and self.xid.isdigit()):
            raise ValueError("the transaction's id is no number")


@dataclass(frozen=True, kw_only=True)
class Changeset:
    """One changeset of a changelog as one database sees it.

    `statements` is the SQL that it would run, in order: generated, and for sql changes their raw text; empty where
    Liquibase cannot say without a database. `tables` are the names in its structured changes, as written there.
    """

    id: str
    author: str
    path: str
    checksum: str | None
    state: ChangesetState
    reason: str | None = None
    run_in_transaction: bool = True
    fail_on_error: bool = True
    run_always: bool = False
    run_on_change: bool = False
    has_rollback: bool = False
    has_preconditions: bool = False
    needs_savepoint: bool = False  # may fail and go on: costs a subtransaction in held mode
    statements: tuple[str, ...] = ()
    origins: tuple[int, ...] = ()  # for each statement the number of its change in `changes`, counted from 0
    rollback: tuple[str, ...] = ()  # what undoing it would run, as far as Liquibase can say it in SQL
    precondition: str = "none"  # where it was tried: holds, fails, unknown
    precondition_says: str | None = None
    on_fail: str | None = None  # what Liquibase does where it fails: HALT, CONTINUE, MARK_RAN, WARN
    tables: frozenset[str] = frozenset()
    changes: tuple[str, ...] = ()  # createTable, sql, ...
    comment: str | None = None
    ran_at: str | None = None  # when the ledger says that it ran
    file: str | None = None  # relative to the root; differs from path under a logicalFilePath
    line: int | None = None

    @property
    def key(self) -> str:
        return f"{self.path}::{self.id}::{self.author}"


@dataclass(frozen=True, kw_only=True)
class Undoable:
    """One of the newest rows of the ledger, and how a changelog would undo it. Without `is_known` the rest is empty."""

    id: str
    author: str
    path: str
    marked_only: bool  # never executed here: its precondition told Liquibase to mark it as ran
    is_known: bool  # the changelog holds it
    left_out: str | None = None  # why context, label or dbms keep Liquibase from undoing it; None where they do not
    changed: bool = False  # the changelog's text is not the one that ran
    run_in_transaction: bool = True
    has_rollback: bool = False
    statements: tuple[str, ...] = ()  # what undoing it would run, as far as Liquibase can say it in SQL
    tables: frozenset[str] = frozenset()  # named in its structured changes, forward and back
    forward: tuple[str, ...] = ()  # what it ran, in SQL
    needs_savepoint: bool = False  # a rollback that fails is a failure

    @property
    def key(self) -> str:
        return f"{self.path}::{self.id}::{self.author}"


EventKind = Literal[
    "will_run", "ran", "failed", "skipped", "rolled_back", "precondition_failed", "measured", "wrote", "message"
]


@dataclass(frozen=True, kw_only=True)
class ChangesetEvent:
    kind: EventKind
    id: str = ""
    author: str = ""
    path: str = ""
    status: str | None = None  # of `ran`: executed, reran, mark_ran, failed_ignored
    duration_s: float | None = None
    message: str | None = None
    measured: Mapping[str, object] | None = None  # of `measured`; see migrator.liquibase.worker.measured
    written: tuple[str, ...] = ()  # of `wrote`, before each commit (stepwise): all tables so far
    changed: tuple[str, ...] = ()  # of `wrote`: those of them of which rows were counted


@dataclass(frozen=True, kw_only=True)
class ChangesetResult:
    id: str
    author: str
    path: str
    status: str  # executed, reran, mark_ran, skipped, failed_ignored; rolled_back
    duration_s: float | None = None
    message: str | None = None


@dataclass(frozen=True, kw_only=True)
class Updated:
    changesets: tuple[ChangesetResult, ...]
    write_set: frozenset[str]
    counts: Mapping[str, Counts]
    outside_transaction: tuple[str, ...] = ()  # keys of changesets whose writes no lock could show
    savepoints: int = 0  # subtransactions that were opened from the first changeset on


@dataclass(frozen=True, kw_only=True)
class Failed:
    """What the worker says of an operation that failed: `kind` chooses the error that it becomes."""

    kind: Literal["connection", "sql", "migration", "lost", "changelog", "locked", "usage", "bug"]
    message: str
    code: str | None
    sqlstate: str | None
    changeset: str | None  # path::id::author
    committed: bool  # of `lost`: something was committed on the way
