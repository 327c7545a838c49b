"""What the worker's answers say, in records and errors of our own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from migrator.errors import (
    ConnectionFailed,
    MigrationFailed,
    MigratorError,
    Place,
    Refused,
    TransactionLost,
)
from migrator.liquibase.models import Changeset, ChangesetResult, ChangesetState, Undoable, Updated
from migrator.liquibase.source import Lines
from migrator.postgres import write_set
from migrator.postgres.connect import StatementFailed


class Answers:
    """Those about changesets, which it remembers: an error names the file and line of its changeset."""

    def __init__(self) -> None:
        self._lines = Lines(Path())
        self._files: dict[str, str | None] = {}

    def find_files_below(self, root: Path) -> None:
        """Paths of changelogs are relative to that root from now on."""
        self._lines = Lines(root)

    def changesets(self, answer: dict[str, Any]) -> list[Changeset]:
        """Every changeset that the answer holds."""
        found = [self._changeset(fields) for fields in answer["changesets"]]
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

    def error(self, fields: dict[str, Any]) -> MigratorError:  # noqa: PLR0911  one for each kind
        """The worker's error as one of ours."""
        kind, code, sqlstate = fields["kind"], fields["code"], fields["sqlstate"]
        place = self.place(fields["changeset"], sqlstate)
        message = fields["message"] + (f" (SQLSTATE {sqlstate})" if sqlstate else "")
        if place.changeset:
            where = f" ({place.file}:{place.line})" if place.line else ""
            message = f"changeset {place.changeset}{where}: {message}"
        match kind:
            case "connection":
                return ConnectionFailed(f"Liquibase cannot connect: {message}", code=code)
            case "sql":
                failed = StatementFailed(message, sqlstate=sqlstate)
                failed.code = code or failed.code
                return failed
            case "changelog":
                return Refused(f"the changelog cannot be used: {message}", code=code or "changelog", place=place)
            case "locked":
                return MigrationFailed(
                    message,
                    code="liquibase_lock",
                    hint="Another Liquibase holds the changelog lock, or one died holding it.",
                )
            case "lost":
                return TransactionLost(message, committed=fields["committed"], place=place)
            case "migration":
                hint = "Correct it, or the data that it met, and run again." if place.changeset else None
                return MigrationFailed(message, code=code, place=place, hint=hint)
            case _:
                return MigratorError(f"Liquibase's worker: {message}")

    def _changeset(self, fields: dict[str, Any]) -> Changeset:
        changeset = Changeset(
            **{
                **fields,
                "state": ChangesetState(fields["state"]),
                "statements": tuple(fields.get("statements", ())),
                "origins": tuple(fields.get("origins", ())),
                "rollback": tuple(fields.get("rollback", ())),
                "tables": frozenset(fields.get("tables", ())),
                "changes": tuple(fields.get("changes", ())),
            }
        )
        if changeset.state not in {ChangesetState.PENDING, ChangesetState.CHANGED}:
            return changeset
        line = self._lines.of(changeset.file, changeset_id=changeset.id, author=changeset.author)
        return replace(changeset, line=line)


def updated(answer: dict[str, Any]) -> Updated:
    """What a command that changed the database has done."""
    return Updated(
        changesets=tuple(ChangesetResult(**result) for result in answer["changesets"]),
        write_set=frozenset(answer["write_set"]),
        counts={
            name: write_set.Counts(inserted=inserted, updated=updated, deleted=deleted)
            for name, (inserted, updated, deleted) in answer["counts"].items()
        },
        outside_transaction=tuple(answer["outside_transaction"]),
        savepoints=answer["savepoints"],
    )


def undoable(fields: dict[str, Any]) -> Undoable:
    """A row of the ledger, and how it would be undone."""
    return Undoable(
        **{
            **fields,
            "statements": tuple(fields.get("statements", ())),
            "forward": tuple(fields.get("forward", ())),
            "tables": frozenset(fields.get("tables", ())),
        }
    )
