"""Which backups may go: by number and by age, never the newest, never one that an unfinished run needs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta

from migrator.backups.manifest import Manifest
from migrator.errors import UsageError
from migrator.postgres import fence
from migrator.runs import stores
from migrator.runs.byhand import beside
from migrator.runs.journal import Journal
from migrator.runs.run import Run


@dataclass(frozen=True, kw_only=True)
class Rules:
    """A backup goes when every rule that is given lets it go."""

    keep: int | None = None  # so many of the newest stay
    older_than: timedelta | None = None  # what is younger stays


@dataclass(frozen=True, kw_only=True)
class Decision:
    manifest: Manifest
    kept_because: str | None  # None: it goes


def decide(
    manifests: Iterable[Manifest], rules: Rules, *, now: datetime, needed: Mapping[str, str]
) -> tuple[Decision, ...]:
    """A decision on each backup of one database, the newest first. `needed` is id -> who needs it, in words.

    Raises: UsageError where no rule is given.
    """
    if rules.keep is None and rules.older_than is None:
        raise UsageError("nothing says which backups may go", hint="give --keep N, --older-than 30d, or both")
    decisions = []
    newest_of_kind: set[str] = set()
    for number, manifest in enumerate(sorted(manifests, key=lambda one: (one.created_at, one.id), reverse=True), 1):
        why = None
        if manifest.kind not in newest_of_kind:
            why = f"the newest {manifest.kind}"
        elif manifest.id in needed:
            why = needed[manifest.id]
        elif rules.keep is not None and number <= rules.keep:
            why = f"among the newest {rules.keep}"
        elif rules.older_than is not None and now - manifest.created_at <= rules.older_than:
            why = "not old enough"
        newest_of_kind.add(manifest.kind)
        decisions.append(Decision(manifest=manifest, kept_because=why))
    return tuple(decisions)


def of_database(run: Run) -> list[Manifest]:
    """The finished backups in the store that are of the run's environment and database. Raises: BackupFailed."""
    return [
        one for one in stores.of(run).list() if (one.environment, one.database) == (run.environment.name, run.database)
    ]


def needed(run: Run) -> dict[str, str]:
    """Backup id -> the run that needs it: every run in the journal that has not ended, and the fence's.

    Raises: Refused, Unfinished where the journal cannot tell; ConnectionFailed.
    """
    found: dict[str, str] = {}
    with closing(Journal.open(run.config.journal.url, run.config.base, read_only=True)) as journal:
        for left in journal.open_runs():
            stored = journal.get(left.run_id)
            ids = [backup.id for backup in stored.record.backups]
            asked_for = stored.facts.get("backup_id")
            for backup_id in [*ids, *([asked_for] if isinstance(asked_for, str) else [])]:
                found[backup_id] = f"run {left.run_id} has not ended and may need it"
    store = stores.of(run)
    for one in of_database(run):
        until = store.locked_until(one.id)
        if until is not None and until > run.now():
            found[one.id] = f"the store has it locked until {until:%Y-%m-%d %H:%M} UTC"
    standing = fence.read(run.the_admin(), run.database)
    if standing is not None and standing.facts.get("backup"):
        found[standing.facts["backup"]] = f"the fence of run {standing.run_id} names it"
    return found


def delete(run: Run, manifest: Manifest) -> None:
    """The backup is gone, its manifest first; of a clone, the copy too. Safe to repeat. Raises: BackupFailed."""
    store = stores.of(run)
    if manifest.kind == "clone":
        with store.opened(manifest.id) as folder:
            stores.clone(run).delete(stores.source(run), folder)
    if beside.is_of_server(manifest):
        beside.delete(run, manifest)
    store.delete(manifest.id)
