"""Whole databases: copied, made empty, swapped by name, dropped. Works for a login that is no superuser.

Everything here runs on a session to another database of the server, outside a transaction. Databases are recognised
by OID, not by name: that is what tells, after a crash, whether a swap took place.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import NamedTuple

from psycopg import sql

from migrator.errors import ConnectionFailed, Refused, StepFailed
from migrator.failpoints import Effect, doing, effect
from migrator.postgres import grants, sessions
from migrator.postgres.properties import DatabaseProperties, put_back, read, require_valid
from migrator.postgres.session import Session
from migrator.postgres.transactions import (
    LOCK_NOT_AVAILABLE,
    OBJECT_IN_USE,
    Deadline,
    sqlstate,
    statement,
    transaction,
)

KINDS = ("new", "old", "side", "scratch")
_RUN_DATABASE = re.compile(rf"mig_(?P<run>.+)_(?:{'|'.join(KINDS)})")
_MAX_NAME_BYTES = 63
_PROVIDERS = {"c": "libc", "i": "icu", "b": "builtin"}


class RunDatabase(NamedTuple):
    name: str
    oid: int

    @property
    def run_id(self) -> str:
        match = _RUN_DATABASE.fullmatch(self.name)
        return match["run"] if match else ""


def name_of(run_id: str, kind: str) -> str:
    """The name of a database that a run makes: `mig_<run>_new`, `_old`, `_side` or `_scratch`.

    Raises: Refused when PostgreSQL would cut the name off.
    """
    if kind not in KINDS:
        raise ValueError(f"no such kind of database: {kind}")
    name = f"mig_{run_id}_{kind}"
    if len(name.encode()) > _MAX_NAME_BYTES:
        raise Refused(f'the database name "{name}" is longer than {_MAX_NAME_BYTES} bytes', hint="Shorten the run id.")
    return name


def oid_of(admin: Session, name: str) -> int | None:
    """The OID of the database, None where there is none of this name."""
    found = admin.rows(statement("SELECT oid FROM pg_database WHERE datname = {}", sql.Literal(name)))
    return int(found[0][0] or 0) if found else None


def run_databases(admin: Session) -> list[RunDatabase]:
    """Every database whose name says that a run made it."""
    found = admin.rows("SELECT datname, oid FROM pg_database WHERE starts_with(datname, 'mig_') ORDER BY 1")
    return [RunDatabase(name or "", int(oid or 0)) for name, oid in found if _RUN_DATABASE.fullmatch(name or "")]


def orphan_folders(admin: Session) -> list[str]:
    """Folders below the data directory that belong to no database: what a server crash in a copy leaves behind.

    Only a superuser may look there; for any other login the list is empty. Nothing removes them by itself.
    """
    [(superuser,)] = admin.rows("SELECT rolsuper FROM pg_roles WHERE rolname = session_user")
    if superuser != "t":
        return []
    found = admin.rows(
        "SELECT 'base/' || name FROM pg_ls_dir('base') AS name"
        " WHERE name ~ '^[0-9]+$' AND NOT EXISTS (SELECT FROM pg_database WHERE oid = name::oid) ORDER BY 1"
    )
    return [str(folder) for (folder,) in found]


def unused_oid(admin: Session) -> int | None:
    """An OID that a copy can be given, to be written down before it is made; None on 14, which cannot be told one."""
    if major(admin) < 15:
        return None
    taken = {oid for (oid,) in admin.rows("SELECT oid FROM pg_database")}
    while True:
        # the upper half: the server's own counter starts low
        oid = 2**31 + secrets.randbelow(2**31 - 2)
        if str(oid) not in taken:
            return oid


def copy(
    admin: Session,
    source: str,
    copy_name: str,
    *,
    owner: str,
    timeout_s: float,
    wait_s: float = 30.0,
    oid: int | None = None,
) -> int:
    """`copy_name` holds what `source` holds, belongs to `owner` and lets in only the login of `admin`. Returns its OID.

    Every session on `source` is ended, the run's own too, and it is closed to all for the time of the copy; afterwards
    it is as open as before. `wait_s` is for sessions that do not go, `timeout_s` for the copying itself.
    Comment, settings, ACL and limit are not copied: see `properties.apply`. Not safe to repeat: drop the copy first.

    Raises: StepFailed, and `source` is as it was; when the session is lost it may be closed still, which
    `fence.take_down` puts right.
    """
    options = [sql.SQL("TEMPLATE {}").format(sql.Identifier(source))]
    if major(admin) >= 15:
        options.append(sql.SQL("STRATEGY {}").format(sql.Literal("file_copy")))
        options += [] if oid is None else [sql.SQL("OID {}").format(sql.Literal(oid))]
    with _closed(admin, source, reopen=True), _statement_timeout(admin, timeout_s):
        deadline = Deadline(wait_s)
        while True:
            _end_sessions(admin, source)
            try:
                _create(admin, copy_name, owner=owner, options=options)
                break
            except StepFailed as error:
                if sqlstate(error) != OBJECT_IN_USE or deadline.passed:
                    raise
            deadline.pause()
    return _open_for_us(admin, copy_name)


def create_empty(admin: Session, name: str, *, like: DatabaseProperties) -> int:
    """An empty database with the owner, encoding and locale of `like`, open to the login of `admin` only.

    Returns its OID. Raises: StepFailed, also when the name is taken.
    """
    options = [
        sql.SQL("TEMPLATE template0 ENCODING {} LC_COLLATE {} LC_CTYPE {}").format(
            sql.Literal(like.encoding), sql.Literal(like.collate), sql.Literal(like.ctype)
        )
    ]
    if like.locale_provider != "c":
        options.append(sql.SQL("LOCALE_PROVIDER {}").format(sql.Literal(_PROVIDERS[like.locale_provider])))
        locale = sql.SQL("ICU_LOCALE {}" if like.locale_provider == "i" else "BUILTIN_LOCALE {}")
        options.append(locale.format(sql.Literal(like.locale)))
        if like.icu_rules is not None:
            options.append(sql.SQL("ICU_RULES {}").format(sql.Literal(like.icu_rules)))
    if like.tablespace != "pg_default":  # naming even the default asks for a privilege on it
        options.append(sql.SQL("TABLESPACE {}").format(sql.Identifier(like.tablespace)))
    _create(admin, name, owner=like.owner, options=options)
    return _open_for_us(admin, name)


def drop(admin: Session, name: str, *, oid: int | None = None, timeout_s: float = 60.0) -> None:
    """No database of this name exists, also where an interrupted DROP had left it half removed. Safe to repeat.

    With `oid` only that database is dropped. Its inactive replication slots go with it.
    Raises: StepFailed; code `another_database` when the name belongs to another OID.
    """
    deadline = Deadline(timeout_s)
    while (found := oid_of(admin, name)) is not None:
        if oid is not None and found != oid:
            raise StepFailed(
                f'database "{name}" has OID {found}, not {oid}: it is another one and was not dropped',
                code="another_database",
            )
        _end_sessions(admin, name)
        try:
            with doing(Effect.DATABASE_DROP):
                admin.execute(statement("DROP DATABASE IF EXISTS {}", sql.Identifier(name)))
        except StepFailed as error:
            if sqlstate(error) != OBJECT_IN_USE or deadline.passed:
                raise
            deadline.pause()


def swap(
    admin: Session,
    *,
    current: str,
    incoming: str,
    old_name: str,
    properties: DatabaseProperties,
    oids: tuple[int, int] | None = None,
    wait_s: float = 30.0,
    last_look: Callable[[], None] = lambda: None,
) -> None:
    """`incoming` is called `current` and has `properties`; what was `current` is `old_name`, closed to everybody.

    One transaction: at every moment exactly one database is called `current`, and it has all its properties.
    Sessions on both are ended, again and again until `wait_s` have passed. `oids` are those of current and incoming:
    with them the swap is safe to repeat, and never swaps another database. `last_look` is called when nobody can come
    into either any more; what it raises leaves everything as before.

    Raises: StepFailed, and names, properties and openness are as before; ConnectionFailed: the OIDs then tell.
    """
    found = (oid_of(admin, current), oid_of(admin, incoming))
    old = oid_of(admin, old_name)
    if oids is not None and (old, found[0]) == oids:
        return
    if None in found or old is not None or oids not in (None, found):
        raise StepFailed(
            f'"{incoming}" cannot take the name of "{current}" now: current, incoming and old have the OIDs'
            f" {found[0]}, {found[1]} and {old} instead of {oids or 'two that are known'} and none",
            code="another_database",
        )
    deadline = Deadline(wait_s)
    with _closed(admin, current, reopen=False), _closed(admin, incoming, reopen=False):
        last_look()
        while True:
            _end_sessions(admin, current)
            _end_sessions(admin, incoming)
            try:
                with transaction(admin):
                    _rename(admin, current, old_name)
                    _rename(admin, incoming, current)
                    put_back(admin, current, properties)
                    _require((oid_of(admin, old_name), oid_of(admin, current)), found)
                return
            except StepFailed as error:
                if sqlstate(error) not in (OBJECT_IN_USE, LOCK_NOT_AVAILABLE) or deadline.passed:
                    raise
            deadline.pause()


def reopen(admin: Session, name: str) -> None:
    """Whoever has the privilege can connect: what a killed copy or swap had closed is open. Safe to repeat.

    Raises: StepFailed.
    """
    _allow_connections(admin, name, allow=True)


@contextmanager
def _closed(admin: Session, name: str, *, reopen: bool) -> Iterator[None]:
    """Nobody, superusers included, can connect in the block; after an error it is as open as it was before."""
    before = read(admin, name)
    require_valid(name, before)
    try:
        _allow_connections(admin, name, allow=False)
        yield
    except BaseException as error:
        if before.allow_connections:
            try:
                _allow_connections(admin, name, allow=True)
            except StepFailed as again:
                error.add_note(f'database "{name}" is still closed to everybody: {again.message}')
        raise
    if before.allow_connections and reopen:
        _allow_connections(admin, name, allow=True)


@contextmanager
def _statement_timeout(admin: Session, timeout_s: float) -> Iterator[None]:
    [(before,)] = admin.rows("SELECT current_setting('statement_timeout')")
    admin.execute(statement("SET statement_timeout = {}", sql.Literal(max(1, int(timeout_s * 1000)))))
    try:
        yield
    finally:
        with suppress(ConnectionFailed):  # a session that is gone has no timeout
            admin.execute(statement("SET statement_timeout = {}", sql.Literal(before)))


@effect(Effect.DATABASE_OPENNESS)
def _allow_connections(admin: Session, name: str, *, allow: bool) -> None:
    with transaction(admin):
        admin.execute(
            statement("ALTER DATABASE {} WITH ALLOW_CONNECTIONS {}", sql.Identifier(name), sql.Literal(allow))
        )


def _end_sessions(admin: Session, name: str) -> None:
    for session in sessions.foreign(admin, name, own_run=None):
        sessions.end_foreign(admin, name, session.pid, own_run=None)


@effect(Effect.DATABASE_CREATE)
def _create(admin: Session, name: str, *, owner: str, options: list[sql.Composed]) -> None:
    # closed until its privileges are in order: a new database lets PUBLIC in
    admin.execute(
        statement(
            "CREATE DATABASE {} WITH OWNER {} ALLOW_CONNECTIONS false {}",
            sql.Identifier(name),
            sql.Identifier(owner),
            sql.SQL(" ").join(options),
        )
    )


def _open_for_us(admin: Session, name: str) -> int:
    [(user,)] = admin.rows("SELECT session_user")
    with transaction(admin):
        now = read(admin, name)
        acl = grants.connect_only_for(user or "", owner=now.owner, grants=now.effective_acl)
        put_back(admin, name, replace(now, effective_acl=acl, allow_connections=True))
    return now.oid


@effect(Effect.DATABASE_RENAME)
def _rename(admin: Session, name: str, new_name: str) -> None:
    admin.execute(statement("ALTER DATABASE {} RENAME TO {}", sql.Identifier(name), sql.Identifier(new_name)))


def _require(found: tuple[int | None, ...], wanted: tuple[int | None, ...]) -> None:
    if found != wanted:
        raise StepFailed(f"the names were about to go to databases {found} instead of {wanted}: nothing was swapped")


def major(admin: Session) -> int:
    """The server's major version."""
    [(number,)] = admin.rows("SHOW server_version_num")
    return int(number or 0) // 10000
