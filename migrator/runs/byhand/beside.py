"""A backup of RDS restored beside its server, compared there, and given the server's name: each when a person asks.

Everything is found by tags and resource ids, so that each command can be repeated from wherever it was ended.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from migrator.aws import Account
from migrator.aws.tokens import Token
from migrator.aws.waits import Wait
from migrator.backups.aurora import Cluster
from migrator.backups.manifest import Manifest
from migrator.backups.rds import BACKUP, RUN, Instance, name_of
from migrator.backups.server import Address, Described, LeftBehind
from migrator.config.login import Login
from migrator.errors import BackupFailed, Refused
from migrator.runs import reconstruction, state
from migrator.runs.facts import Facts
from migrator.runs.run import Run
from migrator.runs.server_backups import KINDS, Server


@dataclass(frozen=True, kw_only=True)
class Beside:
    """What was restored, and how it compares."""

    id: str
    address: Address
    differences: tuple[str, ...]  # of schema and rows, with the state that was backed up; empty: it is that
    settings: tuple[str, ...]  # those in which it is not as the original was
    not_compared: tuple[str, ...]
    others: tuple[str, ...]  # the other databases that came back with it


@dataclass(frozen=True, kw_only=True)
class Swap:
    """What a swap of the names would do."""

    name: str
    kept_as: str  # the name that the server has afterwards which bears it now
    restored: str  # what the restored one is called now
    left_behind: tuple[LeftBehind, ...]
    is_done: bool


def is_of_server(found: Manifest) -> bool:
    """Whether the backup is one of RDS's own."""
    return found.kind in KINDS


def verify(run: Run, found: Manifest) -> None:
    """RDS still has what the backup consists of. Raises: BackupFailed."""
    server = _server(run, found, lambda _text: None)
    if "snapshot" in found.facts:
        server.finish(found.facts["snapshot"])
        return
    until, moment = server.described().restorable_until, datetime.fromisoformat(found.facts["moment"])
    oldest = datetime.now(UTC) - timedelta(days=server.described().retention_days)
    if until is None or not oldest <= moment <= until:
        reach = f"to {until.astimezone(UTC):%Y-%m-%d %H:%M} UTC" if until is not None else "nowhere"
        raise BackupFailed(
            f"{found.facts['id']} cannot be restored to {moment:%Y-%m-%d %H:%M:%S} UTC: its automated backups reach "
            f"from {oldest:%Y-%m-%d %H:%M} UTC {reach}.",
            hint="The latest minutes come later: RDS is about five behind.",
            code="pitr_lag",
        )


def delete(run: Run, found: Manifest) -> None:
    """The snapshot is gone; what RDS makes by itself it deletes by itself too. Safe to repeat.

    Raises: BackupFailed.
    """
    if "snapshot" in found.facts:
        _server(run, found, lambda _text: None).delete(found.facts["snapshot"])


def restore(run: Run, found: Manifest, progress: Callable[[str], None]) -> Beside:
    """Another server holds what was backed up, with every setting of the original; compared by fingerprints.

    The original is not touched. Safe to repeat: what is there already is taken up. Raises: BackupFailed, Refused.
    """
    server, settings = _server(run, found, progress), _settings(found)
    new_id = _restored_name(found)
    tags = {RUN: found.run_id, BACKUP: found.id}
    if _restored(server, found) is None:
        if "snapshot" in found.facts:
            server.restore(found.facts["snapshot"], settings, new_id, tags)
        else:
            server.to_moment(datetime.fromisoformat(found.facts["moment"]), settings, new_id, tags)
    made = server.available(new_id)
    differing = server.complete(new_id, settings)
    progress(f"comparing {new_id} with the backup")
    differences, not_compared = compare(run, found, made)
    return Beside(
        id=new_id,
        address=made.address,
        differences=differences,
        settings=differing,
        not_compared=not_compared,
        others=tuple(json.loads(found.facts.get("others", "[]"))),
    )


