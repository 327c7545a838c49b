"""A `Run` made from the configuration and what the person asked for, new or as the journal holds it."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from migrator import __version__
from migrator.config.configuration import Config
from migrator.config.login import Login
from migrator.config.models import Environment
from migrator.errors import Refused, UsageError
from migrator.failpoints import Effect, effect
from migrator.runs.facts import Facts, Undo
from migrator.runs.journal import Journal
from migrator.runs.journal_entries import StoredRun
from migrator.runs.record import Direction, MaintenanceRecord, RunRecord
from migrator.runs.reporter import Reporter
from migrator.runs.run import Options, Run

LOCAL_DATABASE = "shop"  # what environment `local` works on in the embedded server, unless told otherwise


def new(
    config: Config,
    environment: Environment,
    options: Options,
    *,
    reporter: Reporter,
    parameters: Mapping[str, str] | None = None,
    login: Login | None = None,
    undo: Undo | None = None,
) -> Run:
    """A run that has an id and a folder; nothing has been asked of the database.

    `undo`: its changesets are undone, not executed; which changelogs hold them is found out by preflight.

    Raises: UsageError for a changelog outside liquibase.root; Refused when the folder cannot be made.
    """
    now = datetime.now(UTC)
    changelog = relative_to_root(options.changelog, config.liquibase.root) if undo is None else str(undo)
    target = login or login_of(config, environment)
    record = RunRecord(
        run_id=new_id(now),
        environment=environment.name,
        database=str(target),
        changelog=changelog,
        direction=Direction.UPDATE if undo is None else Direction.ROLLBACK,
        started_at=now,
        versions={"migrator": __version__},
        maintenance=MaintenanceRecord(mode=environment.maintenance.database),
    )
    return Run(
        config=config,
        environment=environment,
        login=target,
        options=replace(options, changelog=changelog),
        record=record,
        facts=Facts(changelog_parameters=dict(parameters or {}), undo=undo),
        journal=Journal.open(config.journal.url, config.base),
        reporter=reporter,
        folder=folder_of(config, record.run_id),
    )


def stored(
    config: Config,
    environment: Environment,
    found: StoredRun,
    options: Options,
    *,
    journal: Journal,
    reporter: Reporter,
) -> Run:
    """The run as the journal holds it, ready to be resumed.

    Raises: Refused when the environment names another database than the run's.
    """
    login = login_of(config, environment)
    database = found.target.partition("/")[2]
    if database != login.database:
        raise Refused(
            f"Run {found.record.run_id} is of the database {database} ({found.record.database}); environment "
            f"{environment.name} names {login.database}.",
            hint="Name the run's own with: --set url=postgresql://USER@HOST:PORT/DATABASE",
            code="another_database",
        )
    return Run(
        config=config,
        environment=as_begun(environment, found.record.maintenance.mode),
        login=login,
        options=replace(options, changelog=found.record.changelog),
        record=found.record,
        facts=Facts.model_validate(found.facts),
        journal=journal,
        reporter=reporter,
        folder=folder_of(config, found.record.run_id),
    )


def as_begun(environment: Environment, mode: str) -> Environment:
    """The environment with the maintenance that the run began with: whether others may have written hangs on it."""
    return environment.model_copy(update={"maintenance": environment.maintenance.model_copy(update={"database": mode})})


def login_of(config: Config, environment: Environment) -> Login:
    """How the target is reached; the embedded server of environment `local` is started for it.

    Raises: ToolFailed when the embedded server does not start.
    """
    if environment.login is not None:
        return environment.login
    from migrator.postgres import embedded

    server = embedded.ensure_running(config.state / "pg")
    return server.create_database(LOCAL_DATABASE)


def new_id(now: datetime) -> str:
    """An id that sorts by time, is a part of database names, and never comes twice: 20261123t175103_4f1c."""
    return f"{now:%Y%m%dt%H%M%S}_{secrets.token_hex(2)}"


@effect(Effect.RUN_FOLDER)
def folder_of(config: Config, run_id: str) -> Path:
    """The run's folder for logs and reports, 0700.

    Raises: Refused.
    """
    folder = config.state / "runs" / run_id
    try:
        for one in (config.state, folder.parent, folder):  # `parents=True` would leave the mode of those to the umask
            one.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise Refused(
            f"The run's folder {folder} cannot be made: {error.strerror or error}.",
            hint="Run it where this user may write, or name another --config.",
        ) from error
    return folder


def relative_to_root(changelog: str, root: Path) -> str:
    """The changelog's path relative to liquibase.root, as the ledger will hold it; `/` between the parts.

    A path that exists below the working folder is meant as such; else it is taken as relative to the root already.
    Raises: UsageError when it lies outside the root.
    """
    if not changelog or "\0" in changelog or "\n" in changelog or changelog.startswith("-"):
        raise UsageError(f"{changelog!r} is not the path of a changelog.")
    given = Path(changelog)
    if (root / given).exists() and not given.is_absolute() and ".." not in given.parts:
        return str(PurePosixPath(given.as_posix()))
    here = given.absolute()
    if not here.exists():
        raise UsageError(
            f"There is no changelog {changelog}, neither here nor below liquibase.root ({root}).",
            hint="Give the path of a changelog file: SQL, XML, YAML or JSON.",
        )
    try:
        return here.resolve().relative_to(root.resolve()).as_posix()
    except ValueError as error:
        raise UsageError(
            f"The changelog {changelog} lies outside liquibase.root ({root}).",
            hint="Changesets are known by their path below one root; move the file, or set [liquibase] root.",
        ) from error
