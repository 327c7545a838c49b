"""Databases that runs have kept after a swap, and clones: since when, and from when on they may be dropped.

What says when a database was put aside is its own comment, which is its fence's description, and the journal. Of
several moments the latest counts: nothing is dropped earlier than it may be.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from migrator.backups.manifest import Manifest
from migrator.config.configuration import Config
from migrator.config.models import Environment
from migrator.errors import MaintenanceFailed, Refused, Unfinished
from migrator.postgres import databases, fence, properties, sessions, throwaway
from migrator.postgres.databases import RunDatabase
from migrator.postgres.fence import Fence
from migrator.postgres.session import Session
from migrator.runs import stores
from migrator.runs.byhand.verify import TRIAL
from migrator.runs.journal import Journal
from migrator.runs.journal_entries import StoredRun

_WHAT = {"old": "old database", "trial": "side database of a verification", "scratch": "scratch database"}
_BEGUN = re.compile(r"(?P<when>\d{8}t\d{6})_[0-9a-f]+")


@dataclass(frozen=True, kw_only=True)
class Kept:
    """A database beside the environment's own one. Exactly one of `droppable_from` and `why_not` is there."""

    name: str
    oid: int
    kind: (
        str  # old: it was swapped out; clone: a backup; trial, scratch: left by a verification or a try that was killed
    )
    run_id: str
    since: datetime | None = None
    droppable_from: datetime | None = None
    why_not: str | None = None
    backup: Manifest | None = field(default=None, compare=False)  # of a clone

    def may_go(self, now: datetime) -> bool:
        """Whether its retention is over."""
        return self.droppable_from is not None and now >= self.droppable_from


@dataclass(frozen=True, kw_only=True)
class _Target:
    """The environment's database, as those know it who kept another one of it."""

    environment: str
    database: str
    key: str  # the journal's

    def owns(self, standing: Fence | None, stored: StoredRun | None) -> bool | None:
        """None where nobody can tell."""
        if stored is not None:
            return stored.target == self.key
        if standing is None or "target" not in standing.facts:
            return None
        return (standing.environment, standing.facts["target"]) == (self.environment, self.database)


def listing(
    config: Config, environment: Environment, admin: Session, *, database: str, system_identifier: str
) -> tuple[Kept, ...]:
    """Every old database and every clone of this database, by name. Reads only.

    Raises: BackupFailed when the store cannot be read; StepFailed.
    """
    target = _Target(environment=environment.name, database=database, key=f"{system_identifier}/{database}")
    days = environment.backup.keep_days
    with closing(Journal.open(config.journal.url, config.base, read_only=True)) as journal:
        open_runs = {run.run_id for run in journal.open_runs()}
        made = [one for one in databases.run_databases(admin) if one.name.endswith("_old")]
        found = [_old(one, target, admin, journal, open_runs, days) for one in made]
        clones = list(_clones(stores.of_environment(config, environment).list(), target, admin, open_runs, days))
    left = (*_trials(target, admin), *_scratches(target, admin))
    return tuple(sorted((*(one for one in found if one is not None), *clones, *left), key=lambda one: one.name))


def drop(admin: Session, kept: Kept, *, now: datetime) -> None:
    """The old database is gone, and no other of its name was. Safe to repeat.

    Raises: Refused before its retention is over; StepFailed.
    """
    if not kept.may_go(now):
        until = f"until {kept.droppable_from:%Y-%m-%d %H:%M} UTC" if kept.droppable_from else f"because {kept.why_not}"
        raise Refused(f"{kept.name} is kept {until}.")
    databases.drop(admin, kept.name, oid=kept.oid)


def now_of(admin: Session) -> datetime:
    """The moment, by the server's clock: by it the databases were put aside."""
    [(epoch,)] = admin.rows("SELECT extract(epoch FROM clock_timestamp())")
    return datetime.fromtimestamp(float(epoch or 0), UTC)


def _old(
    made: RunDatabase, target: _Target, admin: Session, journal: Journal, open_runs: set[str], days: int
) -> Kept | None:
    """None where it is another database's."""
    kept = Kept(name=made.name, oid=made.oid, kind="old", run_id=made.run_id, why_not="")
    try:
        standing = fence.read(admin, made.name)
    except MaintenanceFailed:
        standing = None
    try:
        stored = _stored(journal, made.run_id)
    except Unfinished as error:  # of a newer migrator
        return _because(kept, error.message.rstrip("."))
    owned = target.owns(standing, stored)
    if owned is None:
        return _because(kept, "neither its comment nor the journal says whose it is")
    if not owned:
        return None
    if made.run_id in open_runs:
        return _because(kept, f"run {made.run_id} has not ended")
    moments = [_begun(made.run_id)]
    if stored is not None:
        moments += [stored.record.ended_at, *(step.ended_at for step in stored.steps)]
    if standing is not None:
        moments += [standing.since, _moment(standing.facts.get("put_aside"))]
    return _with_retention(kept, moments, days)


