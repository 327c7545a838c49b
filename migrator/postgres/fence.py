"""The fence: what the database itself does to keep other sessions out (offline), or from writing (read-only).

It describes itself in the database's comment, set in one transaction with it, so that whoever finds it can take it
down: what stood before is in there. Everything here runs on a session to another database of the server.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from psycopg import sql

from migrator.errors import ConnectionFailed, MaintenanceFailed, StepFailed
from migrator.failpoints import Effect, effect
from migrator.postgres import grants, properties, sessions
from migrator.postgres.fence_record import PREFIX, Fence, Mode, fenced, is_fence, opened_since, unfenced
from migrator.postgres.session import Session
from migrator.postgres.sessions import ForeignSession
from migrator.postgres.transactions import Deadline, rehearsal, statement, transaction

__all__ = [
    "Admitted",
    "Drained",
    "Fence",
    "Mode",
    "admitted",
    "drain",
    "intruders",
    "note",
    "on_way_in",
    "put_up",
    "read",
    "standing",
    "take_down",
]


@dataclass(frozen=True, kw_only=True)
class Drained:
    terminated: int  # sessions that were ended
    waited_s: float


@dataclass(frozen=True, kw_only=True)
class Admitted:
    """A login role that the fence does not keep out, or not from writing."""

    role: str
    why: str


def read(admin: Session, database: str) -> Fence | None:
    """The fence of this database, None where there is none.

    Raises: StepFailed, code `no_such_database`; MaintenanceFailed, code `fence_unreadable`.
    """
    return _parsed(database, properties.read(admin, database).comment)


def standing(admin: Session) -> dict[str, Fence]:
    """Every fence of this server, by database. Raises: MaintenanceFailed, code `fence_unreadable`."""
    found = {name or "": _parsed(name or "", text) for name, text in admin.rows(statement(_ALL, sql.Literal(PREFIX)))}
    return {name: fence for name, fence in found.items() if fence is not None}


@effect(Effect.FENCE_UP)
def put_up(
    admin: Session,
    database: str,
    *,
    run_id: str,
    mode: Mode,
    keep_user: str | None = None,
    environment: str | None = None,
    reason: str | None = None,
    way: str | None = None,
    until: datetime | None = None,
) -> Fence:
    """The fence stands and describes itself, by one transaction in which its taking down was rehearsed.

    `keep_user` is the login that keeps CONNECT (default: that of `admin`). Sessions that are there already are
    for `drain`. Safe to repeat: the same run finds its own fence, closes it where it was opened, and what was saved
    the first time stays; a new `until` takes the place of the old.

    Raises: MaintenanceFailed, and nothing has changed; code `fence_stands` when another run's or a person's fence is
    there. ConnectionFailed: then it may stand.
    """
    with _translated(f'database "{database}" was not fenced'), transaction(admin):
        fence = _locked(admin, database)
        now = properties.read(admin, database)
        if fence is not None:
            if (fence.run_id, fence.mode) != (run_id, mode):
                raise _not_ours(database, fence)
            reopened = grants.in_order((*fence.reopened, *opened_since(now, fence)))
            fence = replace(fence, reopened=reopened, until=until or fence.until)
        else:
            [(xid, epoch, user)] = admin.rows(_NOW)
            fence = Fence(
                run_id=run_id,
                mode=mode,
                keep_user=keep_user or user or "",
                environment=environment,
                reason=reason,
                way=way,
                since=datetime.fromtimestamp(float(epoch or 0), UTC),
                until=until,
                xid=xid or "",
                previous=now,
            )
        properties.put_back(admin, database, fenced(now, fence))
        with rehearsal(admin):
            _put_back(admin, database, fence)
    return fence


@effect(Effect.FENCE_NOTE)
def note(admin: Session, database: str, **facts: str) -> Fence:
    """The fence's description holds these facts besides those that it had; `phase` and `way` are fields of its own.

    Safe to repeat. Raises: MaintenanceFailed, code `no_fence` when none stands.
    """
    with _translated(f'the fence of database "{database}" could not be noted on'), transaction(admin):
        fence = _locked(admin, database)
        if fence is None:
            raise MaintenanceFailed(f'no fence stands around database "{database}"', code="no_fence")
        phase, way = facts.pop("phase", fence.phase), facts.pop("way", fence.way)
        fence = replace(fence, phase=phase, way=way, facts={**fence.facts, **facts})
        now = properties.read(admin, database)
        properties.put_back(admin, database, replace(now, comment=fence.to_comment()))
    return fence


@effect(Effect.FENCE_DOWN)
def take_down(admin: Session, database: str, *, run_id: str | None, known: Fence | None = None) -> Fence | None:
    """No fence stands: what it changed is as before, read back; what others changed meanwhile is kept. Returns it.

    `run_id` None takes down anybody's. `known` is what the run remembers of its own fence, for the case that the
    changelog set a comment of its own on the database and so overwrote the description. Safe to repeat.

    Raises: MaintenanceFailed, and the fence stands as it did; code `fence_stands` when it is not this run's.
    ConnectionFailed: then it may be down.
    """
    with _translated(f'the fence of database "{database}" was not taken down'), transaction(admin):
        fence = _locked(admin, database)
        if fence is not None and run_id not in (None, fence.run_id):
            raise _not_ours(database, fence)
        fence = fence or known
        if fence is not None:
            _put_back(admin, database, fence)
    return fence


def drain(admin: Session, database: str, *, run_id: str, timeout_s: float, grace_s: float = 0.0) -> Drained:
    """Nobody is left from before the fence, and no transaction older than it: what is committed now is all there is.

    Under offline no foreign session is left at all; under read-only those that were there were ended, and come back
    read-only. Sessions in a transaction are given `grace_s` to finish. Under none nothing is done. Safe to repeat.

    Raises: MaintenanceFailed, code `not_drained`, naming who stays; a superuser's session cannot be ended.
    """
    fence = read(admin, database)
    if fence is None or fence.run_id != run_id:
        raise MaintenanceFailed(f'run {run_id} has no fence around database "{database}"', code="no_fence")
    deadline = Deadline(timeout_s)
    ended: set[int] = set()
    # whoever comes later than these meets the fence; a pool that keeps trying must not keep us waiting
    coming = on_way_in(admin, database)
    at_first = {session.pid for session in sessions.foreign(admin, database, own_run=run_id)}
    while fence.mode is not Mode.NONE:
        waited_s = deadline.waited_s
        # asked before the sessions are listed: who was on the way in is in by then, or was refused
        coming &= on_way_in(admin, database)
        older = [f"pid {pid} is on its way in" for pid in coming] + _older(admin, database, fence)
        here = sessions.foreign(admin, database, own_run=run_id)
        if fence.mode is Mode.READ_ONLY:
            here = [s for s in here if s.pid in at_first or (s.age_s is not None and s.age_s >= waited_s)]
        if not here and not older:
            break
        if deadline.passed:
            raise MaintenanceFailed(
                f'database "{database}" was not drained within {timeout_s:g} s: {"; ".join([*map(str, here), *older])}',
                hint="End these first, a superuser's session by a superuser; this login needs pg_signal_backend.",
                code="not_drained",
            )
        ready = [session for session in here if waited_s >= grace_s or session.state == "idle"]
        ended |= {s.pid for s in ready if sessions.end_foreign(admin, database, s.pid, own_run=run_id)}
        deadline.pause()
    return Drained(terminated=len(ended), waited_s=deadline.waited_s)


def intruders(admin: Session, database: str, *, run_id: str, mode: Mode) -> list[ForeignSession]:
    """Who is here in spite of the fence: under offline anybody else, under read-only who writes. A sample."""
    if mode is Mode.NONE:
        return []
    here = sessions.foreign(admin, database, own_run=run_id)
    return here if mode is Mode.OFFLINE else [session for session in here if session.writing]


def admitted(admin: Session, database: str, *, mode: Mode, keep_user: str) -> list[Admitted]:
    """The login roles, `keep_user` itself left out, that such a fence would not hold; for a warning beforehand."""
    match mode:
        case Mode.NONE:
            return []
        case Mode.OFFLINE:
            found = admin.rows(statement(_WOULD_GET_IN, sql.Literal(keep_user)))
        case Mode.READ_ONLY:
            found = admin.rows(statement(_WOULD_WRITE, sql.Literal(keep_user), sql.Literal(database)))
    return [Admitted(role=role or "", why=why or "") for role, why in found]


def _locked(admin: Session, database: str) -> Fence | None:
    # two that fence at once would each save what the other is changing
    admin.rows(statement("SELECT pg_advisory_xact_lock(hashtextextended({}, 0))", sql.Literal(PREFIX + database)))
    return read(admin, database)


def _parsed(database: str, comment: str | None) -> Fence | None:
    if comment is None or not is_fence(comment):
        return None
    try:
        return Fence.from_comment(comment)
    except ValueError as error:
        raise MaintenanceFailed(
            f'the fence of database "{database}" cannot be understood: {" ".join(str(error).split())[:300]}',
            hint="Use the migrator that put it up; else grant CONNECT again and clear the comment by hand.",
            code="fence_unreadable",
        ) from error


def _put_back(admin: Session, database: str, fence: Fence) -> None:
    roles = {name or "" for (name,) in admin.rows("SELECT rolname FROM pg_roles")}
    now = properties.read(admin, database)
    properties.put_back(admin, database, unfenced(now, fence, roles=roles))


def on_way_in(admin: Session, database: str) -> set[int]:
    """The backends that are logging in to the database, and are not listed as its sessions yet."""
    return {int(pid or 0) for (pid,) in admin.rows(statement(_STARTING, sql.Literal(database)))}


def _older(admin: Session, database: str, fence: Fence) -> list[str]:
    """The transactions that began before the fence and may still be committed here."""
    name = sql.Literal(database)
    found = admin.rows(statement(_OLDER, sql.Literal(fence.xid), name, name))
    return [f"transaction {xid} is older than the fence ({who or 'its session is not known'})" for xid, who in found]


def _not_ours(database: str, fence: Fence) -> MaintenanceFailed:
    return MaintenanceFailed(
        f'another fence stands around database "{database}": {fence}',
        hint="Let that run end, or resume it; `migrator maintenance off` takes the fence down.",
        code="fence_stands",
    )


@contextmanager
def _translated(doing: str) -> Iterator[None]:
    try:
        yield
    except (MaintenanceFailed, ConnectionFailed):
        raise
    except StepFailed as error:
        raise MaintenanceFailed(f"{doing}: {error.message}", hint=error.hint, code=_code(error)) from error


def _code(error: StepFailed) -> str | None:
    return error.code if error.code in ("no_such_database", "invalid_database", "not_as_wanted") else None


_NOW = "SELECT pg_current_xact_id(), extract(epoch FROM clock_timestamp()), session_user"
_ALL = """
SELECT datname, comment FROM pg_database, shobj_description(oid, 'pg_database') AS comment
WHERE starts_with(comment, {}) ORDER BY 1
"""
# From before the check of its privilege until it is listed, a session that comes in has this lock on its database.
_STARTING = """
SELECT l.pid FROM pg_locks AS l JOIN pg_database AS d ON d.oid = l.objid
WHERE l.locktype = 'object' AND l.classid = 'pg_database'::regclass AND l.mode = 'RowExclusiveLock' AND d.datname = {}
"""
# Transaction ids are the server's: one that is known to be another database's cannot write here.
_OLDER = """
SELECT x.xid, (SELECT 'prepared transaction ' || quote_literal(p.gid) FROM pg_prepared_xacts AS p
               WHERE p.transaction = x.xid::xid)
