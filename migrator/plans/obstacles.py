"""What stands in the way of a run, asked of the server before anybody notices anything.

Every function returns sentences; an empty list means that nothing stands in the way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg import sql

from migrator.errors import Refused
from migrator.postgres import catalog, fence, sessions
from migrator.postgres.catalog import Relation
from migrator.postgres.connect import APPLICATION_PREFIX, ServerInfo
from migrator.postgres.session import Session
from migrator.postgres.transactions import statement

OLDEST_MAJOR = 14
NEWEST_TRIED_MAJOR = 18


@dataclass(frozen=True, kw_only=True)
class Obstacle:
    """`what` stands in the way; `remedy` removes it."""

    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.what} -> {self.remedy}"


def refuse(found: Sequence[Obstacle]) -> None:
    """Raises: Refused naming everything that stands in the way, with the remedy of each; nothing when there is none."""
    if not found:
        return
    if len(found) == 1:
        raise Refused(_sentence(found[0].what), hint=_sentence(found[0].remedy))
    raise Refused(
        f"{len(found)} things stand in the way: " + "; ".join(one.what for one in found) + ".",
        hint=_sentence("; ".join(dict.fromkeys(one.remedy for one in found))),
    )


def _sentence(text: str) -> str:
    """Begins with a capital letter, unless with the name of a setting or a command in quotes."""
    return f"{text[0].upper() if text.split(maxsplit=1)[0].isalpha() else text[0]}{text[1:]}."


def of_server(server: ServerInfo) -> list[Obstacle]:
    found = []
    if server.in_recovery:
        found.append(Obstacle(what="the server is a replica", remedy="name the primary in the url"))
    if server.major < OLDEST_MAJOR:
        found.append(
            Obstacle(what=f"PostgreSQL {server.major} is too old", remedy=f"{OLDEST_MAJOR} and newer are supported")
        )
    return found


def of_pooler(target: Session) -> list[Obstacle]:
    """A pooler in transaction mode loses session settings, locks and snapshots."""
    if target.rows("show row_security")[0][0] == "off":
        return []
    return [
        Obstacle(
            what="the settings of this session do not stay: a pooler in transaction mode is in between",
            remedy="name the server itself, or a pooler's session-mode port, in the url",
        )
    ]


def of_database(admin: Session, database: str, *, offline: bool, own_run: str | None = None) -> list[Obstacle]:
    """What passes through a fence; the sessions of `own_run` do so by right."""
    found = [
        Obstacle(
            what=f"prepared transaction {prepared.gid} of {prepared.owner} is open",
            remedy="COMMIT PREPARED or ROLLBACK PREPARED it",
        )
        for prepared in sessions.prepared_transactions(admin, database)
    ]
    if offline:
        found += [
            Obstacle(what=f"subscription {name} writes into the database", remedy=f"ALTER SUBSCRIPTION {name} DISABLE")
            for name in sessions.enabled_subscriptions(admin, database)
        ]
        found += [
            Obstacle(what=f"a superuser is connected and cannot be ended ({one})", remedy="close that session")
            for one in sessions.foreign(admin, database, own_run=own_run)
            if one.is_superuser and one.backend_type == "client backend"
        ]
        found += of_own_login(admin, database)
    return found


def of_own_login(admin: Session, database: str) -> list[Obstacle]:
    """Who else is logged in as this login: a fence cannot tell him from migrator."""
    [(user,)] = admin.rows("select session_user")
    return [
        Obstacle(
            what=f"somebody else is logged in as {user} too, whom the fence would not hold off ({one})",
            remedy="close that session, and give migrator a login of its own",
        )
        for one in sessions.foreign(admin, database, own_run=None)
        if one.user == user and not one.is_superuser and not one.application.startswith(APPLICATION_PREFIX)
    ]


def of_privileges(
    admin: Session, database: str, *, fenced: bool, creates_databases: bool, terminates: bool
) -> list[Obstacle]:
    """Every privilege that this login lacks for what the run does, by name."""
    row = admin.rows(
        statement(
            "select session_user, r.rolsuper, r.rolcreatedb, pg_has_role(session_user, d.datdba, 'usage'),"
            " pg_has_role(session_user, 'pg_signal_backend', 'usage'), pg_get_userbyid(d.datdba)"
            " from pg_roles r, pg_database d where r.rolname = session_user and d.datname = {}",
            sql.Literal(database),
        )
    )
    if not row:
        return [Obstacle(what=f"there is no database {database}", remedy="check the url")]
    user, superuser, createdb, owns, signals, owner = row[0]
    if superuser == "t":
        return []
    found = []
    if fenced and owns != "t":
        found.append(Obstacle(what=f"{user} does not own {database} ({owner} does)", remedy=f"GRANT {owner} TO {user}"))
    if creates_databases and createdb != "t":
        found.append(
            Obstacle(what=f"{user} may not create databases", remedy=f"ALTER ROLE {user} CREATEDB, as a superuser")
        )
    if terminates and signals != "t":
        found.append(Obstacle(what=f"{user} may not end others' sessions", remedy=f"GRANT pg_signal_backend TO {user}"))
    return found


def of_reading(target: Session, relations: Sequence[Relation]) -> list[Obstacle]:
    """Tables of which a dump or a fingerprint would miss rows."""
    hidden = catalog.unreadable(target, relations)
    return [
        Obstacle(what=f"not all rows of {name} can be read: {why}", remedy="grant SELECT, or BYPASSRLS")
        for name, why in sorted(hidden.items())
    ]


def passes_the_fence(admin: Session, database: str, *, mode: str, user: str) -> str | None:
    """The login roles that the fence does not hold, and how they are seen all the same; None where it holds nobody."""
    if mode != "offline":
        return None
    admitted = fence.admitted(admin, database, mode=fence.Mode(mode), keep_user=user)
    roles = [f"{user} (this run's own login)", *(f"{one.role} ({one.why})" for one in admitted)]
    return (
        f"Login roles that the fence does not hold: {', '.join(roles)}. Sessions of theirs are looked for once a "
        "second: one that came and went in between is seen only by what the server counted, where this report says so."
    )
