"""What belongs to a database and not to its contents: owner, privileges, settings, limit, comment, locale.

All of it follows the OID: a dump does not hold it, and a copy made from a template does not have it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from psycopg import sql

from migrator.errors import StepFailed
from migrator.failpoints import Effect, effect
from migrator.postgres import database_settings, grants
from migrator.postgres.database_settings import Setting, with_owners_rights
from migrator.postgres.grants import Grant
from migrator.postgres.session import Session
from migrator.postgres.transactions import rehearsal, sqlstate, statement, transaction

INVALID = -2  # datconnlimit of what an interrupted DROP or CREATE left behind (14.9, 15.4, 16 on)


@dataclass(frozen=True, kw_only=True)
class DatabaseProperties:
    oid: int
    owner: str
    acl: tuple[str, ...] | None  # as stored; None means PostgreSQL's default
    effective_acl: tuple[Grant, ...]  # in order; the default spelled out
    connection_limit: int  # -1: none
    allow_connections: bool
    settings: tuple[Setting, ...]  # in order; of the database, and of roles in it
    comment: str | None
    encoding: str
    collate: str
    ctype: str
    locale_provider: str  # c: libc, i: ICU, b: built in
    locale: str | None  # of ICU and of the built-in provider
    icu_rules: str | None
    tablespace: str

    def to_json(self) -> Mapping[str, object]:
        """Plain values, ready for `json.dumps`; `from_json` reads them back."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: object) -> DatabaseProperties:
        """The properties that `to_json` gave. Raises: ValueError when they are not whole."""
        from pydantic import TypeAdapter

        return TypeAdapter(cls).validate_python(data)


def read(admin: Session, database: str) -> DatabaseProperties:
    """The properties of a database of this server, seen from any of them.

    Raises: StepFailed, code `no_such_database`.
    """
    found = admin.rows(statement(_READ, sql.Literal(database)))
    if not found:
        raise StepFailed(
            f'there is no database "{database}" on this server',
            hint="Check the name at the end of the URL.",
            code="no_such_database",
        )
    [(whole_row, owner, encoding, tablespace, comment)] = found
    # the columns differ between 14, 15 and 17: a whole row as JSON has those that there are
    row = json.loads(whole_row or "")
    return DatabaseProperties(
        oid=int(row["oid"]),
        owner=owner or "",
        acl=None if row["datacl"] is None else tuple(row["datacl"]),
        effective_acl=grants.read(admin, database),
        connection_limit=row["datconnlimit"],
        allow_connections=row["datallowconn"],
        settings=database_settings.read(admin, database),
        comment=comment,
        encoding=encoding or "",
        collate=row["datcollate"],
        ctype=row["datctype"],
        locale_provider=row.get("datlocprovider", "c"),
        locale=row.get("datlocale", row.get("daticulocale")),
        icu_rules=row.get("daticurules"),
        tablespace=tablespace or "",
    )


def apply(admin: Session, database: str, properties: DatabaseProperties) -> None:
    """`database` has these properties, in one transaction; OID, encoding, locale and tablespace are left as they are.

    Safe to repeat. Raises: StepFailed, and nothing has changed.
    """
    with transaction(admin):
        put_back(admin, database, properties)


@effect(Effect.PROPERTIES)
def put_back(session: Session, database: str, wanted: DatabaseProperties) -> None:
    """As `apply`, inside the caller's transaction, which is to be rolled back after an error. All is read back.

    Raises: StepFailed; code `not_as_wanted` when every statement succeeded and the outcome is another all the same.
    """
    now = read(session, database)
    require_valid(database, now)
    name = sql.Identifier(database)
    if now.owner != wanted.owner:
        session.execute(statement("ALTER DATABASE {} OWNER TO {}", name, sql.Identifier(wanted.owner)))
    grants.put_back(session, database, wanted.effective_acl, owner=wanted.owner)
    database_settings.put_back(session, database, wanted.settings, owner=wanted.owner)
    with with_owners_rights(session, wanted.owner):
        if (now.connection_limit, now.allow_connections) != (wanted.connection_limit, wanted.allow_connections):
            session.execute(
                statement(
                    "ALTER DATABASE {} WITH ALLOW_CONNECTIONS {} CONNECTION LIMIT {}",
                    name,
                    sql.Literal(wanted.allow_connections),
                    sql.Literal(wanted.connection_limit),
                )
            )
        if now.comment != wanted.comment:
            session.execute(statement("COMMENT ON DATABASE {} IS {}", name, sql.Literal(wanted.comment)))
    if left := differences(read(session, database), wanted):
        raise StepFailed(
            f'database "{database}" is not as it should be: {"; ".join(left)}',
            hint="Run as a login that may act as the owner.",
            code="not_as_wanted",
        )


def differences(now: DatabaseProperties, wanted: DatabaseProperties) -> list[str]:
    """What `apply` would change, in words; compares the effective ACL, not how it is stored."""
    found = [
        f"{what} is {is_now!r} instead of {should_be!r}"
        for what, is_now, should_be in (
            ("the owner", now.owner, wanted.owner),
            ("the connection limit", now.connection_limit, wanted.connection_limit),
            ("allow_connections", now.allow_connections, wanted.allow_connections),
            ("the comment", now.comment, wanted.comment),
        )
        if is_now != should_be
    ]
    found += [f"missing: {grant}" for grant in wanted.effective_acl if grant not in now.effective_acl]
    found += [f"too many: {grant}" for grant in now.effective_acl if grant not in wanted.effective_acl]
    found += [f"missing: {setting}" for setting in wanted.settings if setting not in now.settings]
    found += [f"too many: {setting}" for setting in now.settings if setting not in wanted.settings]
    return found


def cannot_put_back(admin: Session, database: str) -> list[str]:
    """What this login could not give to a copy of the database, one sentence each: tried, and rolled back.

    Raises: StepFailed when not even trying is possible.
    """
    now = read(admin, database)
    require_valid(database, now)
    with transaction(admin), rehearsal(admin):
        found = database_settings.cannot_set(admin, database, owner=now.owner)
        try:
            with rehearsal(admin):
                grants.put_back(admin, database, (), owner=now.owner)
                grants.put_back(admin, database, now.effective_acl, owner=now.owner)
        except StepFailed as error:
            if sqlstate(error) is None and error.code != "not_as_wanted":
                raise
            found.append(f"privileges: {error.message}")
    return found


def require_valid(database: str, properties: DatabaseProperties) -> None:
    """It is no leftover. Raises: StepFailed: an ALTER on such a database ends the session, with all its locks."""
    if properties.connection_limit == INVALID:
        raise StepFailed(
            f'database "{database}" is what an interrupted CREATE or DROP left: all that can be done is to drop it',
            hint="DROP DATABASE finishes what was begun.",
            code="invalid_database",
        )


_READ = """
SELECT to_jsonb(d), pg_get_userbyid(d.datdba), pg_encoding_to_char(d.encoding), t.spcname,
       shobj_description(d.oid, 'pg_database')
FROM pg_database AS d JOIN pg_tablespace AS t ON t.oid = d.dattablespace
WHERE d.datname = {}
"""
