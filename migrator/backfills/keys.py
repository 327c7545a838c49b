"""The keys of a table as SQL: compared, ordered, written as literals of their own types, carried in arrays."""

from __future__ import annotations

from dataclasses import dataclass

from psycopg import sql


@dataclass(frozen=True, kw_only=True)
class Column:
    name: str
    type: str  # as SQL names it, without length


@dataclass(frozen=True, kw_only=True)
class Table:
    """The table whose rows are walked through, and its key."""

    oid: int
    schema: str
    name: str
    key: tuple[Column, ...]
    is_partitioned: bool
    size_bytes: int

    @property
    def identifier(self) -> sql.Identifier:
        return sql.Identifier(self.schema, self.name)

    @property
    def qualified(self) -> str:
        """Quoted, for a regclass."""
        return self.identifier.as_string(None)
