"""The servers on which a scratch database can be made, and which of them is chosen."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from enum import StrEnum

from psycopg import sql

from migrator.config import targets
from migrator.config.login import Login, Secret
from migrator.errors import ConnectionFailed, MigratorError, Refused
from migrator.failpoints import Effect, doing, effect
from migrator.liquibase.changelog import Seen
from migrator.plans.words import size
from migrator.postgres import connect, disk, embedded_programs, properties
from migrator.postgres.connect import PgSession, ServerInfo
from migrator.postgres.properties import DatabaseProperties
from migrator.postgres.session import Session
from migrator.postgres.transactions import statement
from migrator.rehearsals import outside
from migrator.rehearsals.origin import Origin
from migrator.runs.run import Run


class Place(StrEnum):
    OWN = "own"  # the target's own server
    SERVER = "server"  # the one that scratch.url names
    EMBEDDED = "embedded"  # a PostgreSQL of this machine, started for it and gone afterwards


@dataclass(frozen=True, kw_only=True)
class Ground:
    """A server on which the scratch database is made."""

    place: Place
    maker: Login  # who makes and fills it; to the maintenance database
    worker: Login  # who works in it: the target's login, or whoever stands for it
    admin: PgSession  # of `maker`; named after the scratch database's id, and open as long as that is needed
    server: ServerInfo
    like: DatabaseProperties  # of the target, with an owner that there is here
    differences: tuple[str, ...] = ()  # from the target's server

    @property
    def where(self) -> str:
        version = f"PostgreSQL {self.server.version}"
        if self.place is Place.EMBEDDED:
            return f"an embedded {version} of this machine"
        what = "the target's own server" if self.place is Place.OWN else "the scratch server"
        return f"{what} ({self.maker.host}:{self.maker.port}, {version})"


_ROLES = "SELECT rolname FROM pg_roles WHERE oid >= 16384 ORDER BY 1"
_MEMBERSHIPS = """
SELECT r.rolname, m.rolname FROM pg_auth_members a JOIN pg_roles r ON r.oid = a.roleid JOIN pg_roles m
ON m.oid = a.member WHERE a.member >= 16384 ORDER BY 1, 2
"""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a server is looked for: a place for a copy of `origin`, in which `outside` would be executed."""

    origin: Origin
    place: Place | None = None  # the one that was asked for; None: the first that will do
    outside: Seen | None = None  # what would reach the whole server: then never the target's


@contextmanager
def opened(run: Run, scratch_id: str, wanted: Wanted) -> Iterator[Ground]:
    """A server that stands until the block ends: the place that is wanted, or the first that can be used.

    For data that is elsewhere, in a backup or a file, the configured scratch server comes first: it is there
    to spare the target's. Raises: Refused saying of each why not.
    """
    order = [Place.OWN, Place.SERVER, Place.EMBEDDED]
    if wanted.origin.is_elsewhere:
        order = [Place.SERVER, Place.OWN, Place.EMBEDDED]
    why_not: list[str] = []
    for one in [wanted.place] if wanted.place is not None else order:
        found = _hindrance(run, one, wanted)
        if found is not None:
            why_not.append(found)
            continue
        with _MAKERS[one](run, scratch_id) as ground:
            yield ground
        return
    if wanted.outside is not None:
        raise Refused(
            f"{outside.told(wanted.outside)}: on a copy too that would reach the server, so it is tried on another one"
            f" than the target's, and there is none: {'; '.join(why_not)}.",
            hint="Install 'migrator[embedded]' here (--at embedded), or name another server in scratch.url.",
            code=outside.CODE,
        )
    raise Refused(
        f"There is no server for a scratch database: {'; '.join(why_not)}.",
        hint="Give the login CREATEDB, or name a server in scratch.url, or install 'migrator[embedded]' here.",
        code="no_scratch_server",
    )


