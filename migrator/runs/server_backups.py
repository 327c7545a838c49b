"""The backups of a run that are RDS's own: a snapshot of the whole server, or its automated backups, verified.

They bring back every database of the server, not the target alone, and never by themselves: a person does, by the
runbook that the report carries.
"""

from __future__ import annotations

import json
import time

from migrator.aws import Account
from migrator.aws.waits import Wait
from migrator.backups import Made, pitr
from migrator.backups.aurora import Cluster
from migrator.backups.rds import Instance
from migrator.backups.server import Described
from migrator.config.models import Environment
from migrator.config.rds import endpoint
from migrator.errors import Refused, StepFailed
from migrator.postgres.session import Session
from migrator.runs import rds_identity, stores
from migrator.runs.manifest import manifest_of
from migrator.runs.record import BackupRecord, StepName
from migrator.runs.run import Run
from migrator.runs.words import count

Server = Instance | Cluster
KINDS = ("rds", "aurora", "pitr")
SNAPSHOTS = ("rds", "aurora")
_NAME_IT = 'write [environments.NAME.rds] instance = "..." (or cluster = "...", for Aurora)'
_OWN = ("postgres", "rdsadmin")


def wanted(environment: Environment) -> tuple[str, ...]:
    """The kinds of the environment that are RDS's own, in its order."""
    return tuple(kind for kind in environment.backup.kinds if kind in KINDS)


def server_of(environment: Environment, wait: Wait | None = None) -> Server:
    """The instance or cluster that the environment's database stands on.

    Raises: Refused where nothing says which.
    """
    settings, login = environment.rds, environment.login
    told = endpoint(login.host) if login is not None else None
    account = Account(environment.aws)
    wait = wait or Wait(limit_s=settings.snapshot_timeout_s, every_s=settings.poll_s)
    of_cluster = told is not None and told.kind in ("cluster", "reader")
    cluster = settings.cluster or (told.id if told is not None and of_cluster else None)
    if "aurora" in environment.backup.kinds or (cluster is not None and settings.instance is None):
        if cluster is None:
            raise Refused(f"Nothing says which Aurora cluster {login} stands on.", hint=_NAME_IT, code="rds_unnamed")
        return Cluster(account=account, id=cluster, settings=settings, wait=wait)
    instance = settings.instance or (told.id if told is not None and told.kind == "instance" else None)
    if instance is None:
        why = " A proxy's endpoint does not say it." if told is not None else ""
        raise Refused(f"Nothing says which RDS instance {login} stands on.{why}", hint=_NAME_IT, code="rds_unnamed")
    return Instance(account=account, id=instance, settings=settings, wait=wait)


def gate(run: Run) -> str | None:
    """RDS can be asked, and what is to be backed up is in a state for it. A run's gate: see `runs.gates`.

    Raises: Refused.
    """
    kinds = wanted(run.environment)
    if not kinds:
        return None
    try:
        server = server_of(run.environment)
        found = server.described()
        refuse_unfit(run.environment, server, found)
        if not rds_identity.is_proven(run.login, found, run.the_admin()):
            run.warn(f"Nothing but the configuration says that {_assumed(run, found)}: look whether it is so.")
        others = other_databases(run.the_admin(), run.database)
    except StepFailed as error:
        raise Refused(error.message, hint=error.hint, code=error.code) from error
    says = f"{', '.join(kinds)} of {found.id} ({found.summary})"
    if others:
        run.warn(_all_of_them(found.id, others))
    return says


