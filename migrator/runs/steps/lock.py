"""The database belongs to this run: an advisory lock in the maintenance database, and a lease in the journal."""

from __future__ import annotations

import os
import socket

from migrator.errors import Locked, Refused, Unfinished
from migrator.postgres import connect, fence, sessions
from migrator.runs.record import StepName
from migrator.runs.run import MANUAL, Run
from migrator.runs.watch import Watch


class LockStep:
    name = StepName.LOCK
    title = "lock"
    undo_title: str | None = None

    def run(self, run: Run) -> str | None:
        """The advisory lock is held, the journal has an open entry for the run, the watch is on.

        Raises: Locked, Unfinished, ConnectionFailed, Refused.
        """
        refuse_system_databases(run)
        take(run)
        if run.journal.unfinished(run.target) is None:  # a run that the journal knows is named by `begin`
            _refuse_fenced(run)
        begin(run)
        watch(run)
        return f"{run.database} on {run.login.host}:{run.login.port}, PostgreSQL {run.record.versions['postgresql']}"

    def undo(self, run: Run) -> str | None:
        """Nothing: the lock ends with its session."""
        return None


def _refuse_fenced(run: Run) -> None:
    """Raises: Refused for a fence that a person put up, Unfinished for that of a run unknown to the journal."""
    standing = fence.read(run.the_admin(), run.database)
    if standing is None:
        return
    since = f"{standing.since:%Y-%m-%d %H:%M:%S} UTC"
    if standing.run_id == MANUAL:
        raise Refused(
            f"Maintenance of {run.database} was turned on by hand, since {since}: {standing.reason or 'no reason'}.",
            hint=f"End it first: migrator maintenance off --env {run.environment.name}",
        )
    raise Unfinished(
        f"{run.database} is fenced ({standing.mode.value}) since {since} by run {standing.run_id}, which this journal "
        "does not know.",
        hint=f"End it first: migrator recover --env {run.environment.name}",
    )


def take(run: Run) -> None:
    """The advisory lock is held by a session of its own, and the server is known.

    Raises: Locked, ConnectionFailed.
    """
    admin = run.the_admin()
    run.server = connect.server_info(admin)
    run.record.versions["postgresql"] = run.server.version
    run.facts.system_identifier = run.server.system_identifier
    run.lock = run.session("lock", database=run.environment.maintenance_database)
    if not sessions.lock(run.lock, run.database):
        holder = sessions.holder(admin, run.database) or "a session that cannot be seen"
        raise Locked(
            f"Another run holds the database {run.database}: {holder}.",
            hint=f"See what it does with: migrator status --env {run.environment.name}",
        )


def begin(run: Run) -> None:
    """The journal has an open entry for the run, held by this process.

    Raises: Locked, Unfinished, Refused.
    """
    run.journal.begin(
        run.record,
        target=run.target,
        host=socket.gethostname(),
        pid=os.getpid(),
        lease_s=run.environment.limits.lease_s,
    )
    run.save()


def watch(run: Run) -> None:
    """The watch is on, in a session of its own."""
    run.watch = Watch(run, run.session("watch", database=run.environment.maintenance_database))
    run.watch.start()


def refuse_system_databases(run: Run) -> None:
    """Raises: Refused for a target that must not be fenced or renamed."""
    name = run.database
    if name in {"postgres", "template0", "template1"} or name == run.environment.maintenance_database:
        raise Refused(
            f"{name} cannot be the target: it is a system database, or the maintenance database of this environment.",
            hint="Name the application's database in the url, and keep maintenance_database another one.",
        )
