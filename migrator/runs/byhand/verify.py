"""Whether a backup is what its manifest says: every byte of it, or a restore of it beside the database."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

from psycopg import sql

from migrator.backups.manifest import Manifest
from migrator.errors import BackupFailed, ConnectionFailed, MigratorError, Refused
from migrator.failpoints import Effect, doing, effect
from migrator.postgres import databases
from migrator.postgres.properties import DatabaseProperties
from migrator.postgres.session import Session
from migrator.postgres.transactions import statement
from migrator.runs import reconstruction, state, stores
from migrator.runs.byhand import beside
from migrator.runs.run import Run
from migrator.runs.words import count

TRIAL = "migrator-trial:"  # how the comment of a side database begins that is of no use to anybody afterwards


@dataclass(frozen=True, kw_only=True)
class Restored:
    """What a restore on trial has shown; nothing of it is left."""

    where: str  # the server, in words
    compared: str  # what was compared, in words
    differences: tuple[str, ...]  # empty: it restores to what was backed up
    not_compared: tuple[str, ...]


def read(run: Run, backup_id: str) -> Manifest:
    """Every byte of the backup has been read and is what its manifest says; of a clone, the copy is on the server.

    Raises: BackupFailed naming every file that is not as it should be.
    """
    found = stores.of(run).verify(backup_id, jobs=run.environment.backup.jobs)
    if found.kind == "clone":
        with stores.of(run).opened(backup_id) as folder:
            stores.clone(run).verify(stores.source(run), folder)
    if beside.is_of_server(found):
        beside.verify(run, found)
    return found


def by_restore(run: Run, found: Manifest, *, embedded: bool = False) -> Restored:
    """The backup was restored into a side database, compared with its manifest, and dropped again.

    On the environment's own server, or on an embedded one of this machine where that one cannot be used, or with
    `embedded`. The environment's database is not touched.
    Raises: BackupFailed when it cannot be restored; Refused where there is no server to restore it on.
    """
    if found.kind != "dump":
        raise Refused(
            f"The backup {found.id} is a {found.kind}: to restore it is to use it up.",
            hint="A clone is checked without --restore: its copy is looked for on the server.",
        )
    if not (found.schema_objects or found.tables):
        raise Refused(f"The manifest of {found.id} has no fingerprint that a restore could be compared with.")
    why_not = "--embedded was given" if embedded else _cannot_use_own_server(run)
    if why_not is None:
        return _try(run, found, where=f"{run.login.host}:{run.login.port}")
    return _on_embedded_server(run, found, why_not)


def _try(run: Run, found: Manifest, *, where: str) -> Restored:
    admin = run.the_admin()
    side = databases.name_of(run.id, "side")
    like = DatabaseProperties.from_json(dict(found.properties))
    reconstruction.add_state(run.facts, found)
    try:
        databases.create_empty(admin, side, like=like)
        with doing(Effect.DATABASE_MARK):
            admin.execute(statement("COMMENT ON DATABASE {} IS {}", sql.Identifier(side), sql.Literal(_comment(run))))
        stores.restore(run, found.id, side)
        differences = state.differences(run, side)
    finally:
        databases.drop(run.the_admin(), side)
    return Restored(
        where=where,
        compared=state.scope(run),
        differences=tuple(differences),
        not_compared=tuple(run.record.proof.not_proven),
    )


def _comment(run: Run) -> str:
    return TRIAL + json.dumps({"environment": run.environment.name, "target": run.database})


def _cannot_use_own_server(run: Run) -> str | None:
    try:
        admin = run.the_admin()
    except ConnectionFailed as error:
        return error.message
    [(may,)] = admin.rows("SELECT rolsuper OR rolcreatedb FROM pg_roles WHERE rolname = session_user")
    return None if may == "t" else f"{run.login.user} may not create databases on {run.login.host}"


def _on_embedded_server(run: Run, found: Manifest, why_not: str) -> Restored:
    """The same, on a server that is started for it and is gone afterwards."""
    from migrator.postgres.embedded import EmbeddedServer, Options

    major = int(found.server_version.split(".")[0])
    folder = run.folder / "trial"
    with doing(Effect.WORK_FILE):
        folder.mkdir(mode=0o711)
    try:
        options = Options(major=major, durable=False).that_ends_with_us(remove=folder)
        server = EmbeddedServer.start(folder / "pg", options)
    except MigratorError as error:
        raise Refused(
            f"The backup {found.id} cannot be restored on trial: {why_not}; and an embedded PostgreSQL {major} does "
            f"not start here: {error.message}",
            hint="Give the login CREATEDB, or install 'migrator[embedded]' on this machine.",
        ) from error
    login = server.admin.to(found.database)
    environment = run.environment.model_copy(update={"maintenance_database": "postgres"})
    trial = replace(run, login=login, environment=environment, admin=None, server=None, tools=None)
    try:
        _add_roles(trial.the_admin(), found)
        return _try(trial, found, where=f"an embedded PostgreSQL {server.major} of this machine")
    except BackupFailed as error:
        raise BackupFailed(
            f"{error.message} (tried on an embedded PostgreSQL {major}, because {why_not})", hint=error.hint
        ) from error
    finally:
        if trial.admin is not None:
            trial.admin.close()
        server.immediate_stop()


@effect(Effect.ROLE_CREATE)
def _add_roles(admin: Session, found: Manifest) -> None:
    """The roles that the dump names are there, none of which can log in."""
    there = {name for (name,) in admin.rows("SELECT rolname FROM pg_roles")}
    owner = DatabaseProperties.from_json(dict(found.properties)).owner
    schemas = [extension.schema_owner for extension in found.extensions]
    for role in dict.fromkeys([owner, *found.roles, *schemas]):
        if role not in there:
            admin.execute(statement("CREATE ROLE {} NOLOGIN", sql.Identifier(role)))


def described(restored: Restored) -> str:
    """The outcome in one sentence."""
    if restored.differences:
        shown = "; ".join(restored.differences[:3])
        return f"restored on {restored.where}, it differs in {count(len(restored.differences), 'place')}: {shown}"
    return f"restored on {restored.where}, it is what was backed up: {restored.compared}"