def compare(run: Run, found: Manifest, made: Described) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Where the restored database differs from what was backed up, and what could not be compared.

    Raises: ConnectionFailed, StepFailed.
    """
    there = replace(
        run,
        login=at(run.login, made.address),
        record=run.record.model_copy(deep=True),
        facts=Facts(),
        admin=None,
        server=None,
    )
    try:
        if not (found.schema_objects or found.tables):
            raise BackupFailed(f"The manifest of {found.id} has no fingerprint that it could be compared with.")
        reconstruction.add_state(there.facts, found)
        return tuple(state.differences(there)), tuple(there.record.proof.not_proven)
    finally:
        if there.admin is not None:
            there.admin.close()


def swap_of(run: Run, found: Manifest, progress: Callable[[str], None]) -> Swap:
    """What the swap would do, and what it would leave behind. Changes nothing. Raises: BackupFailed, Refused."""
    server = _server(run, found, progress)
    restored = _restored(server, found)
    if restored is None:
        raise Refused(
            f"Nothing is restored of the backup {found.id}.",
            hint=f"First: migrator backup restore {found.id} --env {run.environment.name}",
            code="not_restored",
        )
    name, restored_name = found.facts["id"], _name(restored)
    is_done = restored_name == name
    return Swap(
        name=name,
        kept_as=f"{name[:40].rstrip('-')}-before-{found.run_id[-4:]}",
        restored=restored_name,
        left_behind=() if is_done or server.find(name) is None else server.left_behind(),
        is_done=is_done,
    )


def swap(run: Run, found: Manifest, planned: Swap, progress: Callable[[str], None]) -> None:
    """The restored server bears the name; the other one is kept under its own. Safe to repeat.

    Raises: Refused where the restored one is not any more what was backed up; BackupFailed.
    """
    server = _server(run, found, progress)
    restored = _restored(server, found)
    if restored is None:
        raise BackupFailed(f"What was restored of {found.id} is gone.")
    if not planned.is_done:
        differences, _ = compare(run, found, server.available(_name(restored)))
        if differences:
            raise Refused(
                f"{_name(restored)} is not what was backed up: {'; '.join(differences[:3])}.",
                hint="Somebody has written to it. Delete it, restore again, and swap at once.",
                code="restored_differs",
            )
    original = _resource_id(_settings(found))
    if server.by_resource(original) is not None:
        server.rename(original, planned.kept_as)
    server.rename(_resource_id(restored), planned.name)


def at(login: Login, address: Address) -> Login:
    """The same login at another address; a token is made for that one."""
    password = login.password
    if isinstance(password, Token):
        password = replace(password, host=address.host, port=address.port)
    return replace(login, host=address.host, port=address.port, password=password)


def _server(run: Run, found: Manifest, progress: Callable[[str], None]) -> Server:
    settings = run.environment.rds
    wait = Wait(limit_s=settings.restore_timeout_s, every_s=settings.poll_s, progress=progress)
    make = Cluster if found.facts.get("server") == "aurora" else Instance
    return make(account=Account(run.environment.aws), id=found.facts["id"], settings=settings, wait=wait)


def _settings(found: Manifest) -> dict[str, Any]:
    settings: dict[str, Any] = json.loads(found.facts["settings"])
    return settings


def _restored(server: Server, found: Manifest) -> dict[str, Any] | None:
    """What was restored of the backup, under whichever of its two names. Raises: BackupFailed for another's."""
    for name in (_restored_name(found), found.facts["id"]):
        there = server.find(name)
        if there is not None and _tags(there).get(BACKUP) == found.id:
            return there
    return None


def _restored_name(found: Manifest) -> str:
    return name_of(found.run_id, "restored")


def _name(described: Mapping[str, Any]) -> str:
    return str(described.get("DBInstanceIdentifier") or described["DBClusterIdentifier"])


def _resource_id(described: Mapping[str, Any]) -> str:
    return str(described.get("DbiResourceId") or described["DbClusterResourceId"])


def _tags(described: Mapping[str, Any]) -> dict[str, str]:
    return {tag["Key"]: tag.get("Value", "") for tag in described.get("TagList", [])}
