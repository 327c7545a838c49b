"""How Liquibase would undo a changeset, as SQL. Reads only; runs in the worker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from migrator.liquibase.status import Status


class Rollbacks:
    """Answers for one database."""

    def __init__(self, database: Any, status: Status) -> None:
        import jpype

        self._database = database
        self._status = status
        self._generator = jpype.JClass("liquibase.sqlgenerator.SqlGeneratorFactory").getInstance()

    def of(self, changeset: Any) -> tuple[list[str], set[str]]:
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
