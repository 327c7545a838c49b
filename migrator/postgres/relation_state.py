"""Small facts about a relation as a session sees it now: its columns, its rows, its locks."""

from __future__ import annotations

from psycopg import sql

from migrator.postgres.catalog import Relation
from migrator.postgres.reading import reading
from migrator.postgres.session import Session
from migrator.postgres.transactions import statement

_COLUMNS = """
SELECT a.attname, format_type(a.atttypid, a.atttypmod) FROM pg_attribute a
WHERE a.attrelid = {}::oid AND a.attnum > 0 AND NOT a.attisdropped AND to_jsonb(a)->>'attgenerated' <> 'v'"""
_LOCKED = """
SELECT (SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname) FROM pg_class c JOIN pg_namespace n
        ON n.oid = c.relnamespace WHERE c.oid = l.relation)
FROM pg_locks l WHERE l.pid = pg_backend_pid() AND l.locktype = 'relation' AND l.mode = 'AccessExclusiveLock'"""


def columns(session: Session, relation: Relation) -> dict[str, str]:
    """The relation's columns and their types, as this session sees them; virtual generated ones left out."""
    with reading(session):
        rows = session.rows(statement(_COLUMNS, sql.Literal(relation.oid)))
    return {str(name): str(kind) for name, kind in rows}


def count(session: Session, relation: Relation) -> int:
    """How many rows the relation has, as this session sees it. Reads all of it."""
    return int(session.rows(statement("SELECT count(*) FROM ONLY {}", relation.identifier))[0][0] or 0)


def locked_exclusively(session: Session) -> frozenset[str]:
    """Qualified names of the relations that this session's transaction keeps even readers from."""
    with reading(session):
        return frozenset(name for (name,) in session.rows(_LOCKED) if name is not None)
