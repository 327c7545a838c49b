"""`migrator status`: what is, and what to type next. Reads only."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from migrator.cli import opening, output
from migrator.cli.options import AsJson, ConfigPath, EnvironmentName, Overrides
from migrator.errors import BackupFailed, Unfinished

if TYPE_CHECKING:
    from migrator.config.configuration import Config
    from migrator.config.models import Environment
    from migrator.runs.journal import Journal


@dataclass(frozen=True, kw_only=True)
class Status:
    environment: str
    database: str
    open_run: str | None  # its id
    open_run_alive: bool
    open_run_outcome: str | None  # of a run that has stopped without an end: halted, unfinished, interrupted
    step: str | None  # the last that it started
    held_by: str | None
    maintenance: str | None  # the fence's mode; None where none stands
    fence_run: str | None
    fence_reason: str | None
    fence_until: str | None  # when a person who put it up expected it to end
    databases: list[str]  # those that runs have made and kept
    orphan_folders: list[str]  # what a server crash in a copy left behind; only a superuser's login sees them
    kept: list[Mapping[str, object]]  # those of them that were swapped out, and clones: since when, till when
    next_command: str | None


def status(
    *, config: ConfigPath = None, env: EnvironmentName = None, overrides: Overrides = None, as_json: AsJson = False
) -> None:
    """Say which run is under way or was left behind, whether maintenance is on, and what to type next.

    \b
    migrator status --env production
    """
    loaded, environment = opening.opened(config, env, overrides=overrides)
    found, lines_of_kept = _status(loaded, environment)
    if as_json:
        output.json_result(asdict(found))
        return
    output.lines(lines(found, lines_of_kept, outside=bool(environment.maintenance.outside)))


def _status(config: Config, environment: Environment) -> tuple[Status, Mapping[str, str]]:
    """What there is, and a line on each kept database that says till when it is kept, by its name."""
    from migrator.postgres import connect, databases, fence
    from migrator.runs.byhand import kept as keeping
    from migrator.runs.journal import Journal
    from migrator.runs.opening import login_of
    from migrator.runs.run import MANUAL

    journal = Journal.open(config.journal.url, config.base, read_only=True)
    runs = [run for run in journal.open_runs() if run.environment == environment.name]
    login = login_of(config, environment)
    with connect.connect(
        login, role="status", run_id="status", database=environment.maintenance_database, read_only=True
    ) as admin:
        standing = fence.read(admin, login.database)
        orphans = databases.orphan_folders(admin)
        made = [database.name for database in databases.run_databases(admin)]
        kept: tuple[keeping.Kept, ...] = ()
        now = keeping.now_of(admin)
        with suppress(BackupFailed):  # a store that is out of reach: `backup list` says why
            kept = keeping.listing(
                config,
                environment,
                admin,
                database=login.database,
                system_identifier=connect.server_info(admin).system_identifier,
            )
    run = runs[0] if runs else None
    following = None
    if run is not None and not run.alive:
        following = f"migrator resume {run.run_id}"
    elif run is None and standing is not None:
        manual = standing.run_id == MANUAL
        following = f"migrator {'maintenance off' if manual else 'recover'} --env {environment.name}"
    found = Status(
        environment=environment.name,
        database=str(login),
        open_run=run.run_id if run else None,
        open_run_alive=run.alive if run else False,
        open_run_outcome=_outcome(journal, run.run_id) if run and not run.alive else None,
        step=run.step if run else None,
        held_by=run.held_by if run else None,
        maintenance=standing.mode.value if standing else None,
        fence_run=standing.run_id if standing else None,
        fence_reason=standing.reason if standing else None,
        fence_until=standing.until.isoformat() if standing and standing.until else None,
        databases=made,
        orphan_folders=orphans,
        kept=[keeping.as_json(one, now=now) for one in kept],
        next_command=following,
    )
    return found, {one.name: keeping.told(one, now=now) for one in kept}


def _outcome(journal: Journal, run_id: str) -> str | None:
    """How far the run says that it came; None where it says nothing, or in another version's words."""
    try:
        return journal.get(run_id).record.outcome
    except Unfinished:
        return None


def lines(found: Status, kept: Mapping[str, str], *, outside: bool) -> list[str]:
    """What a person reads; `kept` has a line on each kept database, by its name."""
    from migrator.runs.run import MANUAL

    told = [f"{found.environment}: {found.database}"]
    if found.open_run is None:
        told.append("no run is under way, and none was left behind")
    elif found.open_run_alive:
        told.append(f"run {found.open_run} is at work in step {found.step} ({found.held_by})")
    elif found.open_run_outcome == "halted":
        told.append(f"run {found.open_run} halted in step {found.step}: a person is needed")
        told.append(f"why, and what to do: migrator show {found.open_run}")
    elif found.open_run_outcome == "unfinished":
        told.append(f"run {found.open_run} has migrated the database, and stopped in step {found.step} after that")
    else:
        told.append(f"run {found.open_run} was left behind in step {found.step} by {found.held_by}")
    if found.maintenance is None and found.open_run is not None and outside:
        told.append(f"no fence stands; outside: migrator maintenance status --env {found.environment}")
    elif found.maintenance is None:
        told.append("maintenance is off")
    else:
        until = f", until {datetime.fromisoformat(found.fence_until):%Y-%m-%d %H:%M} UTC" if found.fence_until else ""
        who = "hand" if found.fence_run == MANUAL else f"run {found.fence_run}"
        told.append(f"maintenance is on: {found.maintenance}, by {who} ({found.fence_reason}){until}")
    told += [kept.get(name, f"kept database {name}") for name in sorted({*found.databases, *kept})]
    told += [f"folder of no database, left by a crash in a copy: {folder}" for folder in found.orphan_folders]
    if found.next_command is not None:
        told.append(f"next: {found.next_command}")
    return told
