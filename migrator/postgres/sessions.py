"""Who is on the server: sessions of others and of a run, how they are ended, and what may hold a run up.

Everything here is asked from the maintenance database. A login in `pg_monitor` sees all of it; without, states and
times of others' sessions stay unknown.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from psycopg import sql

from migrator.errors import StepFailed
from migrator.failpoints import Effect, effect
from migrator.postgres.connect import APPLICATION_PREFIX
from migrator.postgres.session import Row, Session
from migrator.postgres.transactions import INSUFFICIENT_PRIVILEGE, Deadline, sqlstate, statement


@dataclass(frozen=True, kw_only=True)
class ForeignSession:
    """A session, or a background worker, in a database that is a run's."""

    pid: int
    user: str
    application: str
    client: str  # an address; empty for a Unix socket or a worker
    state: str  # idle, active, idle in transaction ...; empty where this login may not see it
    backend_type: str
    is_superuser: bool  # only another superuser can end it
    age_s: float | None  # since it began; None where this login may not see it
    query: str  # the first 200 characters of what it runs, or ran last
    writing: bool  # it holds a transaction id: it has written, or locked rows

    def __str__(self) -> str:
        who = f"pid {self.pid}: {'superuser ' if self.is_superuser else ''}{self.user or self.backend_type}"
        doing = f", {self.state}" if self.state else ""
        return f"{who}, application {self.application!r}, from {self.client or 'the server itself'}{doing}"


@dataclass(frozen=True, kw_only=True)
class PreparedTransaction:
    gid: str
    owner: str


def foreign(admin: Session, database: str, *, own_run: str | None) -> list[ForeignSession]:
    """Every session in `database` that is not the run's own; autovacuum, which gives way by itself, left out.

    The run's own: named after it AND logged in as `admin` is, since anybody may take any name.
    """
    found = admin.rows(statement(_FOREIGN, sql.Literal(database), _not_own(own_run)))
    return [_session(row) for row in found]


def end_foreign(admin: Session, database: str, pid: int, *, own_run: str | None) -> bool:
    """The session was told to end, if it is still there and still foreign; False where this login may not do that."""
    return _end(
        admin,
        statement(_END + " AND a.datname = {} AND {}", sql.Literal(pid), sql.Literal(database), _not_own(own_run)),
    )


def of_run(admin: Session, run_id: str, *, but: Collection[str] = ()) -> list[ForeignSession]:
    """The sessions of a run in every database, but for those in the roles `but`, and for `admin` itself."""
    names = [f"{_of_run(run_id)}{role}" for role in but]
    found = admin.rows(statement(_OF_RUN, sql.Literal(_of_run(run_id)), sql.Literal(names)))
    return [_session(row) for row in found]


def terminate_run(admin: Session, run_id: str, *, roles: Collection[str] = (), timeout_s: float = 30.0) -> None:
    """No session of the run is left on the server, but for those in `roles` (such as lock) and `admin` itself.

    A backend works on after its client died: nothing is decided before this has returned. Safe to repeat.
    Raises: StepFailed, code `still_there`, naming who did not go.
    """
    deadline = Deadline(timeout_s)
    while there := of_run(admin, run_id, but=roles):
        for session in there:
            _end(admin, statement(_END, sql.Literal(session.pid)))
        if deadline.passed:
            raise StepFailed(
                f"sessions of run {run_id} did not end within {timeout_s:g} s: {'; '.join(map(str, there))}",
                hint="End them with pg_terminate_backend as a superuser; this login needs pg_signal_backend.",
                code="still_there",
            )
        deadline.pause()


def prepared_transactions(admin: Session, database: str) -> list[PreparedTransaction]:
    """Open two-phase transactions of `database`: they hold locks, and commit through any fence."""
    found = admin.rows(
        statement(
            "SELECT gid, owner FROM pg_prepared_xacts WHERE database = {} ORDER BY prepared, gid",
            sql.Literal(database),
        )
    )
    return [PreparedTransaction(gid=gid or "", owner=owner or "") for gid, owner in found]


def enabled_subscriptions(admin: Session, database: str) -> list[str]:
    """Names of the subscriptions that write into `database`; apply workers pass every fence."""
    return _names(
        admin,
        "SELECT s.subname FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid"
        " WHERE d.datname = {} AND s.subenabled ORDER BY 1",
        database,
    )


def subscriptions(admin: Session, database: str) -> list[str]:
    """Names of all subscriptions of `database`, enabled or not; a copy does not get them."""
    return _names(
        admin,
        "SELECT s.subname FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid"
        " WHERE d.datname = {} ORDER BY 1",
        database,
    )


