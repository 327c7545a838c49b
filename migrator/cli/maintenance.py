"""`migrator maintenance`: users are held off, or let in again, by hand."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from migrator.cli import opening, output, outside
from migrator.cli.options import AsJson, AssumeYes, ConfigPath, EnvironmentName
from migrator.errors import Locked, Refused, UsageError

if TYPE_CHECKING:
    from migrator.config.configuration import Config
    from migrator.config.models import Environment
    from migrator.postgres.connect import PgSession

app = typer.Typer(help="Hold users off by hand, or let them in again.", no_args_is_help=True, rich_markup_mode=None)


@app.command()
def status(*, config: ConfigPath = None, env: EnvironmentName = None, as_json: AsJson = False) -> None:
    """Say what holds users off, inside the database and outside.

    \b
    migrator maintenance status --env production
    """
    from migrator.postgres import fence
    from migrator.runs.run import MANUAL

    loaded, environment = opening.opened(config, env)
    database, admin = _admin(loaded, environment)
    with closing(admin):
        standing = fence.read(admin, database)
    found = [(one.name, one.status()) for one in outside.providers(loaded, environment)]
    if as_json:
        output.json_result(
            {
                "environment": environment.name,
                "mode": standing.mode.value if standing else "none",
                "run_id": standing.run_id if standing else None,
                "reason": standing.reason if standing else None,
                "since": standing.since.isoformat() if standing else None,
                "until": standing.until.isoformat() if standing and standing.until else None,
                "outside": [{"name": name, "on": one.on, "detail": one.detail} for name, one in found],
            }
        )
        return
    if standing is None:
        output.result(f"{database}: no fence stands")
    else:
        until = f" until {standing.until:%Y-%m-%d %H:%M:%S} UTC" if standing.until is not None else ""
        output.result(
            f"{database}: {standing.mode.value} since {standing.since:%Y-%m-%d %H:%M:%S} UTC{until}, "
            f"by {'hand' if standing.run_id == MANUAL else standing.run_id}: {standing.reason or 'no reason given'}"
        )
    for name, one in found:
        output.result(f"{name}: {'on' if one.on else 'off'} ({one.detail})")


@app.command(short_help="Hold users off, outside and in the database itself.")
def on(
    *,
    mode: Annotated[str, typer.Option("--mode", metavar="MODE", help="offline or read-only.")] = "offline",
    reason: Annotated[str, typer.Option("--reason", help="Why; shown to whoever asks.", show_default=False)],
    until: Annotated[
        str | None,
        typer.Option("--until", metavar="T", help="When `--expired` may lift it: +30m, +2h, or an ISO time."),
    ] = None,
    config: ConfigPath = None,
    env: EnvironmentName = None,
    yes: AssumeYes = False,
    as_json: AsJson = False,
) -> None:
    """Hold users off: the outside providers first, then the database itself. Safe to repeat.

    Nothing ends it by itself: `migrator maintenance off` does, and past --until `migrator recover --expired`.

    \b
    migrator maintenance on --mode offline --reason "moving to a larger disk" --env production
    migrator maintenance on --mode read-only --reason "counting" --until +30m --env staging
    """
    from migrator.cli import moments
    from migrator.cli.confirm import confirm_protected
    from migrator.postgres import fence, sessions
    from migrator.runs.run import MANUAL

    if mode not in {"offline", "read-only"}:
        raise Refused(f"there is no maintenance mode {mode!r}", hint="use offline or read-only")
    loaded, environment = opening.opened(config, env)
    confirm_protected(environment, f"Hold its users off ({mode})?", assume_yes=yes)
    database, admin = _admin(loaded, environment)
    with closing(admin):
        ends = moments.until(until, _now(admin)) if until is not None else None
        sessions.lock(admin, database)  # who lifts what is past its time sees that this is not at its end
        for provider in outside.providers(loaded, environment):
            provider.on(MANUAL)
        standing = fence.put_up(
            admin,
            database,
            run_id=MANUAL,
            mode=fence.Mode(mode),
            environment=environment.name,
            reason=reason,
            until=ends,
        )
        drained = fence.drain(admin, database, run_id=MANUAL, timeout_s=environment.limits.drain_s)
    if as_json:
        output.json_result(
            {
                "environment": environment.name,
                "database": database,
                "mode": mode,
                "until": standing.until.isoformat() if standing.until else None,
                "sessions_ended": drained.terminated,
            }
        )
        return
    output.note(f"{database} is {mode}; {drained.terminated} sessions were ended")
    if standing.until is not None:
        output.note(f"until {standing.until:%Y-%m-%d %H:%M:%S} UTC: then `migrator recover --expired` lifts it")


@app.command(short_help="Let users in again.")
def off(
    *,
    config: ConfigPath = None,
    env: EnvironmentName = None,
    force: Annotated[
        bool, typer.Option("--force", help="Also where a run put it on: you have made sure of the database yourself.")
    ] = False,
    expired: Annotated[
        bool, typer.Option("--expired", help="Only what a person put on, and only past its --until.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Let users in again: the database first, then the outside providers in reverse. Safe to repeat.

    \b
    migrator maintenance off --env production
    migrator maintenance off --env production --force     (after a halted run was repaired by hand)
    migrator maintenance off --env production --expired   (from a schedule)
    """
    from migrator.postgres import fence, sessions
    from migrator.runs.run import MANUAL

    if force and expired:
        raise UsageError("--force and --expired exclude each other")
    loaded, environment = opening.opened(config, env)
    if expired:
        _tell_off(environment, lifted=lift_expired(loaded, environment), as_json=as_json)
        return
    database, admin = _admin(loaded, environment)
    left = _left_behind(loaded, environment) if force else []
    with closing(admin):
        standing = fence.read(admin, database)
        run_id = standing.run_id if standing is not None else MANUAL
        if run_id != MANUAL and not force:
            raise Refused(
                f"run {run_id} holds {database} ({standing.mode.value if standing else ''})",
                hint=f"end it with `migrator recover --env {environment.name}`; "
                "--force only when you have made sure of the database yourself",
            )
        if force and not sessions.lock(admin, database):  # a run of another journal, or one whose lease was lost
            raise Locked(
                f"a run is at work on {database}: {sessions.holder(admin, database)}",
                hint="let it end, or end its process first",
            )
        fence.take_down(admin, database, run_id=None if force else MANUAL)
        outside.off(loaded, environment, run_id, force=force)  # behind the lock: no run begins meanwhile
    for ended in left:
        _end(loaded, environment, ended)
        output.note(f"run {ended} is ended: what the database is now was decided by a person")
    _tell_off(environment, lifted=True, as_json=as_json)


