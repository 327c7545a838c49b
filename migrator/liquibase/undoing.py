"""The last changesets of the ledger, and how a changelog would undo each. Reads only; runs in the worker."""

from __future__ import annotations

from typing import Any

from migrator.liquibase.events import identity
from migrator.liquibase.status import Status


class Undoing:
    """Answers for one parsed changelog against one database, in Liquibase's own order: the newest row comes first."""

    def __init__(self, database: Any, changelog: Any, status: Status) -> None:
        import jpype

        self._database = database
        self._changelog = changelog
        self._status = status
        self._generator = jpype.JClass("liquibase.sqlgenerator.SqlGeneratorFactory").getInstance()

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
        statements, tables = self._rollback(changeset)
        forward = self._status.statements(changeset)
        return answer | {
            "path": identity(changeset)["path"],
            "left_out": self._status.left_out(changeset),
            "changed": row.getLastCheckSum() is not None and not changeset.isCheckSumValid(row.getLastCheckSum()),
            "run_in_transaction": bool(changeset.isRunInTransaction()),
            "has_rollback": self._status.has_rollback(changeset),
            "statements": statements,
            "tables": sorted(tables | self._status.tables(changeset)),
            "forward": forward,
        }

    def _rollback(self, changeset: Any) -> tuple[list[str], set[str]]:
        """What undoing it would run, as SQL where Liquibase can say, and the tables in its structured changes."""
        changes = list(changeset.getRollback().getChanges())
        tables: set[str] = set()
        for change in changes:
            tables |= self._status.tables_of(change)
        if changes:
            return self._status.statements_of(changes), tables
        return self._generated(list(changeset.getChanges())[::-1]), tables

    def _generated(self, changes: list[Any]) -> list[str]:
        import jpype

        found: list[str] = []
        for change in changes:
            try:
                for statement in change.generateRollbackStatements(self._database):
                    found += [str(sql.toSql()) for sql in self._generator.generateSql(statement, self._database)]
            except jpype.JException:
                continue  # it has no rollback, which is told apart
        return found