def _hindrance(run: Run, place: Place, wanted: Wanted) -> str | None:
    """Why this place cannot be used; None where it can."""
    match place:
        case Place.OWN:
            if wanted.outside is not None:
                return f"{run.login.host} is the target's own server"
            return _own_hindrance(run) or _lack_of_room(run, wanted.origin)
        case Place.SERVER:
            if run.environment.scratch.url is None:
                return "scratch.url names no server"
            return "scratch.url names the target's own server" if wanted.outside is not None and _same(run) else None
        case Place.EMBEDDED:
            return _embedded_hindrance(run)


def _same(run: Run) -> bool:
    """Whether scratch.url leads to the target's own server, under whatever name: it started at the same instant."""
    maker = targets.scratch_login(run.environment.scratch, run.config.base)
    if maker is None:
        return False
    started = "SELECT pg_postmaster_start_time()::timestamptz(6) AT TIME ZONE 'UTC'"
    with closing(_admin(run, maker, run.id)) as admin:
        return admin.rows(started) == run.the_admin().rows(started)


def _lack_of_room(run: Run, origin: Origin) -> str | None:
    """A copy with rows takes what the target does, or at least the file it comes from; None where nobody can tell."""
    if not origin.has_data:
        return None
    admin = run.the_admin()
    free = disk.free_bytes(admin, run.database, login=run.login, server=connect.server_info(admin))
    if free is None:
        return None
    needed = origin.file_bytes if origin.kind == "dump" else disk.size_bytes(admin, run.database)
    if free >= needed:
        return None
    return f"{run.login.host} has {size(free)} free, and the copy needs {size(needed)}"


def _own_hindrance(run: Run) -> str | None:
    admin = run.the_admin()
    [(may, replica)] = admin.rows(
        "SELECT rolsuper OR rolcreatedb, pg_is_in_recovery() FROM pg_roles WHERE rolname = session_user"
    )
    if replica == "t":
        return f"{run.login.host} is a replica"
    if may != "t":
        return f"{run.login.user} may not create databases on {run.login.host}"
    owner = properties.read(admin, run.database).owner
    [(acts,)] = admin.rows(statement("SELECT pg_has_role(session_user, {}, 'MEMBER')", sql.Literal(owner)))
    return None if acts == "t" else f"{run.login.user} may not act as {owner}, who owns {run.database}"


def _embedded_hindrance(run: Run) -> str | None:
    admin = run.the_admin()
    major = connect.server_info(admin).major
    programs = embedded_programs.installed()
    if major not in programs:
        has = ", ".join(str(one) for one in sorted(programs)) or "none"
        return f"there is no embedded PostgreSQL {major} on this machine (there is {has})"
    like = properties.read(admin, run.database)
    if like.locale_provider == "i":
        return f"the embedded PostgreSQL has no ICU, which {run.database} is sorted by ({like.locale})"
    if like.locale_provider == "c" and like.collate not in ("C", "POSIX"):
        return f"text in {run.database} is sorted by its system's {like.collate}, which this machine may do otherwise"
    return None


@contextmanager
def _own(run: Run, scratch_id: str) -> Iterator[Ground]:
    maker = run.login.to(run.environment.maintenance_database)
    with closing(_admin(run, maker, scratch_id)) as admin:
        yield Ground(
            place=Place.OWN,
            maker=maker,
            worker=run.login,
            admin=admin,
            server=connect.server_info(admin),
            like=properties.read(admin, run.database),
        )


