"""`migrator backup`: backups by hand, outside any run."""

from __future__ import annotations

from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from migrator.cli import backup_restore, opening, output, rds_restore
from migrator.cli.confirm import confirm
from migrator.cli.options import AsJson, AssumeYes, ConfigPath, EnvironmentName, Overrides
from migrator.errors import BackupFailed, Refused, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import timedelta

    from migrator.backups.manifest import Manifest
    from migrator.backups.store import Listed, Store
    from migrator.config.models import Environment
    from migrator.runs.byhand.prune import Decision
    from migrator.runs.run import Run

app = typer.Typer(
    help="Make backups by hand, prove them, restore them, throw old ones away.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

BackupId = Annotated[
    str, typer.Argument(metavar="ID", help="The backup's id; see migrator backup list.", show_default=False)
]


@app.command()
def create(
    *, config: ConfigPath = None, env: EnvironmentName = None, overrides: Overrides = None, as_json: AsJson = False
) -> None:
    """Make a backup now, of one moment, with the fingerprints that a restore of it must have.

    Nobody is held off: what others write after that moment is not in it. No run can begin while it is made.

    \b
    migrator backup create --env production
    migrator backup create --env production --json | jq -r .backup_id
    """
    from migrator.reports import wording
    from migrator.runs.byhand.create import create as make
    from migrator.runs.byhand.create import wanting_a_dump

    with _opened(config, env, overrides, doing="backup by hand") as run:
        run.environment = wanting_a_dump(run.environment)
        if not as_json:
            output.note(f"backing up {run.login}; others may read and write meanwhile")
        made = make(run)
        [record] = run.record.backups
        warnings = run.record.warnings
    if as_json:
        output.json_result(
            {
                "backup_id": made.id,
                "kind": made.kind,
                "location": record.location,
                "size_bytes": made.size_bytes,
                "duration_s": record.duration_s,
                "tables": len(made.tables),
                "others_may_write": True,
                "warnings": warnings,
            }
        )
        return
    for warning in warnings:
        output.note(f"warning: {warning}")
    output.result(f"backup {made.id}: {wording.size(made.size_bytes)} in {record.location}")
    output.result(
        f"{wording.count(len(made.tables), 'table')} fingerprinted at its snapshot; nobody was held off: "
        "what was written since is not in it"
    )
    output.result(f"prove that it restores: migrator backup verify {made.id} --restore --env {made.environment}")


@app.command(name="list")
def list_(
    *,
    config: ConfigPath = None,
    env: EnvironmentName = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Also those of other environments that share the store.")
    ] = False,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """List the backups in the environment's store, the oldest first, and what does not count as one. Reads only.

    \b
    migrator backup list --env production
    """
    environment, store = _store(config, env, overrides)
    found = [
        one
        for one in store.listing()
        if everything or one.manifest is None or one.manifest.environment == environment.name
    ]
    if as_json:
        output.json_result([_summary(one) for one in found])
    elif not found:
        output.note(f"no backup of environment {environment.name} in {store.place}")
    else:
        output.result(output.table(("backup", "environment", "database", "made", "kind", "size"), _rows(found)))
    if not as_json:
        for one in found:
            if one.problem is not None:
                output.note(f"not a backup: {one.id}: {one.problem}")


def _newest(run: Run) -> str:
    """The id of the latest finished backup; what lies there newer and is none is told. Raises: Refused."""
    from migrator.runs import stores

    listed = stores.of(run).listing()
    finished = [one.manifest for one in listed if one.manifest is not None]
    if not finished:
        raise Refused("the store has no finished backup", hint="migrator backup create", code="no_backup")
    newest = max(finished, key=lambda manifest: manifest.created_at)
    for one in listed:
        if one.problem is not None and one.id > newest.id:
            output.note(f"{one.id} is newer, and no backup: {one.problem}")
    return newest.id


@app.command()
def show(
    backup_id: BackupId,
    *,
    config: ConfigPath = None,
    env: EnvironmentName = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Say what a backup is of and what it holds, from its manifest. Contents are not read: see backup verify.

    \b
    migrator backup show 20261123t175103_4f1c-production
    """
    _, store = _store(config, env, overrides)
    found = store.read(backup_id)
    if as_json:
        output.result(found.model_dump_json(indent=2))
        return
    for line in _story(found, store):
        output.result(line)


@app.command()
def verify(
    backup_id: BackupId,
    *,
    config: ConfigPath = None,
    env: EnvironmentName = None,
    restore: Annotated[
        bool, typer.Option("--restore", help="Also restore it into a side database, compare, and drop that again.")
    ] = False,
    embedded: Annotated[
        bool, typer.Option("--embedded", help="With --restore: on an embedded PostgreSQL of this machine.")
    ] = False,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Read every byte of a backup against its manifest; with --restore prove that it restores to what it is of.

    The id may be `newest`: the latest that was finished.

    The side database is on the environment's server, which needs the room; its own database is not touched. Exit
    code 3: the backup is not what it should be.

    \b
    migrator backup verify 20261123t175103_4f1c-production --env production
    migrator backup verify newest --env production --restore
    """
    from migrator.runs.byhand import verify as verifying

    if embedded and not restore:
        raise UsageError("--embedded is for a restore", hint="give --restore too")
    trial = None
    with _opened(config, env, overrides, doing=f"verify {backup_id}") as run:
        found = verifying.read(run, _newest(run) if backup_id == "newest" else backup_id)
        if not as_json:
            files = f"{len(found.files)} files" if found.kind == "dump" else f"the copy {found.copy_name}"
            output.note(f"{files}: as the manifest says")
        if restore:
            trial = verifying.by_restore(run, found, embedded=embedded)
    if as_json:
        told: dict[str, object] = {"backup_id": found.id, "files": len(found.files), "size_bytes": found.size_bytes}
        if trial is not None:
            told["restored_on"], told["compared"] = trial.where, trial.compared
            told["differences"], told["not_compared"] = list(trial.differences), list(trial.not_compared)
        told["ok"] = trial is None or not trial.differences
        output.json_result(told)
    else:
        for sentence in trial.not_compared if trial else ():
            output.note(f"not compared: {sentence}")
    if trial is not None and trial.differences:
        if as_json:
            raise typer.Exit(BackupFailed.exit_code)
        raise BackupFailed(
            f"The backup {found.id} is not what its manifest says: {verifying.described(trial)}.",
            hint="Do not rely on it. Make another one: migrator backup create",
        )
    if not as_json:
        output.result(
            f"backup {found.id}: " + (verifying.described(trial) if trial else "every byte is as it was made")
        )


@app.command()
def prune(
    *,
    keep: Annotated[
        int | None, typer.Option("--keep", metavar="N", min=1, help="So many of the newest stay.", show_default=False)
    ] = None,
    older_than: Annotated[
        str | None,
        typer.Option("--older-than", metavar="AGE", help="Younger ones stay: 30d, 12h, 4w.", show_default=False),
    ] = None,
    config: ConfigPath = None,
    env: EnvironmentName = None,
    overrides: Overrides = None,
    yes: AssumeYes = False,
    as_json: AsJson = False,
) -> None:
    """Delete old backups of the environment's database: shows which, asks, and deletes them.

    With both rules a backup goes only where both let it. The newest of each kind always stays, and so does one that an
    unfinished run may need. What is unfinished or damaged is left alone.

    \b
    migrator backup prune --env production --keep 10 --older-than 30d
    migrator backup prune --env production --keep 10 --yes
    """
    from datetime import UTC, datetime

    from migrator.runs.byhand import prune as pruning
    from migrator.runs.byhand import refuse_if_at_work

    rules = pruning.Rules(keep=keep, older_than=_age(older_than))
    with _opened(config, env, overrides, doing="backup prune") as run:
        refuse_if_at_work(run)
        decisions = pruning.decide(pruning.of_database(run), rules, now=datetime.now(UTC), needed=pruning.needed(run))
        going = [one.manifest for one in decisions if one.kept_because is None]
        for line in _decided(decisions):
            output.note(line)
        if going:
            confirm(f"Delete {len(going)} of {len(decisions)} backups of {run.database}?", assume_yes=yes)
        for manifest in going:
            pruning.delete(run, manifest)
    if as_json:
        stayed = [{"backup_id": one.manifest.id, "why": one.kept_because} for one in decisions if one.kept_because]
        output.json_result({"deleted": [one.id for one in going], "kept": stayed})
    else:
        output.result(f"{len(going)} deleted, {len(decisions) - len(going)} kept")


app.command(name="restore")(backup_restore.restore)
app.command(name="swap")(rds_restore.swap)


@contextmanager
def _opened(config: ConfigPath, env: str | None, overrides: list[str] | None, *, doing: str) -> Iterator[Run]:
    from migrator.runs import byhand

    loaded = opening.configuration(config, overrides=overrides, required=False)
    run = byhand.opened(loaded, opening.environment(loaded, env), doing=doing)
    with closing(run):
        yield run


def _store(config: ConfigPath, env: str | None, overrides: list[str] | None) -> tuple[Environment, Store]:
    from migrator.runs import stores

    loaded = opening.configuration(config, overrides=overrides, required=False)
    environment = opening.environment(loaded, env)
    return environment, stores.of_environment(loaded, environment)


def _age(text: str | None) -> timedelta | None:
    """Raises: UsageError."""
    from datetime import timedelta

    if text is None:
        return None
    units = {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}
    number, unit = text[:-1], text[-1:]
    if unit not in units or not number.isdecimal() or len(number) > 5 or int(number) == 0:
        raise UsageError(f"--older-than {text!r} is no age", hint="write 12h, 30d or 4w")
    return int(number) * units[unit]


def _decided(decisions: tuple[Decision, ...]) -> Iterator[str]:
    from migrator.reports import wording

    for one in decisions:
        about = f"{one.manifest.id} ({one.manifest.kind}, {wording.size(one.manifest.size_bytes)})"
        yield f"stays: {about}: {one.kept_because}" if one.kept_because else f"goes:  {about}"


def _rows(found: list[Listed]) -> list[tuple[str, ...]]:
    from migrator.reports import wording

    return [
        (
            one.manifest.id,
            one.manifest.environment,
            one.manifest.database,
            one.manifest.created_at.astimezone().strftime("%Y-%m-%d %H:%M"),
            one.manifest.kind,
            wording.size(one.manifest.size_bytes) if one.manifest.files else one.manifest.copy_name or "",
        )
        for one in found
        if one.manifest is not None
    ]


def _summary(one: Listed) -> dict[str, object]:
    if one.manifest is None:
        return {"backup_id": one.id, "problem": one.problem}
    return {
        "backup_id": one.id,
        "problem": None,
        "environment": one.manifest.environment,
        "database": one.manifest.database,
        "kind": one.manifest.kind,
        "created_at": one.manifest.created_at.isoformat(),
        "size_bytes": one.manifest.size_bytes,
        "run_id": one.manifest.run_id,
        "copy_name": one.manifest.copy_name,
        "signed": one.manifest.signature is not None,
    }


def _story(found: Manifest, store: Store) -> Iterator[str]:
    from migrator.reports import wording

    rows = sum(table.rows for table in found.tables.values())
    yield f"backup {found.id} ({found.kind}), made {found.created_at:%Y-%m-%d %H:%M:%S} UTC by run {found.run_id}"
    yield f"of       {found.environment}: database {found.database} (OID {found.database_oid})"
    yield f"server   PostgreSQL {found.server_version}, system identifier {found.system_identifier}"
    yield f"with     {', '.join(f'{name} {version}' for name, version in sorted(found.tools.items()))}"
    if found.copy_name is not None:
        yield f"copy     {found.copy_name} (OID {found.copy_oid}) on the same server"
    else:
        yield f"files    {len(found.files)}, {wording.size(found.size_bytes)}, in {store.location(found.id)}"
    yield (
        f"holds    {wording.count(len(found.tables), 'table')} with {wording.count(rows, 'row')}, "
        f"{wording.count(len(found.sequences), 'sequence')}, "
        f"{wording.count(len(found.schema_objects), 'schema object')}"
    )
    yield f"needs    roles {', '.join(found.roles) or 'none'}; extensions {', '.join(_extensions(found)) or 'none'}"
    yield f"signed   {'yes' if found.signature is not None else 'no'}"


def _extensions(found: Manifest) -> list[str]:
    return [f"{extension.name} {extension.version}" for extension in found.extensions]
