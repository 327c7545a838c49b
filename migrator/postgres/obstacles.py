"""What would keep a database from being copied and swapped by this login; asked before anything is touched."""

from __future__ import annotations

from psycopg import sql

from migrator.postgres import sessions
from migrator.postgres.databases import major
from migrator.postgres.properties import cannot_put_back, read
from migrator.postgres.session import Session
from migrator.postgres.transactions import statement

# Without pg_monitor the type is not told. A logical walsender is named by its slot.
_PASSING_TYPES = frozenset({"client backend", "parallel worker", "walsender", ""})
_PASSING_S = 5.0  # as long as CREATE DATABASE and RENAME wait for a session by themselves


def to_swap(admin: Session, database: str) -> list[str]:
    """Why the database could not be copied and swapped by this login now, one sentence each; [] when it could.

    Nothing has changed: what can be tried is tried and rolled back. Raises: StepFailed, code `no_such_database`.
    """
    owner = read(admin, database).owner
    [(superuser, creates, inherits)] = admin.rows(statement(_RIGHTS, sql.Literal(owner)))
    found = []
    if superuser != "t" and creates != "t":
        found.append("this login lacks CREATEDB")
    if superuser != "t" and inherits != "t":
        found.append(f'this login does not inherit the rights of the owner "{owner}"')
    elif admin.rows("SHOW transaction_read_only") == [("off",)]:  # a plan's session cannot even try
        found += cannot_put_back(admin, database)
    if major(admin) >= 15 and admin.rows(statement(_COLLATION_CHANGED, sql.Literal(database))):
        found.append(
            "its collation version is not the server's: reindex, then ALTER DATABASE ... REFRESH COLLATION VERSION"
        )
    found += [f'transaction "{t.gid}" is prepared' for t in sessions.prepared_transactions(admin, database)]
    found += [f'subscription "{name}" would not be copied' for name in sessions.subscriptions(admin, database)]
    found += [f'logical slot "{name}" would stay behind' for name in sessions.logical_slots(admin, database)]
    here = sessions.foreign(admin, database, own_run=None)
    # A scheduler (pg_cron, TimescaleDB) that is ended comes back at once, and holds the database or follows its OID.
    found += [f"a {s.backend_type} holds the database: {s}" for s in here if s.backend_type not in _PASSING_TYPES]
    labels = admin.rows(statement(_LABELS, sql.Literal(database)))
    found += [f"its security label of {provider} would not be copied" for (provider,) in labels]
    if superuser != "t":
        found += [f"this session cannot be ended: {s}" for s in here if s.is_superuser and (s.age_s or 0) > _PASSING_S]
    return found


_LABELS = """
SELECT l.provider FROM pg_shseclabel AS l JOIN pg_database AS d ON d.oid = l.objoid
WHERE l.classoid = 'pg_database'::regclass AND d.datname = {} ORDER BY 1
"""
_RIGHTS = """
SELECT r.rolsuper, r.rolcreatedb, pg_has_role(r.oid, {}, 'USAGE') FROM pg_roles AS r WHERE r.rolname = session_user
"""
_COLLATION_CHANGED = """
SELECT FROM pg_database WHERE datname = {} AND datcollversion <> pg_database_collation_actual_version(oid)
"""