@contextmanager
def _configured(run: Run, scratch_id: str) -> Iterator[Ground]:
    maker = targets.scratch_login(run.environment.scratch, run.config.base)
    if maker is None:
        raise Refused("scratch.url names no server.")
    wanted = connect.server_info(run.the_admin()).major
    with closing(_admin(run, maker, scratch_id)) as admin:
        server = connect.server_info(admin)
        if server.major != wanted:
            raise Refused(
                f"The scratch server {maker.host}:{maker.port} is PostgreSQL {server.major}, and the target {wanted}.",
                hint="Name a server of the same major version in scratch.url.",
                code="other_major",
            )
        like = properties.read(run.the_admin(), run.database)
        differences = ["the target server's own settings and hardware"]
        found = admin.rows(
            statement(
                "SELECT pg_has_role(session_user, oid, 'MEMBER') FROM pg_roles WHERE rolname = {}",
                sql.Literal(like.owner),
            )
        )
        if found != [("t",)]:
            differences.append(f"the owner {like.owner}: it belongs to {maker.user}")
            like = replace(like, owner=maker.user)
        yield Ground(
            place=Place.SERVER,
            maker=maker,
            worker=maker,
            admin=admin,
            server=server,
            like=replace(like, tablespace="pg_default"),
            differences=tuple(differences),
        )


@contextmanager
def _embedded(run: Run, scratch_id: str) -> Iterator[Ground]:
    from migrator.postgres.embedded import EmbeddedServer, Options

    target = run.the_admin()
    major = connect.server_info(target).major
    folder = run.folder / f"scratch-{scratch_id}"
    with doing(Effect.WORK_FILE):
        folder.mkdir(mode=0o711)
    try:
        server = EmbeddedServer.start(
            folder / "pg", Options(major=major, durable=False).that_ends_with_us(remove=folder)
        )
    except MigratorError as error:
        raise Refused(
            f"An embedded PostgreSQL {major} does not start here: {error.message}", hint=error.hint
        ) from error
    try:
        with closing(_admin(run, server.admin, scratch_id)) as admin:
            like = properties.read(target, run.database)
            worker = _add_roles(admin, target, server.admin, user=run.login.user, owner=like.owner)
            yield Ground(
                place=Place.EMBEDDED,
                maker=server.admin,
                worker=worker,
                admin=admin,
                server=connect.server_info(admin),
                like=replace(like, tablespace="pg_default", settings=()),
                differences=("the target server's own settings and hardware", "settings of the database"),
            )
    finally:
        server.immediate_stop()


@effect(Effect.ROLE_CREATE)
def _add_roles(admin: Session, target: Session, maker: Login, *, user: str, owner: str) -> Login:
    """The target server's roles are here by name and membership; only `user` can log in, with the rights it has there.

    Returns its login.
    """
    there = {name for (name,) in admin.rows("SELECT rolname FROM pg_roles")}
    wanted = [name or "" for (name,) in target.rows(_ROLES)]
    for role in dict.fromkeys([owner, user, *wanted]):
        if role not in there:
            admin.execute(statement("CREATE ROLE {} NOLOGIN", sql.Identifier(role)))
    for granted, member in target.rows(_MEMBERSHIPS):
        admin.execute(statement("GRANT {} TO {}", sql.Identifier(granted or ""), sql.Identifier(member or "")))
    if user == maker.user:
        return maker
    [(superuser,)] = target.rows("SELECT rolsuper FROM pg_roles WHERE rolname = session_user")
    rights = sql.SQL("LOGIN SUPERUSER" if superuser == "t" else "LOGIN CREATEDB CREATEROLE")
    password = secrets.token_urlsafe(24)
    admin.execute(statement("ALTER ROLE {} {} PASSWORD {}", sql.Identifier(user), rights, sql.Literal(password)))
    return replace(maker, user=user, password=Secret(password))


def _admin(run: Run, maker: Login, scratch_id: str) -> PgSession:
    try:
        return connect.connect(
            maker,
            role="orchestrator",
            run_id=scratch_id,
            connect_timeout_s=run.environment.limits.connect_timeout_s,
        )
    except ConnectionFailed as error:
        raise Refused(f"No scratch database can be made: {error.message}", hint=error.hint, code=error.code) from error


_MAKERS = {Place.OWN: _own, Place.SERVER: _configured, Place.EMBEDDED: _embedded}