FROM pg_snapshot_xip(pg_current_snapshot()) AS x(xid)
WHERE x.xid <= {}::xid8
AND NOT EXISTS (SELECT FROM pg_stat_activity AS a WHERE a.backend_xid = x.xid::xid AND a.datname IS DISTINCT FROM {})
AND NOT EXISTS (SELECT FROM pg_prepared_xacts AS p WHERE p.transaction = x.xid::xid AND p.database <> {})
"""
_WOULD_GET_IN = """
SELECT r.rolname, CASE WHEN r.rolsuper THEN 'is a superuser' ELSE 'has the privileges of ' || k.rolname END
FROM pg_roles AS r, pg_roles AS k
WHERE k.rolname = {} AND r.rolcanlogin AND r.oid <> k.oid AND (r.rolsuper OR pg_has_role(r.oid, k.oid, 'USAGE'))
ORDER BY 1
"""
_WOULD_WRITE = """
SELECT DISTINCT r.rolname, 'has a setting of its own: ' || item
FROM pg_db_role_setting AS s
JOIN pg_roles AS r ON r.oid = s.setrole
CROSS JOIN unnest(s.setconfig) AS item
WHERE r.rolcanlogin AND r.rolname <> {}
AND s.setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = {}))
AND item ~* '^default_transaction_read_only=(off|0|f|n|false|no)'
ORDER BY 1
"""
