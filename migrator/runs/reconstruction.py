"""A run known from the database alone: the fence says who stands there, the manifest what was there before.

For the day on which the journal is lost, or lies on a machine that is gone.
"""

from __future__ import annotations

from collections.abc import Sequence

from migrator.backups import manifest as manifests
from migrator.config.configuration import Config
from migrator.config.models import Environment
from migrator.errors import BackupFailed
from migrator.postgres import connect, fence
from migrator.postgres.fence import Fence
from migrator.runs import opening, stores
from migrator.runs.facts import Facts, TableState
from migrator.runs.journal import Journal
from migrator.runs.outside import providers
from migrator.runs.record import Direction, MaintenanceRecord, RunRecord, StepName, StepRecord, Way
from migrator.runs.reporter import Reporter
from migrator.runs.run import MANUAL, Options, Run


def from_fence(
    config: Config, environment: Environment, options: Options, *, journal: Journal, reporter: Reporter
) -> Run | None:
    """The run whose fence stands around the environment's database; None where no run's fence stands.

    Raises: ConnectionFailed, BackupFailed when the backup that the fence names is damaged.
    """
    login = opening.login_of(config, environment)
    with connect.connect(
        login, role="orchestrator", run_id="recover", database=environment.maintenance_database
    ) as admin:
        standing = fence.read(admin, login.database)
    if standing is None or standing.run_id == MANUAL:
        return None
    record = RunRecord(
        run_id=standing.run_id,
        environment=environment.name,
        database=str(login),
        changelog=standing.facts.get("changelog", "unknown"),
        direction=Direction(standing.facts.get("direction", Direction.UPDATE)),
        started_at=standing.since,
        way=Way(standing.way) if standing.way is not None else None,
        maintenance=MaintenanceRecord(mode=standing.mode.value, started_at=standing.since),
        steps=_steps(standing),
    )
    run = Run(
        config=config,
        environment=opening.as_begun(environment, standing.mode.value),
        login=login,
        options=options,
        record=record,
        facts=_facts(config, environment, standing),
        journal=journal,
        reporter=reporter,
        folder=opening.folder_of(config, standing.run_id),
        reconstructed=True,
    )
    # What stood outside before is not known here; the providers have kept it themselves, or have nothing to keep.
    run.facts.outside = {provider.name: {} for provider in providers(run)}
    run.warn("The journal does not know this run: it is taken from the fence's own description and the manifest.")
    return run


def _steps(standing: Fence) -> list[StepRecord]:
    """The steps that must have been begun, by what the fence was told on the way."""
    begun = [StepName.LOCK, StepName.PREFLIGHT, StepName.MAINTAIN]
    if standing.way == Way.RESTORE.value:
        return _interrupted(standing, [*begun, StepName.RESTORE])
    if standing.way == Way.SWAP_BACK.value:
        return _interrupted(standing, [*begun, StepName.VERIFY])
    if standing.facts.get("xid"):
        begun += [StepName.HOLD, StepName.BACK_UP, StepName.APPLY]
    elif standing.phase == "copying":
        return _interrupted(standing, [*begun, StepName.COPY])
    elif "backup" in standing.facts or standing.phase is not None:
        begun.append(StepName.BACK_UP)
    if standing.phase is not None and StepName.APPLY not in begun:
        begun.append(StepName.APPLY)
    if "copy" in standing.facts:
        begun.insert(3, StepName.COPY)
    return _interrupted(standing, begun)


def _interrupted(standing: Fence, begun: Sequence[StepName]) -> list[StepRecord]:
    return [StepRecord(name=name, status="interrupted", started_at=standing.since) for name in begun]


def _facts(config: Config, environment: Environment, standing: Fence) -> Facts:
    facts = Facts(
        fence_up=True,
        fence=standing.to_comment(),
        xid=standing.facts.get("xid") or None,
        verified=standing.phase == "verified",
        database_oid=standing.previous.oid,
        copy_name=standing.facts.get("copy") or None,
        copy_oid=int(standing.facts.get("copy_oid") or 0) or None,
    )
    backup_id = standing.facts.get("backup")
    if backup_id:
        try:
            found = stores.of_environment(config, environment).read(backup_id)
        except BackupFailed as error:
            if standing.way in {Way.ATOMIC.value, Way.BLUEGREEN.value}:
                return facts  # the transaction's status or the OIDs decide; no backup is needed
            raise error
        add_state(facts, found)
    return facts


def add_state(facts: Facts, found: manifests.Manifest) -> None:
    """The facts hold the state that the backup is of, as far as its manifest has it, and the backup's id."""
    facts.backup_id = found.id
    facts.schema_before = dict(found.schema_objects)
    facts.tables_before = {
        name: TableState(rows=table.rows, digest=table.digest or "", columns=table.columns)
        for name, table in found.tables.items()
    }
    facts.sequences = {name: (state.last_value, state.is_called) for name, state in found.sequences.items()}
    if found.large_objects is None:  # they are read where all tables are, and only there
        facts.fingerprinted = sorted(facts.tables_before)
    else:
        facts.large_objects_before = TableState(rows=found.large_objects.rows, digest=found.large_objects.digest or "")
