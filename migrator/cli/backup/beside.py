"""`migrator backup restore` of what RDS keeps: as another server, which is left beside the original."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from migrator.cli import output
from migrator.errors import Refused

if TYPE_CHECKING:
    from migrator.backups.manifest import Manifest
    from migrator.runs.run import Run

_SHOWN = 10


def restore(run: Run, found: Manifest, *, as_json: bool) -> None:
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


def _list(head: str, lines: tuple[str, ...]) -> None:
    if not lines:
        return
    output.result(f"{head}:")
    for line in lines[:_SHOWN]:
        output.result(f"  {line}")
    if lines[_SHOWN:]:
        output.result(f"  and {len(lines) - _SHOWN} more")
