"""Which relations hold rows, and whether all of their rows can be read."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from psycopg import sql

from migrator.postgres.reading import reading
from migrator.postgres.session import Session
from migrator.postgres.transactions import statement


@dataclass(frozen=True, kw_only=True, order=True)
class Relation:
    """A relation with rows of its own: an ordinary table, a leaf partition or a materialized view."""

    schema: str
    name: str
    oid: int
    kind: str  # pg_class.relkind: r or m
    qualified: str  # schema.name, each quoted where PostgreSQL's quote_ident would
    pages_bytes: int = 0  # an estimate, TOAST included: exact only right after VACUUM
    parent: str | None = None  # what it is a partition of, qualified
    populated: bool = True  # False for a materialized view that was never refreshed

    @property
    def identifier(self) -> sql.Identifier:
        return sql.Identifier(self.schema, self.name)


USER_SCHEMA = r"n.nspname !~ '^(pg_catalog|information_schema|pg_toast|pg_temp_\d+|pg_toast_temp_\d+)$'"
QUALIFIED = "quote_ident(n.nspname) || '.' || quote_ident(c.relname)"

_TABLES = f"""
SELECT n.nspname, c.relname, c.oid, c.relkind, {QUALIFIED},
       CASE WHEN c.reltuples < 0 THEN pg_table_size(c.oid)
            ELSE (c.relpages + coalesce(t.relpages, 0)) * current_setting('block_size')::bigint END,
       (SELECT quote_ident(pn.nspname) || '.' || quote_ident(p.relname)
        FROM pg_inherits i JOIN pg_class p ON p.oid = i.inhparent JOIN pg_namespace pn ON pn.oid = p.relnamespace
        WHERE i.inhrelid = c.oid AND c.relispartition),
       c.relispopulated
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_class t ON t.oid = c.reltoastrelid
WHERE c.relkind IN ('r', 'm') AND c.relpersistence <> 't' AND {USER_SCHEMA}
ORDER BY n.nspname, c.relname"""  # noqa: S608 (constants of this module)

_UNREADABLE = """
SELECT c.oid,
       CASE WHEN NOT has_schema_privilege(c.relnamespace, 'USAGE') THEN 'no USAGE privilege on its schema'
            WHEN NOT has_table_privilege(c.oid, 'SELECT') THEN 'no SELECT privilege'
            WHEN row_security_active(c.oid) THEN 'row level security hides rows from this login' END
FROM pg_class c
WHERE c.oid = ANY ({})
  AND (NOT has_schema_privilege(c.relnamespace, 'USAGE') OR NOT has_table_privilege(c.oid, 'SELECT')
       OR row_security_active(c.oid))"""

_PASSED_ON = """
SELECT quote_ident(pn.nspname) || '.' || quote_ident(p.relname), quote_ident(n.nspname) || '.' || quote_ident(c.relname)
FROM pg_constraint k
JOIN pg_class p ON p.oid = k.confrelid JOIN pg_namespace pn ON pn.oid = p.relnamespace
JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE k.contype = 'f' AND (k.confdeltype IN ('c', 'n', 'd') OR k.confupdtype IN ('c', 'n', 'd'))"""


def oid_array(oids: Iterable[int]) -> sql.Composable:
    """The oids as one SQL literal; sessions take no parameters."""
    return sql.SQL("{}::oid[]").format(sql.Literal("{" + ",".join(str(oid) for oid in oids) + "}"))


def tables(session: Session) -> list[Relation]:
    """Every ordinary table, leaf partition and materialized view outside the system's and temporary schemas, by name.

    A partitioned table has no rows of its own and is not listed, nor is a foreign table. Safe to repeat.
    """
    with reading(session):
        rows = session.rows(_TABLES)
    return [
        Relation(
            schema=str(schema),
            name=str(name),
            oid=int(oid or 0),
            kind=str(kind),
            qualified=str(qualified),
            pages_bytes=int(size or 0),
            parent=parent,
            populated=populated in ("t", "true"),
        )
        for schema, name, oid, kind, qualified, size, parent, populated in rows
    ]


def unreadable(session: Session, relations: Sequence[Relation]) -> dict[str, str]:
    """Qualified name -> why this login cannot read all its rows; empty when every one can be read in full."""
    by_oid = {relation.oid: relation.qualified for relation in relations}
    query = statement(_UNREADABLE, oid_array(by_oid))
    with reading(session):
        return {by_oid[int(oid or 0)]: str(reason) for oid, reason in session.rows(query)}


def cascades(session: Session, names: Collection[str]) -> frozenset[str]:
    """The tables to which a foreign key passes on what is done to one of `names`, and from there on."""
    with reading(session):
        passed_on = [(str(parent), str(child)) for parent, child in session.rows(_PASSED_ON)]
    found: set[str] = set()
    todo = set(names)
    while todo:
        todo = {child for parent, child in passed_on if parent in todo} - found
        found |= todo
    return frozenset(found)


_SCAN_BYTES_PER_S = 200e6  # a cold disk; from memory two to three times as much was measured
_TABLE_S = 0.001


def scan_estimate_s(relations: Iterable[Relation]) -> float:
    """Seconds that one session takes to fingerprint the rows of these relations; a guess on the safe side."""
    return sum(relation.pages_bytes / _SCAN_BYTES_PER_S + _TABLE_S for relation in relations)
