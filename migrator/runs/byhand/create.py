"""A backup alone, without maintenance: a dump and the fingerprints that a restore of it must have, of one moment."""

from __future__ import annotations

from contextlib import closing

from migrator.backups.manifest import Manifest
from migrator.config.models import Environment
from migrator.plans import obstacles
from migrator.plans.obstacles import Obstacle
from migrator.postgres import catalog
from migrator.runs import stores
from migrator.runs.byhand import refuse_if_at_work
from migrator.runs.run import Run
from migrator.runs.steps import back_up, lock


def wanting_a_dump(environment: Environment) -> Environment:
    """The environment with a dump as its one kind of backup: a clone would need the database for itself."""
    return environment.model_copy(update={"backup": environment.backup.model_copy(update={"kinds": ("dump",)})})


def create(run: Run) -> Manifest:
    """A finished backup of the database at one moment lies in the store. Others may read and write meanwhile.

    No run can work on the database as long as it takes. Raises: Locked when one does, Refused, BackupFailed.
    """
    lock.refuse_system_databases(run)
    refuse_if_at_work(run)
    lock.take(run)
    run.facts.fence_up = False  # a fence that a person put up is not ours to write on
    obstacles.refuse(_in_the_way(run))
    try:
        back_up.take(run)
    except BaseException:
        stores.quarantine_partial(run, stores.backup_id(run))
        raise
    return stores.of(run).read(stores.backup_id(run))


def _in_the_way(run: Run) -> list[Obstacle]:
    with closing(run.session("preflight", read_only=True)) as target:
        found = obstacles.of_pooler(target)
        relations = catalog.tables(target)
        found += obstacles.of_reading(target, relations)
    return [*found, *stores.in_the_way(run, sum(relation.pages_bytes for relation in relations))]
