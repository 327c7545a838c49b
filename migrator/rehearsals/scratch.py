"""A scratch database: something to try things in, which is gone when the block ends.

    with scratch.made(run, Origin.parse("schema")) as copy:
        trial = copy.run_of(run)        # a Run whose target is the scratch database

It is called `mig_<id>_scratch`, belongs to the target's owner where there is such a role, is closed to PUBLIC, and its
comment says what it is. One whose maker was killed is dropped by the next that is made of the same target, and by
`migrator clean`. The target itself is only read.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace

from migrator.config.login import Login
from migrator.errors import ConnectionFailed
from migrator.liquibase.changelog import Seen
from migrator.postgres import connect, databases, throwaway
from migrator.postgres.connect import PgSession, ServerInfo
from migrator.postgres.session import Session
from migrator.rehearsals import places
from migrator.rehearsals.filling import Filling
from migrator.rehearsals.origin import Origin
from migrator.rehearsals.places import Ground, Place, Wanted
from migrator.runs import opening
from migrator.runs.facts import Facts
from migrator.runs.record import MaintenanceRecord, RunRecord
from migrator.runs.run import Run

__all__ = ["Origin", "Place", "Scratch", "made"]


@dataclass(frozen=True, kw_only=True)
class Scratch:
    """A scratch database that is there until its block ends."""

    id: str  # its sessions are called mig:<id>:<role>
    login: Login  # to it, by whoever stands for the target's login
    maintenance_database: str  # of its server
    oid: int
    origin: Origin
    place: Place
    where: str  # the server, in words
    how: str  # how it was filled, in words
    not_represented: tuple[str, ...]  # what of the target is not in it, in words
    server: ServerInfo
    made_in_s: float
    admin: PgSession = field(repr=False)  # of its maker, in the maintenance database

    @property
    def name(self) -> str:
        return self.login.database

    @property
    def has_data(self) -> bool:
        """Whether the target's rows, or those of a backup, are in it."""
        return self.origin.has_data

    def session(self, role: str, *, read_only: bool = False) -> PgSession:
        """A session in it. Raises: ConnectionFailed."""
        return connect.connect(self.login, role=role, run_id=self.id, read_only=read_only)

    def run_of(self, run: Run) -> Run:
        """A Run like `run` whose target is this database: its own id, record and facts, no live resource yet.

        Nobody else is in it, so its maintenance is `none`; it is not protected, and there is no backup of it. Whoever
        asks for it closes it (`Run.close`) before the block ends.
        """
        environment = run.environment.model_copy(
            update={
                "maintenance_database": self.maintenance_database,
                "protected": False,
                "maintenance": run.environment.maintenance.model_copy(update={"database": "none", "outside": ()}),
                "backup": run.environment.backup.model_copy(update={"kinds": ()}),
            }
        )
        record = RunRecord(
            run_id=self.id,
            environment=run.record.environment,
            database=str(self.login),
            changelog=run.record.changelog,
            started_at=run.now(),
            maintenance=MaintenanceRecord(mode="none"),
        )
        return replace(
            run,
            environment=environment,
            login=self.login,
            record=record,
            facts=Facts(changelog_parameters=dict(run.facts.changelog_parameters)),
            lock=None,
            admin=None,
            server=self.server,
            liquibase=None,
            suites=None,
            watch=None,
            relations=[],
            picture=None,
            dumping=None,
        )


@contextmanager
def made(
    run: Run,
    origin: Origin,
    *,
    place: Place | None = None,
    outside: Seen | None = None,
    say: Callable[[str], None] = lambda _text: None,
) -> Iterator[Scratch]:
    """A scratch database, filled from `origin`, on `place` or on the first server that will do.

    `outside` is what would reach the whole server from it (`outside.found`): then it is never made on the target's.

    `run` names the target, which need not be locked: it is only read, and never kept from its users. No session of
    `run` may be in it meanwhile, save that of `the_admin`. `say` is told in a few words what takes the time.
    Raises: Refused where there is no server for it; BackupFailed, StepFailed where it cannot be filled.
    """
    scratch_id = opening.new_id(run.now())
    name = databases.name_of(scratch_id, "scratch")
    began = time.monotonic()
    with places.opened(run, scratch_id, Wanted(origin=origin, place=place, outside=outside)) as ground:
        sweep(ground.admin, environment=run.environment.name, target=run.database)
        try:
            say(f"copying ({origin}) on {ground.where}")
            filled = Filling(run=run, ground=ground, origin=origin, scratch_id=scratch_id, name=name).fill()
            yield Scratch(
                id=scratch_id,
                login=ground.worker.to(name),
                maintenance_database=ground.maker.database,
                oid=databases.oid_of(ground.admin, name) or 0,
                origin=origin,
                place=ground.place,
                where=ground.where,
                how=filled.how,
                not_represented=(*filled.missing, *ground.differences),
                server=ground.server,
                made_in_s=time.monotonic() - began,
                admin=ground.admin,
            )
        finally:
            _drop(ground, name, scratch_id)


def sweep(admin: Session, *, environment: str, target: str) -> list[str]:
    """Scratch databases of this target that a killed process left on the server are dropped; their names."""
    gone = []
    for one in throwaway.leftovers(admin, environment=environment, target=target):
        databases.drop(admin, one.name, oid=one.oid)
        gone.append(one.name)
    return gone


def _drop(ground: Ground, name: str, scratch_id: str) -> None:
    try:
        databases.drop(ground.admin, name)
    except ConnectionFailed:  # the session was lost meanwhile; the database need not be
        with closing(connect.connect(ground.maker, role="orchestrator", run_id=scratch_id)) as again:
            databases.drop(again, name)
