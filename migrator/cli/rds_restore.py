"""`migrator backup restore` and `swap` of what RDS keeps: beside the server first, the name only when asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from migrator.cli import opening, output
from migrator.cli.options import AsJson, ConfigPath, EnvironmentName, Overrides
from migrator.errors import Refused

if TYPE_CHECKING:
    from migrator.backups.manifest import Manifest
    from migrator.runs.byhand.beside import Swap
    from migrator.runs.run import Run

_SHOWN = 10


def restore_beside(run: Run, found: Manifest, *, as_json: bool) -> None:
    """The backup is restored as another server, compared, and left there. Exit code 3 where it differs."""
    from migrator.runs.byhand import beside

    output.note(f"restoring {found.id} beside {found.facts['id']}; that is not touched, and nobody is held off")
    made = beside.restore(run, found, output.note)
    next_command = f"migrator backup swap {found.id} --env {run.environment.name}"
    if as_json:
        output.json_result(
            {
                "backup_id": found.id,
                "restored_as": made.id,
                "host": made.address.host,
                "port": made.address.port,
                "is_what_was_backed_up": not made.differences,
                "differences": list(made.differences),
                "settings_that_differ": list(made.settings),
                "not_compared": list(made.not_compared),
                "other_databases": list(made.others),
                "next_command": None if made.differences else next_command,
            }
        )
    else:
        output.result(f"restored as {made.id}, at {made.address.host}:{made.address.port}")
        _list("it differs from what was backed up", made.differences)
        if not made.differences:
            output.result("schema and rows are what was backed up, by fingerprints")
        _list("not compared", made.not_compared)
        _list("settings that differ from the original's", made.settings)
        _list("these databases came back with it", made.others)
        if not made.differences:
            output.result(f"to give it the name {found.facts['id']}: {next_command}")
    if made.differences:
        raise typer.Exit(Refused.exit_code)


def swap(
    backup_id: Annotated[
        str, typer.Argument(metavar="ID", help="The backup's id; see migrator backup list.", show_default=False)
    ],
    *,
    config: ConfigPath = None,
    env: EnvironmentName = None,
    confirm: Annotated[
        str | None,
        typer.Option("--confirm", metavar="NAME", help="The environment's name, where nobody can be asked for it."),
    ] = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Give what `backup restore` restored at RDS the name of the original, which is kept under another one.

    First lists what is bound to the original and would be left behind. Nothing does this by itself. Safe to repeat.

    \b
    migrator backup swap 20261123t175103_4f1c-production-rds --env production
    """
    from migrator.cli.backup_restore import ask
    from migrator.runs import byhand, stores
    from migrator.runs.byhand import beside, restoring

    loaded = opening.configuration(config, overrides=overrides, required=False)
    environment = restoring.held_offline(opening.environment(loaded, env))
    run = byhand.opened(loaded, environment, doing=f"swap {backup_id}")
    try:
        found = stores.of(run).read(backup_id)
        if not beside.is_of_server(found):
            raise Refused(
                f"the backup {backup_id} is a {found.kind}: only what RDS keeps is swapped by name",
                hint=f"migrator backup restore {backup_id} --env {environment.name} restores and swaps it",
            )
        planned = beside.swap_of(run, found, output.note)
        _tell(planned)
        if not planned.is_done:
            ask(environment.name, confirm, planned.name)
        beside.swap(run, found, planned, output.note)
    finally:
        run.close()
    if as_json:
        output.json_result(
            {
                "backup_id": backup_id,
                "name": planned.name,
                "kept_as": planned.kept_as,
                "left_behind": [{"what": one.what, "name": one.name, "then": one.then} for one in planned.left_behind],
            }
        )
        return
    output.result(f"{planned.name} is the restored one; the other is kept as {planned.kept_as}")
    output.result("look at it, then let users in: migrator maintenance off --env " + f"{environment.name} --force")


def _tell(planned: Swap) -> None:
    if planned.is_done:
        output.note(f"{planned.name} is the restored one already")
        return
    output.note(f"{planned.name} will be called {planned.kept_as}")
    output.note(f"{planned.restored} will be called {planned.name}")
    output.note("what stays with the old one:")
    for one in planned.left_behind:
        output.note(f"  {one}")


def _list(head: str, lines: tuple[str, ...]) -> None:
    if not lines:
        return
    output.result(f"{head}:")
    for line in lines[:_SHOWN]:
        output.result(f"  {line}")
    if lines[_SHOWN:]:
        output.result(f"  and {len(lines) - _SHOWN} more")
