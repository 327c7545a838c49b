"""A plan for a person: everything that a run's preflight would find out, by sessions that cannot write.

No run begins: no lock is taken, the journal is only read, and what the JVM logs goes when the plan is made.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from migrator.config.configuration import Config
from migrator.config.models import Environment
from migrator.errors import ConnectionFailed, Refused, StepFailed, ToolFailed
from migrator.liquibase import ledger
from migrator.plans.obstacles import Obstacle
from migrator.plans.plan import Plan
from migrator.postgres import connect, fence, sessions
from migrator.postgres.session import Session
from migrator.runs import gates, liquibase_session, opening, plan_document
from migrator.runs.facts import Facts
from migrator.runs.journal import Journal
from migrator.runs.planning import Planning, too_long
from migrator.runs.record import MaintenanceRecord, RunRecord
from migrator.runs.reporter import Reporter
from migrator.runs.run import Options, Run
from migrator.runs.steps import lock


@contextmanager
def opened(
    config: Config,
    environment: Environment,
    options: Options,
    *,
    reporter: Reporter,
    parameters: Mapping[str, str] | None = None,
) -> Iterator[Run]:
    """What a run would be, without one: nothing of it is left after the block.

    Raises: UsageError for a changelog outside liquibase.root.
    """
    now = datetime.now(UTC)
    changelog = opening.relative_to_root(options.changelog, config.liquibase.root)
    login = opening.login_of(config, environment)
    with (
        closing(Journal.open(config.journal.url, config.base, read_only=True)) as journal,
        tempfile.TemporaryDirectory(prefix="migrator-plan-", ignore_cleanup_errors=True) as folder,
    ):
        run = Run(
            config=config,
            environment=environment,
            login=login,
            options=options,
            record=RunRecord(
                run_id=opening.new_id(now),
                environment=environment.name,
                database=str(login),
                changelog=changelog,
                started_at=now,
                maintenance=MaintenanceRecord(mode=environment.maintenance.database),
            ),
            facts=Facts(changelog_parameters=dict(parameters or {})),
            journal=journal,
            reporter=reporter,
            folder=Path(folder),
        )
        try:
            yield run
        finally:
            run.close()


def look(run: Run) -> Plan:
    """The plan as it is just now. What would refuse a run stands in it.

    Raises: Refused where there is nothing to plan: the changelog cannot be used, or asks for what is never done;
    ConnectionFailed.
    """
    lock.refuse_system_databases(run)
    planning = Planning(run=run, looks=True)
    planning.screen()
    liquibase_session.start(run)  # the JVM starts while the server is asked
    _open_admin(planning)
    run.server = connect.server_info(run.the_admin())
    run.record.versions["postgresql"] = run.server.version
    run.facts.system_identifier = run.server.system_identifier
    _others_at_work(planning)
    with closing(run.session("plan", read_only=True)) as target:
        if _made(planning, target):
            planning.find_obstacles(target)
            _liquibase_lock(planning, target)
    plan = plan_document.of(planning)
    if not plan.changesets:
        return plan
    run.plan = plan
    refusal = None if plan.estimate is None else too_long(run, plan.estimate)
    if refusal is not None:
        planning.note(refusal)
    found = gates.look(run)
    obstacles = plan_document.obstacles_of(planning)
    return plan.model_copy(update={"gates": tuple(found), "obstacles": obstacles}).with_digest()


def _made(planning: Planning, target: Session) -> bool:
    try:
        return planning.make(target)
    except (ConnectionFailed, ToolFailed):
        raise
    except StepFailed as error:  # such as a ledger that this login may not read
        raise Refused(
            f"There is no plan without this: {error.message}",
            hint=error.hint or "A plan needs SELECT on the ledger, and on the tables that preconditions look at.",
            code="unreadable",
        ) from error


def _liquibase_lock(planning: Planning, target: Session) -> None:
    run = planning.run
    with planning.noting():
        holder = ledger.lock_holder(target, run.ledger_schema)
        if holder is not None:
            planning.obstacles.append(
                Obstacle(
                    what=f"the changelog lock is set by {holder.locked_by} (since {holder.granted_at})",
                    remedy="wait until that Liquibase is done; behind an offline fence a run releases a stale one",
                )
            )


def _open_admin(planning: Planning) -> None:
    """The session beside the target, which cannot write either: where that database is closed to us, in the target."""
    run = planning.run
    try:
        run.admin = run.session("plan", database=run.environment.maintenance_database, read_only=True)
    except ConnectionFailed as error:
        if error.code not in {"no_connect_privilege", "no_such_database", "pg_hba"}:
            raise
        planning.note(error)
        run.admin = run.session("plan", database=run.database, read_only=True)


def _others_at_work(planning: Planning) -> None:
    """Who holds the database, by the lock, the fence or the journal, is an obstacle."""
    run = planning.run
    admin = run.the_admin()
    with planning.noting():
        holder = sessions.holder(admin, run.database)
        standing = fence.read(admin, run.database)
        left = run.journal.unfinished(run.target)
        status = f"see migrator status --env {run.environment.name}"
        if holder is not None:
            planning.obstacles.append(Obstacle(what=f"a run holds the database just now: {holder}", remedy=status))
        elif left is not None:
            planning.obstacles.append(
                Obstacle(what=f"run {left.run_id} has not ended", remedy=f"migrator resume {left.run_id}")
            )
        elif standing is not None:
            planning.obstacles.append(
                Obstacle(what=f"the database is under maintenance ({standing.mode.value})", remedy=status)
            )
