"""What goes when something goes: by DROP ... CASCADE, by TRUNCATE ... CASCADE, by ON DELETE CASCADE."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from psycopg import sql

from migrator.plans.findings.cursor import Name
from migrator.plans.findings.model import Stake
from migrator.postgres.reading import reading
from migrator.postgres.session import Session
from migrator.postgres.transactions import statement

# kind of a DROP -> catalogue, name column, schema column
_CATALOGUES = {
    "VIEW": ("pg_class", "relname", "relnamespace"),
    "MATERIALIZED VIEW": ("pg_class", "relname", "relnamespace"),
    "SEQUENCE": ("pg_class", "relname", "relnamespace"),
    "INDEX": ("pg_class", "relname", "relnamespace"),
    "TYPE": ("pg_type", "typname", "typnamespace"),
    "DOMAIN": ("pg_type", "typname", "typnamespace"),
    "FUNCTION": ("pg_proc", "proname", "pronamespace"),
    "PROCEDURE": ("pg_proc", "proname", "pronamespace"),
    "ROUTINE": ("pg_proc", "proname", "pronamespace"),
    "EXTENSION": ("pg_extension", "extname", None),
    "SCHEMA": ("pg_namespace", "nspname", None),
}

_OF_DROP = """
WITH RECURSIVE roots(catalogue, oid, part) AS (VALUES {}), taken(catalogue, oid, part) AS (
  SELECT catalogue::regclass::oid, oid::oid, part FROM roots
  UNION
  SELECT CASE WHEN d.classid = 'pg_rewrite'::regclass THEN 'pg_class'::regclass::oid ELSE d.classid END,
         CASE WHEN d.classid = 'pg_rewrite'::regclass
              THEN (SELECT ev_class FROM pg_rewrite r WHERE r.oid = d.objid) ELSE d.objid END,
         CASE WHEN d.classid = 'pg_class'::regclass THEN d.objsubid ELSE 0 END
  FROM taken t JOIN pg_depend d ON d.refclassid = t.catalogue AND d.refobjid = t.oid
   AND (t.part = 0 OR d.refobjsubid = t.part)
  WHERE d.deptype IN ('n', 'a', 'i', 'P', 'S')
    AND NOT (d.classid = d.refclassid AND d.objid = d.refobjid)
), own AS (
  SELECT t.catalogue, t.oid FROM taken t JOIN roots r ON r.catalogue::regclass::oid = t.catalogue AND r.oid::oid = t.oid
)
SELECT DISTINCT pg_describe_object(t.catalogue, t.oid, t.part),
       CASE WHEN c.relkind IN ('r', 'p', 'm') AND t.part = 0 THEN n.nspname END,
       CASE WHEN c.relkind IN ('r', 'p', 'm') AND t.part = 0 THEN c.relname END
FROM taken t
LEFT JOIN pg_class c ON t.catalogue = 'pg_class'::regclass AND c.oid = t.oid
LEFT JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_constraint k ON t.catalogue = 'pg_constraint'::regclass AND k.oid = t.oid
LEFT JOIN pg_type y ON t.catalogue = 'pg_type'::regclass AND y.oid = t.oid
LEFT JOIN pg_trigger g ON t.catalogue = 'pg_trigger'::regclass AND g.oid = t.oid
LEFT JOIN pg_policy p ON t.catalogue = 'pg_policy'::regclass AND p.oid = t.oid
WHERE NOT EXISTS (SELECT FROM own o WHERE o.catalogue = t.catalogue AND o.oid = t.oid)
  AND (c.relkind IN ('r', 'p', 'v', 'm', 'f')
       OR (c.relkind = 'S' AND NOT EXISTS (
             SELECT FROM pg_depend d JOIN taken o ON o.catalogue = d.refclassid AND o.oid = d.refobjid
             WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype IN ('a', 'i')
               AND d.refclassid = 'pg_class'::regclass))
       OR (k.contype = 'f' AND NOT EXISTS (
             SELECT FROM taken o WHERE o.catalogue = 'pg_class'::regclass AND o.oid = k.conrelid AND o.part = 0)
           AND NOT EXISTS (SELECT FROM own o WHERE o.catalogue = 'pg_class'::regclass AND o.oid = k.conrelid))
       OR (y.typtype IN ('d', 'e', 'r') AND y.typelem = 0)
       OR (g.tgisinternal = false AND NOT EXISTS (
             SELECT FROM taken o WHERE o.catalogue = 'pg_class'::regclass AND o.oid = g.tgrelid AND o.part = 0))
       OR (p.oid IS NOT NULL AND NOT EXISTS (
             SELECT FROM taken o WHERE o.catalogue = 'pg_class'::regclass AND o.oid = p.polrelid AND o.part = 0))
       OR t.catalogue = 'pg_proc'::regclass)