def _clones(
    manifests: Sequence[Manifest], target: _Target, admin: Session, open_runs: set[str], days: int
) -> Iterator[Kept]:
    names = {int(oid or 0): name or "" for oid, name in admin.rows("SELECT oid, datname FROM pg_database")}
    for manifest in manifests:
        of_this = f"{manifest.system_identifier}/{manifest.database}" == target.key
        if not of_this or manifest.copy_oid is None or names.get(manifest.copy_oid) != manifest.copy_name:
            continue
        kept = Kept(
            name=manifest.copy_name or "",
            oid=manifest.copy_oid,
            kind="clone",
            run_id=manifest.run_id,
            why_not="",
            backup=manifest,
        )
        if manifest.run_id in open_runs:
            yield _because(kept, f"run {manifest.run_id} has not ended")
        else:
            yield _with_retention(kept, [manifest.created_at, _begun(manifest.run_id)], days)


def _trials(target: _Target, admin: Session) -> Iterator[Kept]:
    """Side databases of `backup verify --restore`: nobody needs one whose process is gone."""
    for made in databases.run_databases(admin):
        comment = properties.read(admin, made.name).comment if made.name.endswith("_side") else None
        if comment is None or not comment.startswith(TRIAL):
            continue
        if json.loads(comment.removeprefix(TRIAL)) != {"environment": target.environment, "target": target.database}:
            continue
        kept = Kept(name=made.name, oid=made.oid, kind="trial", run_id=made.run_id, why_not="")
        if sessions.of_run(admin, made.run_id):
            yield _because(kept, "it is being compared with its backup")
        else:
            yield _with_retention(kept, [_begun(made.run_id)], days=0)


def _scratches(target: _Target, admin: Session) -> Iterator[Kept]:
    """Databases of dry runs and rehearsals whose process is gone."""
    for left in throwaway.leftovers(admin, environment=target.environment, target=target.database):
        kept = Kept(name=left.name, oid=left.oid, kind="scratch", run_id=left.run_id, why_not="")
        yield _with_retention(kept, [_begun(left.run_id)], days=0)


def _stored(journal: Journal, run_id: str) -> StoredRun | None:
    try:
        return journal.get(run_id)
    except Refused:
        return None


def _because(kept: Kept, why_not: str) -> Kept:
    return Kept(name=kept.name, oid=kept.oid, kind=kept.kind, run_id=kept.run_id, why_not=why_not, backup=kept.backup)


def _with_retention(kept: Kept, moments: Sequence[datetime | None], days: int) -> Kept:
    known = [moment for moment in moments if moment is not None]
    if not known:
        return _because(kept, "nothing says since when it is kept")
    since = max(known)
    return Kept(
        name=kept.name,
        oid=kept.oid,
        kind=kept.kind,
        run_id=kept.run_id,
        since=since,
        droppable_from=since + timedelta(days=days),
        backup=kept.backup,
    )


def _begun(run_id: str) -> datetime | None:
    match = _BEGUN.fullmatch(run_id)
    if match is None:
        return None
    try:
        return datetime.strptime(match["when"], "%Y%m%dt%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        return None


def _moment(text: str | None) -> datetime | None:
    try:
        return datetime.fromisoformat(text) if text else None
    except ValueError:
        return None


def as_json(kept: Kept, *, now: datetime) -> Mapping[str, object]:
    """What a program reads."""
    return {
        "name": kept.name,
        "kind": kept.kind,
        "run_id": kept.run_id,
        "since": kept.since.isoformat() if kept.since else None,
        "droppable_from": kept.droppable_from.isoformat() if kept.droppable_from else None,
        "may_go": kept.may_go(now),
        "why_not": kept.why_not,
    }


def told(kept: Kept, *, now: datetime) -> str:
    """One line for a person."""
    what = _WHAT.get(kept.kind, kept.kind)
    if kept.droppable_from is None or kept.since is None:
        return f"kept {what} {kept.name}: {kept.why_not}; clean leaves it alone"
    date = f"{kept.droppable_from:%Y-%m-%d %H:%M} UTC"
    when = f"since {date} clean may drop it" if kept.may_go(now) else f"clean may drop it from {date} on"
    return f"kept {what} {kept.name}, put aside {kept.since:%Y-%m-%d %H:%M} UTC: {when}"