def refuse_unfit(environment: Environment, server: Server, found: Described) -> str:
    """What is to be backed up is in a state for it. Returns what was seen, in words.

    Raises: Refused, BackupFailed.
    """
    login = environment.login
    if found.cluster is not None:
        raise Refused(
            f"{found.id} is a member of the Aurora cluster {found.cluster}.",
            hint='write backup.kinds = ["aurora"]: a cluster is backed up as a whole',
            code="rds_cluster",
        )
    told = endpoint(login.host) if login is not None else None
    is_another = login is not None and found.address.host.lower() not in ("", login.host.lower())
    if login is not None and is_another and told is not None and told.kind in ("instance", "cluster"):
        raise Refused(
            f"{found.id} answers at {found.address.host}, and the url names {login.host}.",
            hint="Correct rds.instance (or rds.cluster), or the url: else another server would be backed up.",
            code="rds_another",
        )
    if found.status == "backing-up" and set(SNAPSHOTS) & set(wanted(environment)):
        raise Refused(
            f"{found.id} is being backed up by RDS itself; a snapshot would be refused until that has ended.",
            hint="Wait until it is available, and keep clear of its backup window.",
            code="rds_status",
        )
    if found.status not in ("available", "storage-optimization", "backing-up"):
        raise Refused(
            f"{found.id} is {found.status}; it must be available to be backed up.",
            hint="Wait until it is available.",
            code="rds_status",
        )
    seen = [found.status]
    if "pitr" in environment.backup.kinds:
        seen.append(f"automated backups {pitr.check(found, environment.rds)}")
    free = server.free_percent(found.storage_gb)
    if free is not None:
        if free < environment.rds.min_free_percent:
            raise Refused(
                f"{found.id} has {free:.0f} % of its {found.storage_gb} GB free; rds.min_free_percent is "
                f"{environment.rds.min_free_percent}.",
                hint="Let it grow (aws rds modify-db-instance --allocated-storage), or lower the setting.",
                code="rds_storage",
            )
        seen.append(f"{free:.0f} % of {found.storage_gb} GB free")
    return ", ".join(seen)


def other_databases(admin: Session, database: str) -> list[str]:
    """The databases that stand on the same server and would come back with a restore."""
    rows = admin.rows("SELECT datname FROM pg_database WHERE NOT datistemplate ORDER BY datname")
    return [name for (name,) in rows if name is not None and name not in (*_OWN, database)]


def begin(run: Run) -> None:
    """A snapshot has been asked for, where the environment wants one; RDS goes on with it by itself.

    Safe to repeat. Raises: BackupFailed.
    """
    if not set(SNAPSHOTS) & set(wanted(run.environment)) or _recorded(run):
        return
    server = server_of(run.environment)
    run.progress(StepName.BACK_UP, f"snapshot of {server.id}")
    run.facts.server_snapshot = server.begin(run.id)
    run.save()


def finish(run: Run) -> str | None:
    """The snapshot is available, or the automated backups are verified, and the store has a manifest that says so.

    The state before is known by now: it is what a restore will be compared with. Returns what was made; None where the
    environment wants nothing of this kind. Raises: BackupFailed.
    """
    kinds = wanted(run.environment)
    if not kinds or _recorded(run):
        return None
    began_at = time.monotonic()
    settings = run.environment.rds

    def told(text: str) -> None:
        run.heed_alarm()
        run.progress(StepName.BACK_UP, text)

    wait = Wait(limit_s=settings.snapshot_timeout_s, every_s=settings.poll_s, progress=told)
    server = server_of(run.environment, wait)
    facts: dict[str, str] = {}
    notes = []
    if run.facts.server_snapshot is not None:
        arn = server.finish(run.facts.server_snapshot)
        facts |= {"snapshot": run.facts.server_snapshot, "snapshot_arn": arn}
        notes.append(f"snapshot {run.facts.server_snapshot}")
    found = server.described()
    if "pitr" in kinds:
        notes.append(f"automated backups {pitr.check(found, settings)}")
        facts["moment"] = run.now().isoformat()
    _publish(run, server, found, facts, began_at=began_at)
    run.prove(f"Backup at RDS of all of {found.id}: {'; '.join(notes)}.")
    if not _is_still_proven(run, found):
        run.not_proven(f"That {_assumed(run, found)}: only the configuration says so.")
    if not run.offline:
        run.not_proven(f"That the backup of {found.id} is of the very moment of the fingerprints: others were writing.")
    return "; ".join(notes)


