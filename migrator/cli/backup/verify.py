"""`migrator backup verify`: every byte against the manifest, and a restore that is thrown away."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from migrator.cli import opening, output
from migrator.cli.options import AsJson, BackupId, ConfigPath, EnvironmentName, Overrides
from migrator.errors import BackupFailed, Refused, UsageError

if TYPE_CHECKING:
    from migrator.runs.run import Run


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
    with opening.by_hand(config, env, overrides, doing=f"verify {backup_id}") as run:
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
