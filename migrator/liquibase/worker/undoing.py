"""The last changesets of the ledger, and how a changelog would undo each. Reads only; runs in the worker."""

from __future__ import annotations

from typing import Any

from migrator.liquibase.worker.changes import Changes
from migrator.liquibase.worker.events import identity
from migrator.liquibase.worker.rollbacks import Rollbacks
from migrator.liquibase.worker.status import Status


class Undoing:
    """Answers for one parsed changelog against one database, in Liquibase's own order: the newest row comes first."""

    def __init__(self, database: Any, changelog: Any, status: Status) -> None:
        self._database = database
        self._changelog = changelog
        self._status = status
        self._changes = Changes(database)
        self._rollbacks = Rollbacks(database, self._changes)

    def of(self, count: int) -> list[dict[str, Any]]:
        """The `count` newest rows."""
        newest = list(self._database.getRanChangeSetList())[::-1]
        return [self._one(row) for row in newest[:count]]

    def _one(self, row: Any) -> dict[str, Any]:
        found = list(self._changelog.getChangeSets(row))
        answer: dict[str, Any] = {
            "id": str(row.getId()),
            "author": str(row.getAuthor()),
            "path": str(row.getStoredChangeLog()),
            "marked_only": str(row.getExecType().name()) == "MARK_RAN",
            "is_known": bool(found),
        }
        if not found:
            return answer
        changeset = found[0]
        changes = changeset.getChanges()
        statements, tables = self._rollbacks.of(changeset)
        forward = self._changes.statements(changes)
        return answer | {
            "path": identity(changeset)["path"],
            "left_out": self._status.left_out(changeset),
            "changed": row.getLastCheckSum() is not None and not changeset.isCheckSumValid(row.getLastCheckSum()),
            "run_in_transaction": bool(changeset.isRunInTransaction()),
            "has_rollback": self._rollbacks.exist(changeset),
            "statements": statements,
            "tables": sorted(tables | self._changes.tables(changes)),
            "forward": forward,
        }
