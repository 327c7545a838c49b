"""The changes of a changeset: the SQL that they would run, and the tables that they name. Runs in the worker."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

_TABLE_FIELD = re.compile(r"table_?name$", re.IGNORECASE)
_REFERENCE = re.compile(r"^\s*((?:\"[^\"]+\"|[^\s(.\"]+)(?:\.(?:\"[^\"]+\"|[^\s(.\"]+))?)\s*\(")


class Changes:
    """Answers for one database."""

    def __init__(self, database: Any) -> None:
        import jpype

        self._database = database
        self._generator = jpype.JClass("liquibase.sqlgenerator.SqlGeneratorFactory").getInstance()
        self._raw_sql = jpype.JClass("liquibase.change.AbstractSQLChange")
        self._targeted = jpype.JClass("liquibase.change.DbmsTargetedChange")
        self._database_list = jpype.JClass("liquibase.database.DatabaseList")
        self._serializable = jpype.JClass("liquibase.serializer.LiquibaseSerializable")

    def statements(self, changes: Iterable[Any]) -> list[str]:
        """Their SQL, in order; empty when Liquibase cannot generate all of it."""
        return [statement for _, statement in self.written(changes)]

    def written(self, changes: Iterable[Any]) -> list[tuple[int, str]]:
        """Each statement of their SQL with the number of the change that it is of, counted from 0.

        None where Liquibase cannot generate all of it.
        """
        import jpype

        found: list[tuple[int, str]] = []
        for number, change in enumerate(changes):
            if self._is_for_another_dbms(change):
                continue
            try:
                generated = [str(sql.toSql()) for sql in self._generator.generateSql(change, self._database)]
            except jpype.JException:
                if not isinstance(change, self._raw_sql) or change.getSql() is None:
                    return []
                generated = [str(change.getSql())]
            found += [(number, statement) for statement in generated]
        return found

    def tables(self, changes: Iterable[Any]) -> set[str]:
        """The names of tables in those that are structured, as written there."""
        found: set[str] = set()
        for change in changes:
            found |= self._tables_of(change)
        return found

    def _is_for_another_dbms(self, change: Any) -> bool:
        if not isinstance(change, self._targeted) or change.getDbms() is None:
            return False
        return not self._database_list.definitionMatches(change.getDbms(), self._database, True)

    def _tables_of(self, part: Any) -> set[str]:
        found: set[str] = set()
        fields = {str(name) for name in part.getSerializableFields()}
        for name in fields:
            value = part.getSerializableFieldValue(name)
            if value is None:
                continue
            if isinstance(value, self._serializable):
                found |= self._tables_of(value)
            elif hasattr(value, "iterator"):
                for item in value:
                    if isinstance(item, self._serializable):
                        found |= self._tables_of(item)
            elif _TABLE_FIELD.search(name):
                schema_field = _TABLE_FIELD.sub("TableSchemaName", name)
                schema = next(
                    (
                        part.getSerializableFieldValue(candidate)
                        for candidate in (schema_field, "schemaName")
                        if candidate in fields and (name == "tableName" or candidate == schema_field)
                    ),
                    None,
                )
                found.add(f"{schema}.{value}" if schema is not None else str(value))
            elif name == "references" and (match := _REFERENCE.match(str(value))):
                found.add(match.group(1))
        return found
