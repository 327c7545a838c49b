"""What PostgreSQL itself calls unfinished: invalid indexes and constraints that were never validated."""

from __future__ import annotations

from psycopg import sql

from migrator.postgres.catalog import QUALIFIED, USER_SCHEMA
from migrator.postgres.reading import reading
from migrator.postgres.session import Session

# A NOT ENFORCED constraint (18) is never validated, on purpose. to_jsonb: older servers lack the column.
_UNSOUND = f"""
SELECT 'index ' || {QUALIFIED} || ' is invalid'
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE NOT (i.indisvalid AND i.indisready AND i.indislive) AND {USER_SCHEMA}
UNION ALL
SELECT 'constraint ' || quote_ident(k.conname) || ' on ' || {QUALIFIED} || ' is not validated'
FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE NOT k.convalidated AND coalesce((to_jsonb(k)->>'conenforced')::boolean, true) AND {USER_SCHEMA}
UNION ALL
SELECT 'constraint ' || quote_ident(k.conname) || ' on domain '
       || quote_ident(n.nspname) || '.' || quote_ident(t.typname) || ' is not validated'
FROM pg_constraint k JOIN pg_type t ON t.oid = k.contypid JOIN pg_namespace n ON n.oid = t.typnamespace
WHERE NOT k.convalidated AND {USER_SCHEMA}"""  # noqa: S608 (constants of catalog.py)


_INVALID = f"""
SELECT n.nspname, c.relname, {QUALIFIED}
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE NOT i.indisvalid AND c.relkind = 'i' AND {USER_SCHEMA}
ORDER BY 1, 2"""  # noqa: S608 (constants of catalog.py)


def invalid_indexes(session: Session) -> dict[str, sql.Identifier]:
    """Qualified name -> identifier of every index that is invalid: one that failed, or one that is being built."""
    with reading(session):
        return {str(full): sql.Identifier(str(schema), str(name)) for schema, name, full in session.rows(_INVALID)}


def unsound(session: Session) -> frozenset[str]:
    """One sentence for every invalid index and every constraint that is not validated. Safe to repeat."""
    with reading(session):
        return frozenset(str(sentence) for (sentence,) in session.rows(_UNSOUND))
