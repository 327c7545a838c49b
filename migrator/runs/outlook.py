"""What a person wants to see of a plan beside what would be done: who is in the way, how long, how much room."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

from migrator.plans.findings import Finding
from migrator.plans.parameters import Mask
from migrator.plans.plan import DiskView, Estimate, FindingView, InTheWay
from migrator.postgres import disk, in_the_way, sessions
from migrator.postgres.connect import application_name
from migrator.postgres.session import Session
from migrator.runs import stores
from migrator.runs.planning import Planning
from migrator.runs.record import Way
from migrator.runs.run import Run


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """As things are just now."""

    estimate: Estimate | None = None
    disk: tuple[DiskView, ...] = ()
    others: int | None = None
    in_the_way: tuple[InTheWay, ...] = ()
    findings: tuple[FindingView, ...] = ()


def of(planning: Planning, mask: Mask) -> Outlook:
    """What can be seen; what this login may not see is an obstacle, or empty. Raises: ConnectionFailed."""
    run = planning.run
    if not planning.chosen:
        return Outlook()
    holders: tuple[InTheWay, ...] = ()
    others = None
    with planning.noting():
        others = len(sessions.foreign(run.the_admin(), run.database, own_run=run.id))
    with planning.noting(), closing(run.session("plan", read_only=True)) as session:
        holders = tuple(_holder(one, mask) for one in _holders(run, session))
    room: list[DiskView] = []
    with planning.noting():
        room += _store(run)
    with planning.noting():
        room += _server(run)
    return Outlook(
        estimate=planning.estimate(),
        disk=tuple(room),
        others=others,
        in_the_way=holders,
        findings=tuple(_findings(run, mask)),
    )


def _holders(run: Run, session: Session) -> list[in_the_way.LockHolder]:
    return in_the_way.of_tables(session, run.facts.words, own=application_name(run.id, ""))


def _holder(one: in_the_way.LockHolder, mask: Mask) -> InTheWay:
    return InTheWay(
        pid=one.pid,
        user=one.user,
        application=one.application,
        state=one.state,
        age_s=None if one.age_s is None else round(one.age_s, 1),
        query=mask.text(one.query),
        locks=one.locks,
    )


def _findings(run: Run, mask: Mask) -> Iterator[FindingView]:
    if run.findings is None:
        return
    for one in run.findings.found:
        yield _finding(one, mask)
    for off in run.findings.switched_off:
        yield _finding(off.finding, mask, switched_off=f"{off.reason} ({off.by})")


def _finding(one: Finding, mask: Mask, *, switched_off: str | None = None) -> FindingView:
    return FindingView(
        rule=one.rule,
        severity=one.severity,
        message=mask.text(one.message),
        why=mask.text(one.why),
        safer=mask.text(one.safer),
        changeset=one.changeset,
        file=one.file,
        line=one.line,
        rows=one.rows_at_stake,
        switched_off=switched_off,
    )


def _store(run: Run) -> Iterator[DiskView]:
    if "dump" in run.environment.backup.kinds:
        yield DiskView(
            where=f"the store {run.environment.backup.store}",
            needed_for="the dump",
            needed_bytes=run.facts.tables_bytes,
            free_bytes=stores.of(run).free_bytes(),
        )


def _server(run: Run) -> Iterator[DiskView]:
    copies = ("clone" in run.environment.backup.kinds) + (run.record.way is Way.BLUEGREEN)
    if not copies or run.server is None:
        return
    admin = run.the_admin()
    yield DiskView(
        where="the server",
        needed_for="a copy of the database" if copies == 1 else f"{copies} copies of the database",
        needed_bytes=disk.size_bytes(admin, run.database) * copies,
        free_bytes=disk.free_bytes(admin, run.database, login=run.login, server=run.server),
    )