def logical_slots(admin: Session, database: str) -> list[str]:
    """Names of the logical replication slots of `database`; they stay with its OID, and go when it is dropped."""
    return _names(admin, "SELECT slot_name FROM pg_replication_slots WHERE database = {} ORDER BY 1", database)


def in_recovery(admin: Session) -> bool:
    """Whether this server is a replica."""
    return admin.rows("SELECT pg_is_in_recovery()") == [("t",)]


@effect(Effect.RUN_LOCK)
def lock(admin: Session, target_database: str) -> bool:
    """Whether `admin` now holds the run lock of the database, until its session ends.

    Repeating it in the session that holds it is True again.
    """
    key = sql.Literal(_lock_name(target_database))
    return admin.rows(statement("SELECT pg_try_advisory_lock(hashtextextended({}, 0))", key)) == [("t",)]


def holder(admin: Session, target_database: str) -> str | None:
    """Who holds the run lock of the database, in one line; None when nobody does."""
    found = admin.rows(statement(_HOLDER, sql.Literal(_lock_name(target_database))))
    if not found:
        return None
    pid, user, application, client, since = found[0]
    return f"pid {pid}, user {user}, application {application!r}, from {client}, connected since {since}"


def _lock_name(target_database: str) -> str:
    return f"migrator:{target_database}"


def _of_run(run_id: str) -> str:
    return f"{APPLICATION_PREFIX}{run_id}:"


def _not_own(own_run: str | None) -> sql.Composable:
    if own_run is None:
        return sql.SQL("true")
    return sql.SQL(_NOT_OWN).format(sql.Literal(_of_run(own_run)), sql.Literal(_of_run(own_run)))


@effect(Effect.SESSION_END)
def _end(admin: Session, text: str) -> bool:
    try:
        admin.rows(text)
    except StepFailed as error:
        if sqlstate(error) == INSUFFICIENT_PRIVILEGE:
            return False
        raise
    return True


def _names(admin: Session, template: str, database: str) -> list[str]:
    return [name or "" for (name,) in admin.rows(statement(template, sql.Literal(database)))]


def _session(row: Row) -> ForeignSession:
    pid, user, application, client, state, backend_type, superuser, age_s, query, writing = row
    return ForeignSession(
        pid=int(pid or 0),
        user=user or "",
        application=application or "",
        client=client or "",
        state=state or "",
        backend_type=backend_type or "",
        is_superuser=superuser == "t",
        age_s=None if age_s is None else float(age_s),
        query=query or "",
        writing=writing == "t",
    )


_COLUMNS = """
SELECT a.pid, a.usename, a.application_name, host(a.client_addr), a.state, a.backend_type, r.rolsuper,
       extract(epoch FROM clock_timestamp() - a.backend_start), left(a.query, 200), a.backend_xid IS NOT NULL
FROM pg_stat_activity AS a LEFT JOIN pg_roles AS r ON r.oid = a.usesysid
WHERE a.pid <> pg_backend_pid()
"""
# Without pg_monitor the backend type is hidden; autovacuum is then told by having no user.
_FOREIGN = (
    _COLUMNS
    + """
AND a.datname = {} AND {}
AND coalesce(a.backend_type, '') <> 'autovacuum worker' AND NOT (a.backend_type IS NULL AND a.usesysid IS NULL)
ORDER BY a.pid
"""
)
# A parallel worker is its leader's, whatever it is called while it starts.
_NOT_OWN = """
NOT (a.usename IS NOT DISTINCT FROM session_user AND (
    starts_with(a.application_name, {})
    OR EXISTS (SELECT FROM pg_stat_activity AS l WHERE l.pid = a.leader_pid AND starts_with(l.application_name, {}))))
"""
_OF_RUN = _COLUMNS + "AND starts_with(a.application_name, {}) AND a.application_name <> ALL ({}::text[]) ORDER BY a.pid"
_END = "SELECT pg_terminate_backend(a.pid) FROM pg_stat_activity AS a WHERE a.pid = {}"
_HOLDER = """
SELECT a.pid, a.usename, a.application_name, coalesce(host(a.client_addr), 'the server itself'),
       coalesce(a.backend_start::text, '?')
FROM (SELECT hashtextextended({}, 0) AS number) AS key
JOIN pg_locks AS l ON l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND l.classid::bigint = ((key.number >> 32) & 4294967295) AND l.objid::bigint = (key.number & 4294967295)
JOIN pg_stat_activity AS a ON a.pid = l.pid
"""
