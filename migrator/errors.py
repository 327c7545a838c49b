"""The error tree. Every error says what failed, on what, and what to do next.

MigratorError                 exit 1   a bug, unless a subclass says otherwise
├── UsageError                exit 2   bad arguments
│   └── ConfigError           exit 2   migrator.toml or something it points at
├── Refused                   exit 3   preflight, a gate or the user said no; nothing was touched
├── Locked                    exit 4   another run holds this database
├── Unfinished                exit 10  an earlier run of this database has not ended
├── Interrupted               (a signal arrived; the run goes back)
└── StepFailed                (a step of a run failed; the engine goes back and decides the exit code)
    ├── ConnectionFailed      the server was not reached, or refused the login      (exit 3 before a run)
    ├── ToolFailed            a child process failed: pg_dump, pg_restore, the user's own command
    ├── MaintenanceFailed     maintenance could not be entered or left              (exit 3 outside a run)
    ├── FenceBreached         somebody wrote, or connected, in spite of the fence
    ├── AwsFailed             AWS refused a call, or was not reached                (exit 3 outside a run)
    ├── BackupFailed          a backup could not be made, or is not what its manifest says  (exit 3 outside a run)
    ├── MigrationFailed       a changeset failed, or Liquibase did
    │   └── TransactionLost   the one transaction was ended or cannot hold the changelog
    ├── VerificationFailed    the migrated database is not as it should be
    └── NotProven             the way back could not prove that the database is what it was (halts)

The exit code of a *run* tells the state of the database: see `migrator.runs.record.Outcome`.
"""

from __future__ import annotations

from dataclasses import dataclass


class MigratorError(Exception):
    """The root of every error that migrator raises on purpose.

    `code` is a stable word for programs; `hint` is the next thing a person does.
    """

    exit_code = 1
    code = "bug"

    def __init__(self, message: str, *, hint: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        if code is not None:
            self.code = code


class UsageError(MigratorError):
    exit_code = 2
    code = "usage"


class ConfigError(UsageError):
    code = "configuration"


class Refused(MigratorError):
    """`place` tells where in a changelog the reason stands, if it is there."""

    exit_code = 3
    code = "refused"

    def __init__(
        self, message: str, *, hint: str | None = None, code: str | None = None, place: Place | None = None
    ) -> None:
        super().__init__(message, hint=hint, code=code)
        self.place = place


class Locked(MigratorError):
    exit_code = 4
    code = "locked"


class Unfinished(MigratorError):
    exit_code = 10
    code = "unfinished"


class Interrupted(MigratorError, KeyboardInterrupt):
    # A KeyboardInterrupt too: for that alone psycopg cancels the statement that was running and keeps its session fit
    # for use. The way back needs that session.
    exit_code = 10
    code = "interrupted"


class StepFailed(MigratorError):
    code = "step_failed"


class ConnectionFailed(StepFailed):
    exit_code = 3
    code = "connection"


class ToolFailed(StepFailed):
    exit_code = 3
    code = "tool"


class MaintenanceFailed(StepFailed):
    exit_code = 3
    code = "maintenance"


class FenceBreached(StepFailed):
    code = "fence_breached"


class AwsFailed(StepFailed):
    exit_code = 3
    code = "aws"


class BackupFailed(StepFailed):
    exit_code = 3
    code = "backup"


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where in a changelog something went wrong; what is not known is None."""

    changeset: str | None = None  # path::id::author
    file: str | None = None
    line: int | None = None
    sqlstate: str | None = None  # five characters, from PostgreSQL


class MigrationFailed(StepFailed):
    code = "migration"

    def __init__(
        self, message: str, *, hint: str | None = None, code: str | None = None, place: Place | None = None
    ) -> None:
        super().__init__(message, hint=hint, code=code)
        self.place = place or Place()


class TransactionLost(MigrationFailed):
    """The one transaction is gone, or PostgreSQL cannot do this changelog in one transaction.

    `committed` is True when something was committed on the way (a COMMIT inside a changeset).
    """

    code = "transaction_lost"

    def __init__(self, message: str, *, committed: bool, hint: str | None = None, place: Place | None = None) -> None:
        super().__init__(message, hint=hint, place=place)
        self.committed = committed


class VerificationFailed(StepFailed):
    code = "verification"


class NotProven(StepFailed):
    code = "not_proven"
