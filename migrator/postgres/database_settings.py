"""Settings of a database, and of roles in a database: read, and made to be given ones."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from psycopg import sql

from migrator.errors import StepFailed
from migrator.failpoints import Effect, effect
from migrator.postgres.session import Session
from migrator.postgres.transactions import acting_as, rehearsal, sqlstate, statement

# The stored value of these is a list of quoted names, whose parts have to be given one by one.
_NAME_LISTS = frozenset({"local_preload_libraries", "search_path", "session_preload_libraries", "temp_tablespaces"})
_NAME = re.compile(r'"((?:[^"]|"")*)"|([^\s,"]+)')


@dataclass(frozen=True, kw_only=True)
class Setting:
    role: str | None  # None: of the database itself
    name: str
    value: str

    def __str__(self) -> str:
        return f"{self.name} = {self.value}" + ("" if self.role is None else f" (role {self.role})")


def read(session: Session, database: str) -> tuple[Setting, ...]:
    """All settings bound to this database, in a fixed order."""
    [(found,)] = session.rows(statement(_READ, sql.Literal(database)))
    settings = []
    for item in json.loads(found or "[]"):
        name, _, value = item["setting"].partition("=")
        settings.append(Setting(role=item["role"], name=name, value=value))
    return in_order(settings)


def in_order(settings: Iterable[Setting]) -> tuple[Setting, ...]:
    return tuple(sorted(settings, key=lambda setting: (setting.role or "", setting.name)))


@effect(Effect.SETTINGS)
def put_back(session: Session, database: str, wanted: Iterable[Setting], *, owner: str) -> None:
    """The database has these settings and no other. Inside a transaction only. Safe to repeat.

    Raises: StepFailed, for one that only a superuser may set, or of a role on which this login has no rights.
    """
    should_be = in_order(wanted)
    now = read(session, database)
    kept = {(setting.role, setting.name) for setting in should_be}
    for setting in now:
        if (setting.role, setting.name) not in kept:
            with _rights_for(session, owner, setting):
                session.execute(statement("ALTER {} RESET {}", _whose(database, setting), _name(setting)))
    for setting in should_be:
        if setting not in now:
            set_one(session, database, setting, owner=owner)


@effect(Effect.SETTINGS)
def set_one(session: Session, database: str, setting: Setting, *, owner: str) -> None:
    """This setting is stored, as it was read. Inside a transaction only. Raises: StepFailed."""
    values = names_in(setting.value) if setting.name.lower() in _NAME_LISTS else [setting.value]
    literals = sql.SQL(", ").join(map(sql.Literal, values))
    with _rights_for(session, owner, setting):
        session.execute(statement("ALTER {} SET {} TO {}", _whose(database, setting), _name(setting), literals))


def cannot_set(session: Session, database: str, *, owner: str) -> list[str]:
    """The settings that this login could not give to a copy of the database: tried one by one and undone.

    Inside a transaction only. Raises: StepFailed when trying itself fails.
    """
    found = []
    for setting in read(session, database):
        try:
            with rehearsal(session):
                set_one(session, database, setting, owner=owner)
        except StepFailed as error:
            if sqlstate(error) is None:
                raise
            found.append(f"setting {setting}: {error.message}")
    return found


def with_owners_rights(session: Session, owner: str) -> AbstractContextManager[None]:
    """The block may change the database: as its owner, or as the superuser that the session is."""
    # a superuser keeps its own rights: settings that only a superuser may set are among those to put back
    [(superuser,)] = session.rows("SELECT rolsuper FROM pg_roles WHERE rolname = session_user")
    return nullcontext() if superuser == "t" else acting_as(session, owner)


def names_in(value: str) -> list[str]:
    """The names in a stored list such as `"$user", public`, without their quotes; an empty list is one empty name."""
    return [bare or quoted.replace('""', '"') for quoted, bare in _NAME.findall(value)] or [""]


def _rights_for(session: Session, owner: str, setting: Setting) -> AbstractContextManager[None]:
    # a role's own settings need rights on the role, which the owner need not have
    return with_owners_rights(session, owner) if setting.role is None else nullcontext()


def _whose(database: str, setting: Setting) -> sql.Composable:
    if setting.role is None:
        return sql.SQL("DATABASE {}").format(sql.Identifier(database))
    return sql.SQL("ROLE {} IN DATABASE {}").format(sql.Identifier(setting.role), sql.Identifier(database))


def _name(setting: Setting) -> sql.Composable:
    return sql.Identifier(*setting.name.split("."))


_READ = """
SELECT jsonb_agg(jsonb_build_object(
    'role', CASE WHEN s.setrole <> 0 THEN pg_get_userbyid(s.setrole) END,
    'setting', item))
FROM pg_database AS d
JOIN pg_db_role_setting AS s ON s.setdatabase = d.oid
CROSS JOIN unnest(s.setconfig) AS item
WHERE d.datname = {}
"""
