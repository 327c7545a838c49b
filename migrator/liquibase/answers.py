"""What the worker's answers say, in records and errors of our own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from migrator.errors import (
    ConnectionFailed,
    MigrationFailed,
    MigratorError,
    Place,
    Refused,
    TransactionLost,
)
from migrator.liquibase.models import Changeset, ChangesetState, Failed, Undoable
from migrator.liquibase.source import Lines
from migrator.postgres.connect import StatementFailed
from migrator.postgres.session import Row


@dataclass(frozen=True, kw_only=True)
class Done:
    """It was done, and there is nothing to tell."""


@dataclass(frozen=True, kw_only=True)
class Rows:
    rows: list[Row]


@dataclass(frozen=True, kw_only=True)
class Table:
    """A result with its columns: name and type OID."""

    columns: list[tuple[str, int]]
    rows: list[Row]

    def __post_init__(self) -> None:
        if any(len(row) != len(self.columns) for row in self.rows):
            raise ValueError("a row has other columns than the result")


@dataclass(frozen=True, kw_only=True)
class Changesets:
    changesets: tuple[Changeset, ...]


@dataclass(frozen=True, kw_only=True)
class Undoables:
    changesets: list[Undoable]


@dataclass(frozen=True, kw_only=True)
class Text:
    text: str


class Answers:
    """Those about changesets, which it remembers: an error names the file and line of its changeset."""

    def __init__(self) -> None:
        self._lines = Lines(Path())
        self._files: dict[str, str | None] = {}

    def find_files_below(self, root: Path) -> None:
        """Paths of changelogs are relative to that root from now on."""
        self._lines = Lines(root)

    def changesets(self, told: Sequence[Changeset]) -> list[Changeset]:
        """The same, each with its line where that is known."""
        found = [self._with_line(changeset) for changeset in told]
        self._files |= {changeset.key: changeset.file for changeset in found}
        return found

    def place(self, key: str | None, sqlstate: str | None = None) -> Place:
        """Where the changeset stands, as far as that is known."""
        if key is None:
            return Place(sqlstate=sqlstate)
        path, changeset_id, author = [*key.split("::", 2), "", ""][:3]
        file = self._files.get(key) or path
        line = self._lines.of(file, changeset_id=changeset_id, author=author)
        return Place(changeset=key, file=file, line=line, sqlstate=sqlstate)

    def error(self, failed: Failed) -> MigratorError:  # noqa: PLR0911  one for each kind
        """The worker's error as one of ours."""
        code, sqlstate = failed.code, failed.sqlstate
        place = self.place(failed.changeset, sqlstate)
        message = failed.message + (f" (SQLSTATE {sqlstate})" if sqlstate else "")
        if place.changeset:
            where = f" ({place.file}:{place.line})" if place.line else ""
            message = f"changeset {place.changeset}{where}: {message}"
        match failed.kind:
            case "connection":
                return ConnectionFailed(f"Liquibase cannot connect: {message}", code=code)
            case "sql":
                error = StatementFailed(message, sqlstate=sqlstate)
                error.code = code or error.code
                return error
            case "changelog":
                return Refused(f"the changelog cannot be used: {message}", code=code or "changelog", place=place)
            case "locked":
                return MigrationFailed(
                    message,
                    code="liquibase_lock",
                    hint="Another Liquibase holds the changelog lock, or one died holding it.",
                )
            case "lost":
                return TransactionLost(message, committed=failed.committed, place=place)
            case "migration":
                hint = "Correct it, or the data that it met, and run again." if place.changeset else None
                return MigrationFailed(message, code=code, place=place, hint=hint)
            case _:
                return MigratorError(f"Liquibase's worker: {message}")

    def _with_line(self, changeset: Changeset) -> Changeset:
        if changeset.state not in {ChangesetState.PENDING, ChangesetState.CHANGED}:
            return changeset
        line = self._lines.of(changeset.file, changeset_id=changeset.id, author=changeset.author)
        return replace(changeset, line=line)