def lift_expired(config: Config, environment: Environment) -> bool:
    """Whether maintenance that a person had put on was past its time; it is off then. Safe to repeat.

    Raises: MaintenanceFailed naming what is still on.
    """
    from migrator.postgres import fence, sessions
    from migrator.runs.run import MANUAL

    database, admin = _admin(config, environment)
    with closing(admin):
        standing = fence.read(admin, database)
        if standing is None:
            # An earlier time may have got no further than the fence; a person may be turning it on at this moment.
            if not outside.is_held_by_hand(config, environment) or not sessions.lock(admin, database):
                return False
            if fence.read(admin, database) is not None:
                return False
        elif standing.run_id != MANUAL or standing.until is None or standing.until > _now(admin):
            return False
        else:
            fence.take_down(admin, database, run_id=MANUAL)
        outside.off(config, environment, MANUAL)
    return True


def _now(admin: PgSession) -> datetime:
    """By the server's clock, to which everybody looks."""
    [(epoch,)] = admin.rows("select extract(epoch from clock_timestamp())")
    return datetime.fromtimestamp(float(epoch or 0), UTC)


def _tell_off(environment: Environment, *, lifted: bool, as_json: bool) -> None:
    if as_json:
        output.json_result({"environment": environment.name, "lifted": lifted})
    else:
        output.note(f"{environment.name}: {'users are let in' if lifted else 'no maintenance is past its time'}")


def _left_behind(config: Config, environment: Environment) -> list[str]:
    """The runs of the environment that have not ended. Raises: Locked for one that is at work."""
    from migrator.runs.journal import Journal

    with closing(Journal.open(config.journal.url, config.base, read_only=True)) as journal:
        runs = [run for run in journal.open_runs() if run.environment == environment.name]
    for run in runs:
        if run.alive:
            raise Locked(
                f"run {run.run_id} is at work in step {run.step} ({run.held_by})",
                hint="let it end, or end its process first: it goes back by itself",
            )
    return [run.run_id for run in runs]


def _end(config: Config, environment: Environment, run_id: str) -> None:
    """The run cannot be resumed any more: users are writing again, and a restore would lose what they write."""
    from migrator.runs.journal import Journal
    from migrator.runs.record import Outcome

    with closing(Journal.open(config.journal.url, config.base)) as journal:
        journal.take_over(run_id, lease_s=environment.limits.lease_s)
        record = journal.get(run_id).record
        record.outcome = record.outcome or Outcome.INTERRUPTED
        record.exit_code = record.outcome.exit_code
        now = datetime.now(UTC)
        record.ended_at = record.ended_at or now
        if record.maintenance.started_at is not None and record.maintenance.ended_at is None:
            record.maintenance.ended_at = now
            record.maintenance.downtime_s = round((now - record.maintenance.started_at).total_seconds(), 3)
        record.next_command = None
        record.warnings = [*record.warnings, "A person ended this run with `migrator maintenance off --force`."]
        journal.close_run(run_id, record)


def _admin(config: Config, environment: Environment) -> tuple[str, PgSession]:
    from migrator.postgres.connect import connect
    from migrator.runs.opening import login_of

    login = login_of(config, environment)
    return login.database, connect(
        login, role="orchestrator", run_id="manual", database=environment.maintenance_database
    )
