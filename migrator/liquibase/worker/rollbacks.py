"""How Liquibase would undo a changeset, as SQL. Reads only; runs in the worker."""

from __future__ import annotations

from typing import Any

from migrator.liquibase.worker.changes import Changes


class Rollbacks:
    """Answers for one database."""

    def __init__(self, database: Any, changes: Changes) -> None:
        import jpype

        self._database = database
        self._changes = changes
        self._generator = jpype.JClass("liquibase.sqlgenerator.SqlGeneratorFactory").getInstance()

    def of(self, changeset: Any) -> tuple[list[str], set[str]]:
        """What undoing it would run, as SQL where Liquibase can say, and the tables in its structured changes."""
        changes = list(changeset.getRollback().getChanges())
        if changes:
            return self._changes.statements(changes), self._changes.tables(changes)
        return self._generated(list(changeset.getChanges())[::-1]), set()

    def exist(self, changeset: Any) -> bool:
        """Whether it can be undone: it says how, or Liquibase knows it of each of its changes."""
        import jpype

        try:
            return bool(changeset.supportsRollback(self._database))
        except jpype.JException:
            return False

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
