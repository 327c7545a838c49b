"""`migrator backup swap`: what RDS restored beside the original is given its name, and only when asked for."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from migrator.cli import opening, output
from migrator.cli.confirm import ConfirmedName, confirm_name
from migrator.cli.options import AsJson, BackupId, ConfigPath, EnvironmentName, Overrides
from migrator.errors import Refused

if TYPE_CHECKING:
    from migrator.runs.byhand.beside import Swap


def swap(
    backup_id: BackupId,
    *,
    config: ConfigPath = None,
    env: EnvironmentName = None,
    confirm: ConfirmedName = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Give what `backup restore` restored at RDS the name of the original, which is kept under another one.

    First lists what is bound to the original and would be left behind. Nothing does this by itself. Safe to repeat.

    \b
    migrator backup swap 20261123t175103_4f1c-production-rds --env production
    """
    from migrator.runs import byhand, stores
    from migrator.runs.byhand import beside, restoring

    loaded, named = opening.opened(config, env, overrides=overrides)
    environment = restoring.held_offline(named)
    with closing(byhand.opened(loaded, environment, doing=f"swap {backup_id}")) as run:
        found = stores.of(run).read(backup_id)
        if not beside.is_of_server(found):
            raise Refused(
                f"the backup {backup_id} is a {found.kind}: only what RDS keeps is swapped by name",
                hint=f"migrator backup restore {backup_id} --env {environment.name} restores and swaps it",
            )
        planned = beside.swap_of(run, found, output.note)
        _tell(planned)
        if not planned.is_done:
            confirm_name(environment.name, confirm, replaced=planned.name)
        beside.swap(run, found, planned, output.note)
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
