"""What a role may do on a server, and what there is in a database that it would need rights on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg import sql

from migrator.postgres.catalog import USER_SCHEMA
from migrator.postgres.session import Row, Session
from migrator.postgres.transactions import statement


@dataclass(frozen=True, kw_only=True)
class SchemaRights:
    name: str
    usage: bool
    create: bool
    unread: int  # tables, views and sequences in it that the role may not select from


@dataclass(frozen=True, kw_only=True)
class Owner:
    """A role that owns something in the database."""

    name: str
    relations: int  # tables, views, sequences
    others: int  # functions, types, schemas
    large_objects: int
    acted_for: bool  # whether the role has its rights, without SET ROLE
    is_superuser: bool


@dataclass(frozen=True, kw_only=True)
class Rights:
    """Of one role, in one database and on its server. A role that is not there has none."""

    role: str
    exists: bool
    superuser: bool
    createdb: bool
    signals: bool  # pg_signal_backend
    monitors: bool  # pg_monitor
    database: str
    owner: str  # of the database
    owns: bool  # whether it has the rights of the database's owner
    connects: tuple[tuple[str, bool], ...]  # database -> whether the role may connect
    schemas: tuple[SchemaRights, ...]
    owners: tuple[Owner, ...]
    strangers: tuple[tuple[str, str], ...]  # owner, schema: it has objects there and may not create any
    extensions: tuple[str, ...]  # installed ones that nobody but a superuser may create


# Of a role that is not there the oid is NULL, and so is every answer.
_ROLE = "(SELECT oid FROM pg_roles WHERE rolname = {})"
_SELF = f"""
SELECT r.oid IS NOT NULL, coalesce(r.rolsuper, false), coalesce(r.rolcreatedb, false),
       coalesce(pg_has_role(r.oid, 'pg_signal_backend', 'USAGE'), false),
       coalesce(pg_has_role(r.oid, 'pg_monitor', 'USAGE'), false),
       d.datname, pg_get_userbyid(d.datdba), coalesce(pg_has_role(r.oid, d.datdba, 'USAGE'), false)
FROM pg_database d LEFT JOIN pg_roles r ON r.oid = {_ROLE} WHERE d.datname = current_database()
"""  # noqa: S608 (constants of this module)
_CONNECTS = f"""
SELECT d.datname, coalesce(has_database_privilege({_ROLE}, d.oid, 'CONNECT'), false) FROM pg_database d
WHERE d.datname = ANY ({{}}) ORDER BY d.datname <> current_database(), d.datname
"""  # noqa: S608
_SCHEMAS = f"""
SELECT n.nspname, coalesce(has_schema_privilege(r.oid, n.oid, 'USAGE'), false),
       coalesce(has_schema_privilege(r.oid, n.oid, 'CREATE'), false),
       (SELECT count(*) FROM pg_class c WHERE c.relnamespace = n.oid AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
        AND NOT coalesce(CASE WHEN c.relkind = 'S' THEN has_sequence_privilege(r.oid, c.oid, 'SELECT')
                         ELSE has_table_privilege(r.oid, c.oid, 'SELECT') END, false))
FROM pg_namespace n LEFT JOIN pg_roles r ON r.oid = {_ROLE} WHERE {USER_SCHEMA} ORDER BY n.nspname
"""  # noqa: S608
_OWNERS = f"""
WITH owned(owner, kind) AS (
  SELECT c.relowner, 'relation' FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND {USER_SCHEMA} AND {{}}
  UNION ALL
  SELECT p.proowner, 'other' FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE {USER_SCHEMA} AND {{}}
  UNION ALL
  SELECT t.typowner, 'other' FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
  WHERE t.typtype IN ('d', 'e', 'r') AND {USER_SCHEMA} AND {{}}
  UNION ALL
  SELECT n.nspowner, 'other' FROM pg_namespace n WHERE {USER_SCHEMA} AND n.nspname <> 'public' AND {{}}
  UNION ALL
  SELECT l.lomowner, 'large object' FROM pg_largeobject_metadata l
)
SELECT o.rolname, count(*) FILTER (WHERE kind = 'relation'), count(*) FILTER (WHERE kind = 'other'),
       count(*) FILTER (WHERE kind = 'large object'),
       coalesce(pg_has_role({_ROLE}, o.oid, 'USAGE'), false), o.rolsuper
FROM owned JOIN pg_roles o ON o.oid = owned.owner GROUP BY o.oid, o.rolname, o.rolsuper ORDER BY o.rolname
"""  # noqa: S608
_STRANGERS = f"""
WITH owned(owner, schema) AS (
  SELECT c.relowner, c.relnamespace FROM pg_class c WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND {{}}
  UNION SELECT p.proowner, p.pronamespace FROM pg_proc p WHERE {{}}
  UNION SELECT t.typowner, t.typnamespace FROM pg_type t WHERE t.typtype IN ('d', 'e', 'r') AND {{}}
)
SELECT pg_get_userbyid(o.owner), n.nspname FROM owned o JOIN pg_namespace n ON n.oid = o.schema
WHERE {USER_SCHEMA} AND NOT has_schema_privilege(o.owner, n.oid, 'CREATE') ORDER BY 1, 2
"""  # noqa: S608
_NO_MEMBER = (
    "NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = '{}'::regclass AND e.objid = {}.oid AND e.deptype = 'e')"
)
_EXTENSIONS = """
SELECT e.extname FROM pg_extension e JOIN pg_available_extension_versions v
ON (v.name, v.version) = (e.extname, e.extversion) WHERE v.superuser AND NOT v.trusted ORDER BY 1
"""


def read(session: Session, role: str, *, databases: Sequence[str]) -> Rights:
    """The role's rights in the session's database, and on its server. Any login may ask. Raises: StepFailed."""
    name = sql.Literal(role)
    [(exists, superuser, createdb, signals, monitors, database, owner, owns)] = session.rows(statement(_SELF, name))
    not_of_extensions = [
        sql.SQL(_NO_MEMBER.format(catalogue, alias))
        for catalogue, alias in (("pg_class", "c"), ("pg_proc", "p"), ("pg_type", "t"), ("pg_namespace", "n"))
    ]
    return Rights(
        role=role,
        exists=exists == "t",
        superuser=superuser == "t",
        createdb=createdb == "t",
        signals=signals == "t",
        monitors=monitors == "t",
        database=database or "",
        owner=owner or "",
        owns=owns == "t",
        connects=tuple(
            (one or "", may == "t")
            for one, may in session.rows(statement(_CONNECTS, name, sql.Literal(list(databases))))
        ),
        schemas=tuple(_schema(row) for row in session.rows(statement(_SCHEMAS, name))),
        owners=tuple(_owner(row) for row in session.rows(statement(_OWNERS, *not_of_extensions, name))),
        strangers=tuple(
            (owner or "", schema or "") for owner, schema in session.rows(statement(_STRANGERS, *not_of_extensions[:3]))
        ),
        extensions=tuple(one or "" for (one,) in session.rows(_EXTENSIONS)),
    )


def _schema(row: Row) -> SchemaRights:
    name, usage, create, unread = row
    return SchemaRights(name=name or "", usage=usage == "t", create=create == "t", unread=int(unread or 0))


def _owner(row: Row) -> Owner:
    name, relations, others, large_objects, acted_for, superuser = row
    return Owner(
        name=name or "",
        relations=int(relations or 0),
        others=int(others or 0),
        large_objects=int(large_objects or 0),
        acted_for=acted_for == "t",
        is_superuser=superuser == "t",
    )
