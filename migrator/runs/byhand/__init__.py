"""Parts of a guarded run in a person's own hands: a backup alone, its proof, its restore, and what is thrown away."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime

from migrator.config.configuration import Config
from migrator.config.models import Environment
from migrator.errors import Locked, Refused
from migrator.postgres import fence, sessions
from migrator.postgres.session import Session
from migrator.runs import opening
from migrator.runs.facts import Facts
from migrator.runs.journal import Journal
from migrator.runs.record import MaintenanceRecord, RunRecord
from migrator.runs.reporter import Reporter, SilentReporter
from migrator.runs.run import MANUAL, Options, Run


def opened(
    config: Config,
    environment: Environment,
    *,
    doing: str,
    journal: Journal | None = None,
    reporter: Reporter | None = None,
    confirm: Callable[[str], bool] = lambda _question: True,
) -> Run:
    """A run without a changelog, with an id and a folder; nothing has been asked of the database.

    `doing` stands where a report has the changelog. Without a `journal` it is in none, and what is there is only read.
    Raises: Refused when the folder cannot be made.
    """
    now = datetime.now(UTC)
    login = opening.login_of(config, environment)
    record = RunRecord(
        run_id=opening.new_id(now),
        environment=environment.name,
        database=str(login),
        changelog=doing,
        started_at=now,
        maintenance=MaintenanceRecord(mode=environment.maintenance.database),
    )
    return Run(
        config=config,
        environment=environment,
        login=login,
        options=Options(changelog=doing, confirm=confirm),
        record=record,
        facts=Facts(),
        journal=journal or Journal.open(config.journal.url, config.base, read_only=True),
        reporter=reporter or SilentReporter(),
        folder=opening.folder_of(config, record.run_id),
    )


def refuse_if_at_work(run: Run) -> None:
    """Nobody else works on the database, whose watch would take a session of ours for an intruder.

    Raises: Locked when a run is at work, Refused where one was left behind with its fence up.
    """
    refuse_a_run(run.the_admin(), run.database, environment=run.environment.name)


def refuse_a_run(admin: Session, database: str, *, environment: str) -> None:
    """Raises: Locked while a run is at work on the database, Refused where one was left behind with its fence up."""
    holder = sessions.holder(admin, database)
    if holder is not None:
        raise Locked(
            f"A run holds the database {database}: {holder}.",
            hint=f"See what it does with: migrator status --env {environment}",
        )
    standing = fence.read(admin, database)
    if standing is not None and standing.run_id != MANUAL:
        raise Refused(
            f"{database} is fenced ({standing.mode.value}) by run {standing.run_id}, which has not ended.",
            hint=f"End it first: migrator recover --env {environment}",
        )


def unfinished(run: Run) -> dict[str, str]:
    """Run id -> step, of every run in the journal that has not ended."""
    with closing(Journal.open(run.config.journal.url, run.config.base, read_only=True)) as journal:
        return {one.run_id: one.step or "lock" for one in journal.open_runs()}
