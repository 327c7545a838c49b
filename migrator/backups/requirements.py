"""What a database needs from the server around it: roles that its objects name, extensions and their versions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg import sql

from migrator.backups.manifest import ExtensionState
from migrator.errors import BackupFailed
from migrator.failpoints import Effect, effect
from migrator.postgres.session import Session
from migrator.postgres.transactions import statement

# Roles of the server's own are not recorded as dependencies and are everywhere.
_ROLES = """
SELECT DISTINCT r.rolname FROM pg_shdepend d JOIN pg_roles r ON r.oid = d.refobjid
WHERE d.refclassid = 'pg_authid'::regclass AND d.dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
ORDER BY 1
"""
# Below the first ordinary OID are those that every database is born with, which pg_dump leaves out too.
_EXTENSIONS = """
SELECT e.extname, e.extversion, n.nspname, pg_get_userbyid(n.nspowner)
FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.oid >= 16384 ORDER BY e.oid
"""
_INSTALLED = "SELECT extname, extversion, pg_has_role(extowner, 'USAGE') FROM pg_extension"


@dataclass(frozen=True, kw_only=True)
class Requirements:
    roles: tuple[str, ...]  # in order of their names
    extensions: tuple[ExtensionState, ...]  # in the order of their creation


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What is there already and must not be restored once more."""

    schemas: frozenset[str] = frozenset()
    extension_comments: frozenset[str] = frozenset()  # of extensions that belong to somebody else


def read(session: Session) -> Requirements:
    """What the session's database needs. Raises: StepFailed."""
    return Requirements(
        roles=tuple(name or "" for (name,) in session.rows(_ROLES)),
        extensions=tuple(
            ExtensionState(name=name or "", version=version or "", schema_name=schema or "", schema_owner=owner or "")
            for name, version, schema, owner in session.rows(_EXTENSIONS)
        ),
    )


def prepare(session: Session, needed: Requirements) -> Prepared:
    """The session's database, which is empty, can take in a dump that needs this.

    A dump names extensions without their versions: one that would come in another version is created here.
    Raises: BackupFailed naming every role and extension that is missing; StepFailed.
    """
    missing = [f"the role {name}" for name in _missing_roles(session, needed.roles)]
    if not needed.extensions:
        _refuse(missing)
        return Prepared()
    available = session.rows("SELECT name, default_version FROM pg_available_extensions")
    defaults = {row[0]: row[1] for row in available}
    versions = set(session.rows("SELECT name, version FROM pg_available_extension_versions"))
    installed = {name: (version, may == "t") for name, version, may in session.rows(_INSTALLED)}
    other_version = []
    for extension in needed.extensions:
        there = installed.get(extension.name)
        if there is not None:
            if there[0] != extension.version:
                missing.append(f"the extension {extension.name} {extension.version} (a new database has {there[0]})")
        elif (extension.name, extension.version) not in versions:
            default = defaults.get(extension.name)
            missing.append(
                f"the extension {extension.name} {extension.version}{f' (it has {default})' if default else ''}"
            )
        elif defaults.get(extension.name) != extension.version:
            other_version.append(extension)
    _refuse(missing)
    return Prepared(
        schemas=frozenset(schema for extension in other_version for schema in _create(session, extension)),
        extension_comments=frozenset(name or "" for name, (_, may) in installed.items() if not may),
    )


def differences(session: Session, needed: Requirements) -> list[str]:
    """Which extensions of the session's database are not the needed ones; [] when all are. Raises: StepFailed."""
    found = {item.name: item.version for item in read(session).extensions}
    installed = {name or "": version or "" for name, version, _ in session.rows(_INSTALLED)}
    return [
        f"the extension {item.name} is at {installed.get(item.name, 'no version')} instead of {item.version}"
        for item in needed.extensions
        if found.get(item.name, installed.get(item.name)) != item.version
    ]


def _missing_roles(session: Session, roles: Sequence[str]) -> list[str]:
    if not roles:
        return []
    there = {name for (name,) in session.rows("SELECT rolname FROM pg_roles")}
    return [role for role in roles if role not in there]


@effect(Effect.EXTENSION_CREATE)
def _create(session: Session, extension: ExtensionState) -> list[str]:
    """The extension is there in its version; returns the schema that was created for it."""
    name = sql.Identifier(extension.schema_name)
    exists = session.rows(statement("SELECT FROM pg_namespace WHERE nspname = {}", sql.Literal(extension.schema_name)))
    if not exists:
        session.execute(statement("CREATE SCHEMA {} AUTHORIZATION {}", name, sql.Identifier(extension.schema_owner)))
    session.execute(
        statement(
            "CREATE EXTENSION {} SCHEMA {} VERSION {} CASCADE",
            sql.Identifier(extension.name),
            name,
            sql.Literal(extension.version),
        )
    )
    return [] if exists else [extension.schema_name]


def _refuse(missing: Sequence[str]) -> None:
    if missing:
        raise BackupFailed(
            f"The backup cannot be restored on this server, which lacks {', '.join(missing)}.",
            hint="Create what is missing. Where the source still runs, ALTER EXTENSION ... UPDATE there helps against "
            "a version that is no longer delivered.",
            code="restore_requirements",
        )