def name_unrecorded(run: Run) -> None:
    """A snapshot that this run asked for, and that no manifest speaks of, is among what it has kept. Safe to repeat."""
    name = run.facts.server_snapshot
    if name is None or _recorded(run):
        return
    try:
        is_cluster = server_of(run.environment).kind == "aurora"
    except Refused:  # another configuration than the run began with; nothing of it may end the way back
        is_cluster = "aurora" in run.environment.backup.kinds
    kept = (
        f"The snapshot {name} was asked for, and the run did not wait for it: it may be there, or come. "
        f"When it is not needed: {_delete_command(name, is_cluster=is_cluster)}"
    )
    if kept not in run.record.kept:
        run.record.kept.append(kept)


def runbook(environment: str, backup_id: str, server_id: str, others: list[str]) -> list[str]:
    """What a person does to go back by hand, in order."""
    lines = [
        f"migrator backup restore {backup_id} --env {environment}"
        f"   # beside {server_id}, with its settings; compared by fingerprints",
        f"migrator backup swap {backup_id} --env {environment}"
        "   # lists what would be left behind, asks, and gives the restored one the name",
        f"migrator maintenance off --env {environment} --force   # once you have looked at it",
    ]
    if others:
        lines.insert(0, f"# {_all_of_them(server_id, others)}")
    return lines


def backup_id(run: Run) -> str:
    """The id of the manifest of the run's backup at RDS."""
    return f"{stores.backup_id(run)}-rds"


def _publish(run: Run, server: Server, found: Described, facts: dict[str, str], *, began_at: float) -> None:
    store, own_id = stores.of(run), backup_id(run)
    others = other_databases(run.the_admin(), run.database)
    kind = server.kind if run.facts.server_snapshot is not None else "pitr"
    made = Made(
        tools={},
        facts={
            **facts,
            "server": server.kind,
            "id": found.id,
            "settings": json.dumps(found.settings),
            "others": json.dumps(others),
        },
    )
    store.quarantine(own_id)
    store.new(own_id)
    store.publish(manifest_of(run, made, backup_id=own_id, kind=kind), stores.signing_key(run))
    run.facts.server_backup_id = own_id
    run.record.backups.append(
        BackupRecord(
            id=own_id,
            kind=kind,
            location=facts.get("snapshot_arn", f"automated backups of {found.id}"),
            duration_s=round(time.monotonic() - began_at, 3),
        )
    )
    if others:
        run.warn(_all_of_them(found.id, others))
    if "snapshot" in facts:
        command = _delete_command(facts["snapshot"], is_cluster=server.kind == "aurora")
        run.record.kept.append(
            f"The snapshot {facts['snapshot']} of {found.id} is kept. When it is not needed any more: {command}"
        )
    run.record.runbook = runbook(run.environment.name, own_id, found.id, others)
    run.save()


def _is_still_proven(run: Run, found: Described) -> bool:
    """As the gate asked; addresses may have changed since, by a failover."""
    try:
        return rds_identity.is_proven(run.login, found, run.the_admin())
    except Refused:
        return False


def _assumed(run: Run, found: Described) -> str:
    return f"{run.login.host}, which the url names, is {found.id}"


def _recorded(run: Run) -> bool:
    return run.facts.server_backup_id is not None


def _delete_command(snapshot: str, *, is_cluster: bool) -> str:
    what = "db-cluster-snapshot" if is_cluster else "db-snapshot"
    return f"aws rds delete-{what} --{what}-identifier {snapshot}"


def _all_of_them(server_id: str, others: list[str]) -> str:
    shown = ", ".join(others[:5]) + (", ..." if others[5:] else "")
    return (
        f"{count(len(others), 'other database')} on {server_id} ({shown}): a restore of RDS brings all of them back to "
        "the same moment, and what was written to them since would be lost too."
    )
