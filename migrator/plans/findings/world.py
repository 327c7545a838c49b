"""What is there when a statement runs: the database's tables, and what the changesets before it made or dropped."""

from __future__ import annotations

from migrator.plans.findings.cursor import Name
from migrator.plans.findings.database import Database, Table
from migrator.plans.findings.statements import Statement

_PUBLIC = "public"
_GROUPS = {"PROCEDURE": "FUNCTION", "ROUTINE": "FUNCTION", "AGGREGATE": "FUNCTION", "DOMAIN": "TYPE"}


class World:
    """Changes with every statement that is applied.

    Without a database only what the same file has made counts as new: which of the other files have run already,
    nobody knows.
    """

    def __init__(self, database: Database | None) -> None:
        self.database = database
        self._made: dict[tuple[str, str], str] = {}  # schema and name -> the file that made it
        self._columns: dict[tuple[str, str, str], str] = {}
        self._objects: dict[tuple[str, str, str], str] = {}  # kind, schema and name of what is no table
        self._gone: set[tuple[str, str]] = set()

    def table(self, name: Name) -> Table | None:
        """The table as the database has it; None without a database, and where this changelog makes or drops it."""
        key = self._key(name)
        if self.database is None or key in self._made or key in self._gone:
            return None
        return self.database.table(name)

    def is_new(self, name: Name, file: str | None) -> bool:
        """Whether the changesets before this statement have made it, so that nobody uses it yet."""
        return self._counts(self._made.get(self._key(name)), file)

    def is_new_column(self, name: Name, column: str, file: str | None) -> bool:
        """As `is_new`, of a column."""
        return self.is_new(name, file) or self._counts(self._columns.get((*self._key(name), column)), file)

    def is_new_object(self, kind: str, name: Name, file: str | None) -> bool:
        """As `is_new`, of a view, a function, a type, a sequence."""
        return self._counts(self._objects.get((_GROUPS.get(kind, kind), *self._key(name))), file)

    def apply(self, statement: Statement, file: str | None) -> None:
        """The statement has run."""
        where = file or ""
        if statement.verb == "CREATE" and statement.kind in {"TABLE", "MATERIALIZED VIEW"} and statement.name:
            if "IF NOT EXISTS" not in statement.modifiers or self.table(statement.name) is None:
                self._made.setdefault(self._key(statement.name), where)
        elif statement.verb == "CREATE" and statement.name and "REPLACE" not in statement.modifiers:
            kind = _GROUPS.get(statement.kind, statement.kind)
            self._objects.setdefault((kind, *self._key(statement.name)), where)
        elif statement.verb == "DROP" and statement.kind in {"TABLE", "MATERIALIZED VIEW"}:
            for name in statement.names:
                self._made.pop(self._key(name), None)
                self._gone.add(self._key(name))
        elif statement.verb == "ALTER" and statement.kind == "TABLE" and statement.name:
            self._altered(statement.name, statement, where)

    def _altered(self, table: Name, statement: Statement, file: str) -> None:
        for action in statement.actions:
            cursor = action.cursor()
            if cursor.take("RENAME", "TO"):
                renamed, made = cursor.identifier(), self._made.pop(self._key(table), None)
                self._gone.add(self._key(table))
                if renamed is not None and made is not None:
                    self._made[self._key(Name(schema=table.schema, name=renamed))] = made
            elif cursor.take("ADD"):
                if cursor.word() in {"CONSTRAINT", "CHECK", "UNIQUE", "PRIMARY", "FOREIGN", "EXCLUDE"}:
                    continue
                cursor.take("COLUMN")
                cursor.take("IF", "NOT", "EXISTS")
                column = cursor.identifier()
                if column is not None:
                    self._columns[(*self._key(table), column)] = file

    def _counts(self, made_in: str | None, file: str | None) -> bool:
        return made_in is not None and (self.database is not None or made_in == (file or ""))

    def _key(self, name: Name) -> tuple[str, str]:
        default = self.database.default_schema if self.database is not None else _PUBLIC
        return name.schema or default, name.name
