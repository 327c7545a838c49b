"""Who may write the backfills' ledger: its statements are carried out with the rights of whoever runs migrator."""

from __future__ import annotations

from psycopg import sql

from migrator.backfills.ledger_tables import Tables
from migrator.errors import Place, Refused
from migrator.failpoints import Effect, effect
from migrator.liquibase.ledger import TABLE
from migrator.postgres.session import Session
from migrator.postgres.transactions import statement


def close(session: Session, tables: Tables) -> None:
    """Nobody but their owner may do more than read the tables, whatever default privileges gave. Raises: StepFailed."""
    for table in (tables.backfills, tables.ranges):
        for (grantee,) in session.rows(statement(_GRANTEES, _oid(table))):
            session.execute(f"REVOKE {_WRITING}, REFERENCES ON TABLE {table.as_string(None)} FROM {grantee}")


@effect(Effect.BACKFILL_LEDGER)
def close_again(session: Session, tables: Tables) -> list[str]:
    """As `close`, for tables that a GRANT has opened since, where they are this login's. Who could write them.

    Raises: StepFailed.
    """
    found = []
    for table in (tables.backfills, tables.ranges):
        for (writers,) in session.rows(statement(_OPEN, table=_oid(table), writing=sql.Literal(_WRITING))):
            if writers is not None:
                session.execute(f"REVOKE {_WRITING} ON TABLE {table.as_string(None)} FROM {writers}")
                found.append(f"{table.as_string(None)} by {writers}")
    return found


def refuse_open(session: Session, tables: Tables) -> None:
    """What the tables hold was written by logins that are trusted with it. Raises: Refused, with the remedy."""
    for table in (tables.backfills, tables.ranges):
        name = table.as_string(None)
        asked = statement(_OTHERS, table=_oid(table), ledger=sql.Literal(TABLE), writing=sql.Literal(_WRITING))
        [(owner, writers, triggers, login)] = session.rows(asked) or [(None,) * 4]
        if owner is not None:
            raise _refused(name, f"belongs to {owner}", f"ALTER TABLE {name} OWNER TO {login};")
        if writers is not None:
            raise _refused(name, f"may be written by {writers}", f"REVOKE {_WRITING} ON TABLE {name} FROM {writers};")
        if triggers is not None:
            drop = f"DROP TRIGGER {triggers} ON {name};"
            raise _refused(name, f"has a trigger with code of somebody else's, {triggers}", drop)


def _refused(table: str, why: str, remedy: str) -> Refused:
    return Refused(
        f"{table} {why}. Statements in the backfills' ledger are carried out with the rights of this login, and it "
        "tells what is verified: nobody else may write it.",
        hint=f"Look at its rows, which may be somebody else's. Where they are right: {remedy}",
        code="ledger_open",
        place=Place(file=table),
    )


def _oid(table: sql.Identifier) -> sql.Literal:
    return sql.Literal(table.as_string(None))


_WRITING = ", ".join(("INSERT", "UPDATE", "DELETE", "TRUNCATE", "TRIGGER"))
_NAMED = "CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END"
_GRANTEES = f"""
SELECT DISTINCT {_NAMED}
FROM pg_class AS c CROSS JOIN aclexplode(c.relacl) AS a
WHERE c.oid = {{}}::regclass AND a.grantee <> c.relowner
"""  # noqa: S608 (a constant of this module)
# Trusted as owners are superusers, every role that this login is a member of, and who owns the database or Liquibase's
# ledger beside; as grantees no groups, which may have other members.
_TRUSTED = "(SELECT r.rolsuper OR pg_has_role(session_user, r.oid, 'MEMBER') FROM pg_roles AS r WHERE r.oid = {})"
_WRITERS = f"""(
SELECT string_agg(DISTINCT {_NAMED}, ', ')
FROM (SELECT * FROM aclexplode(c.relacl)
      UNION ALL
      SELECT x.* FROM pg_attribute AS f CROSS JOIN aclexplode(f.attacl) AS x WHERE f.attrelid = c.oid) AS a
WHERE a.privilege_type = ANY (string_to_array({{writing}}, ', ')) AND a.grantee <> c.relowner
      AND NOT EXISTS (SELECT FROM pg_roles AS r
                      WHERE r.oid = a.grantee AND (r.rolsuper OR r.rolname IN (session_user, current_user))))
"""  # noqa: S608 (a constant of this module)
_OPEN = f"""
SELECT {_WRITERS} FROM pg_class AS c WHERE c.oid = {{table}}::regclass AND pg_has_role(c.relowner, 'USAGE')
"""  # noqa: S608 (a constant of this module)
_OTHERS = f"""
SELECT CASE WHEN NOT {_TRUSTED.format("c.relowner")}
                 AND c.relowner <> (SELECT datdba FROM pg_database WHERE datname = current_database())
                 AND NOT EXISTS (SELECT FROM pg_class AS l WHERE l.relnamespace = c.relnamespace
                                 AND lower(l.relname) = {{ledger}} AND l.relowner = c.relowner)
            THEN quote_ident(pg_get_userbyid(c.relowner)) END,
       {_WRITERS},
       (SELECT string_agg(quote_ident(t.tgname), ', ')
        FROM pg_trigger AS t JOIN pg_proc AS p ON p.oid = t.tgfoid
        WHERE t.tgrelid = c.oid AND NOT t.tgisinternal AND NOT {_TRUSTED.format("p.proowner")}),
       quote_ident(session_user)
FROM pg_class AS c WHERE c.oid = {{table}}::regclass
"""  # noqa: S608 (a constant of this module)