ORDER BY 1"""

_KEYS = """
SELECT k.confrelid, k.conrelid, k.confdeltype, n.nspname, c.relname
FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE k.contype = 'f' AND NOT c.relispartition
ORDER BY 4, 5"""

_OF_SCHEMA = """
SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = {} AND c.relkind IN ('r', 'p', 'm') AND NOT c.relispartition
ORDER BY 2"""


@dataclass(frozen=True, kw_only=True)
class Root:
    """What is dropped: a row of a catalogue, or one column of a table."""

    catalogue: str
    oid: int
    column: int = 0


@dataclass(frozen=True, kw_only=True)
class Taken:
    objects: tuple[str, ...] = ()  # in PostgreSQL's words: "view public.report"
    tables: tuple[tuple[str, str], ...] = ()  # those of them that hold rows: schema, name
    stakes: tuple[Stake, ...] = ()  # their numbers


def roots(session: Session, kind: str, name: Name, path: Sequence[str]) -> list[Root]:
    """The objects of that kind and name (functions may be several). Raises: StepFailed."""
    if kind not in _CATALOGUES:
        return []
    catalogue, column, schema = _CATALOGUES[kind]
    query = statement(
        "SELECT o.oid FROM {} o WHERE o.{} = {}", *map(sql.Identifier, (catalogue, column)), sql.Literal(name.name)
    )
    if schema is not None:
        schemas = [name.schema] if name.schema else list(path)
        query += statement(
            " AND o.{} IN (SELECT oid FROM pg_namespace WHERE nspname = ANY ({}::text[]))",
            sql.Identifier(schema),
            sql.Literal(schemas),
        )
    with reading(session):
        return [Root(catalogue=catalogue, oid=int(oid or 0)) for (oid,) in session.rows(query)]


def of_drop(session: Session, found: Sequence[Root]) -> Taken:
    """What a DROP ... CASCADE of these takes along. Raises: StepFailed."""
    if not found:
        return Taken()
    values = sql.SQL(", ").join(
        sql.SQL("({}, {}, {})").format(sql.Literal(root.catalogue), sql.Literal(root.oid), sql.Literal(root.column))
        for root in found
    )
    with reading(session):
        rows = session.rows(statement(_OF_DROP, values))
    return Taken(
        objects=tuple(str(row[0]) for row in rows),
        tables=tuple((str(schema), str(name)) for _, schema, name in rows if schema is not None),
    )


@dataclass(frozen=True, kw_only=True)
class Key:
    """A foreign key; `table` is the one that has it."""

    oid: int
    table: tuple[str, str]  # schema, name
    cascades: bool  # ON DELETE CASCADE


def keys(session: Session) -> dict[int, list[Key]]:
    """Every foreign key, by the oid of the table that it refers to. Raises: StepFailed."""
    with reading(session):
        rows = session.rows(_KEYS)
    found: dict[int, list[Key]] = {}
    for to, of, how, schema, name in rows:
        key = Key(oid=int(of or 0), cascades=how == "c", table=(str(schema), str(name)))
        found.setdefault(int(to or 0), []).append(key)
    return found


def of_rows(known: Mapping[int, Sequence[Key]], oids: Sequence[int], *, only_cascade: bool) -> Taken:
    """The tables that these keys reach from the tables given, step by step."""
    reached, waiting = set(oids), list(oids)
    found: set[tuple[str, str]] = set()
    while waiting:
        for key in known.get(waiting.pop(), ()):
            if key.oid not in reached and (key.cascades or not only_cascade):
                reached.add(key.oid)
                found.add(key.table)
                waiting.append(key.oid)
    tables = tuple(sorted(found))
    return Taken(objects=tuple(f"table {schema}.{name}" for schema, name in tables), tables=tables)


def of_schema(session: Session, schema: str) -> Taken:
    """The tables of a schema. Raises: StepFailed."""
    with reading(session):
        rows = session.rows(statement(_OF_SCHEMA, sql.Literal(schema)))
    return Taken(tables=tuple((str(schema), str(name)) for schema, name in rows))
