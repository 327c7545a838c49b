"""What a trigger can catch, and with whose rights: all that it needs is there, or a refusal says what to do instead."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from psycopg import sql

from migrator.backfills import capture_function
from migrator.backfills.capture_function import Deeds, Source
from migrator.errors import Refused, StepFailed
from migrator.postgres.session import Session
from migrator.postgres.transactions import rehearsal, sqlstate, statement

if TYPE_CHECKING:
    from migrator.backfills.definition import Backfill


@dataclass(frozen=True, kw_only=True)
class Definer:
    """With whose rights the trigger works."""

    role: str
    is_given: bool  # a superuser makes the function and gives it away


def source_of(session: Session, backfill: Backfill) -> Source:
    """The table as it is now. Raises: Refused for one whose writes a trigger cannot catch."""
    found = session.rows(statement(_SOURCE, sql.Literal(backfill.table)))
    if not found:
        raise _refused(backfill, f"there is no table {backfill.table}", "Correct `table` in the backfill's file.")
    schema, table, kind, owner, children, path, columns = (value or "" for value in found[0])
    if kind not in {"r", "p"}:
        raise _refused(backfill, f"{backfill.table} is no table", "Name the table that holds the rows.")
    if children == "t":
        raise _refused(
            backfill,
            f"{backfill.table} has child tables by inheritance, whose rows do not fire its triggers",
            'Declare capture = "application", or make the children partitions.',
        )
    missing = [name for name in (*backfill.key, *backfill.columns) if name not in json.loads(columns)]
    if missing:
        raise _refused(
            backfill,
            f"{backfill.table} has no column {', '.join(missing)}",
            "Correct `key` and `columns` in the backfill's file.",
        )
    return Source(
        schema=schema,
        table=table,
        owner=owner,
        key=backfill.key,
        columns=(*backfill.columns, *_in_where(backfill, json.loads(columns))) if backfill.columns else (),
        search_path=tuple(json.loads(path)),
    )


def statement_of(backfill: Backfill) -> str:
    """What the trigger does for a row. Raises: Refused where that is no SQL."""
    if backfill.statement is None:
        raise _refused(
            backfill,
            "its rows are moved by Python, which a trigger cannot call",
            'Declare capture = "application" and let the application write both sides, or give it a `statement`.',
        )
    return backfill.statement


def definer_of(session: Session, source: Source) -> Definer:
    """The table's owner, or this login where that one may not create a function beside it.

    Raises: Refused where this login has no rights on the table.
    """
    owner, schema = sql.Literal(source.owner), sql.Literal(source.schema)
    [(superuser, may_act, inherits, login)] = session.rows(statement(_RIGHTS, owner, schema))
    if superuser == "t" or may_act == "t":
        return Definer(role=source.owner, is_given=superuser == "t")
    if inherits == "t":
        return Definer(role=login or "", is_given=False)
    raise Refused(
        f"{login} cannot put a trigger on {source.identifier.as_string(None)}, which belongs to {source.owner}.",
        hint=f"Log in as a member of {source.owner}: GRANT {source.owner} TO {login}",
        code="capture",
    )


def refuse_unsafe(session: Session, backfill: Backfill, source: Source, definer: Definer) -> None:
    """Raises: Refused where others could put code of theirs into what the trigger does with the definer's rights."""
    owner = sql.Literal(definer.role)
    rows = session.rows(statement(_MAY_CREATE, path=sql.Literal(list(source.search_path)), owner=owner))
    if rows:
        schema, role = (value or "" for value in rows[0])
        raise _refused(
            backfill,
            f"{role} may create functions in the schema {schema}, and the trigger would take them for PostgreSQL's",
            f"REVOKE CREATE ON SCHEMA {schema} FROM {role}, or take the schema out of this login's search_path.",
        )
    name = capture_function.function_name(backfill.name)
    strangers = session.rows(
        statement(_STRANGERS, name=sql.Literal(name), schema=sql.Literal(source.schema), owner=owner)
    )
    if strangers:
        raise _refused(
            backfill,
            f"{strangers[0][0]} has a function {source.schema}.{name} already",
            "Drop it, or give the backfill another name.",
        )


def refuse_failing(session: Session, source: Source, deeds: Deeds, role: str) -> None:
    """The statements can be carried out with the rights of that role. Raises: Refused."""
    for field, text in (("statement", deeds.kept), ("on_delete", deeds.gone)):
        if text is None:
            continue
        try:
            with rehearsal(session):
                session.rows(capture_function.trial(source, text))
        except StepFailed as error:
            if sqlstate(error) is None:
                raise
            raise Refused(
                f"The {field} of backfill {deeds.name} cannot be carried out by {role}, with whose rights the trigger "
                f"would: {error.message}",
                hint=f'Grant {role} what it needs, or declare capture = "application" and let the application write '
                "both sides.",
                code="capture",
            ) from error


def _in_where(backfill: Backfill, columns: Sequence[str]) -> list[str]:
    """The columns that `where` may name: a change of one can let a row in, or go."""
    text = backfill.where or ""
    return [name for name in columns if re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text, re.IGNORECASE)]


def _refused(backfill: Backfill, why: str, remedy: str) -> Refused:
    return Refused(f"Backfill {backfill.name} cannot catch what others write: {why}.", hint=remedy, code="capture")


_SOURCE = """
SELECT n.nspname, c.relname, c.relkind, pg_get_userbyid(c.relowner),
       c.relkind = 'r' AND EXISTS (SELECT FROM pg_inherits AS i WHERE i.inhparent = c.oid),
       to_json(current_schemas(false)),
       (SELECT json_agg(a.attname) FROM pg_attribute AS a
        WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped)
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.oid = to_regclass({})
"""
# The database's owner, a schema's and superusers are trusted; so is whoever is a member of the definer.
_MAY_CREATE = """
SELECT quote_ident(n.nspname), CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END
FROM pg_namespace AS n CROSS JOIN aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) AS a
WHERE n.nspname = ANY ({path}::text[]) AND a.privilege_type = 'CREATE'
      AND a.grantee <> n.nspowner
      AND a.grantee <> (SELECT datdba FROM pg_database WHERE datname = current_database())
      AND (a.grantee = 0 OR pg_get_userbyid(a.grantee) NOT IN ('pg_database_owner', current_user)
                        AND NOT pg_has_role(a.grantee, {owner}, 'MEMBER'))
ORDER BY a.grantee, n.nspname
"""
_STRANGERS = """
SELECT quote_ident(pg_get_userbyid(p.proowner))
FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace
WHERE p.proname = {name} AND n.nspname = {schema} AND pg_get_userbyid(p.proowner) NOT IN ({owner}, current_user)
"""
_RIGHTS = """
SELECT r.rolsuper,
       pg_has_role({0}, CASE WHEN current_setting('server_version_num')::int >= 160000 THEN 'SET' ELSE 'MEMBER' END)
       AND has_schema_privilege({0}, {1}, 'CREATE'),
       pg_has_role({0}, 'USAGE') AND has_schema_privilege({1}, 'CREATE'),
       current_user
FROM pg_roles AS r WHERE r.rolname = current_user
"""
