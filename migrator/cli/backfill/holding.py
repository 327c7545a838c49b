"""`migrator backfill pause`, `finish` and `forget`: no batch begins, no write is caught, nothing is known any more."""

from __future__ import annotations

import getpass
import socket
from typing import Annotated

import typer

from migrator.cli import output
from migrator.cli.backfill import named
from migrator.cli.backfill.named import Name
from migrator.cli.confirm import confirm
from migrator.cli.options import AsJson, AssumeYes, ConfigPath, EnvironmentName, Overrides
from migrator.errors import Refused


def pause(
    name: Name,
    *,
    reason: Annotated[str | None, typer.Option("--reason", help="Why; shown to whoever asks.")] = None,
    config: ConfigPath = None,
    env: EnvironmentName = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Let the batches under way end, and begin no other until `migrator backfill resume`.

    What others write is still caught. Its process waits; it may be ended.

    \b
    migrator backfill pause split-name --env production --reason "sale until Monday"
    """
    from migrator.runs.byhand import backfilling

    _, database = named.opened(config, env, overrides)
    because = f"paused by {_person()}" + (f": {reason.strip()}" if reason and reason.strip() else "")
    entry = backfilling.pause(database, name, because)
    goes_on = f"migrator backfill resume {name} --env {database.environment.name}"
    output.answer(
        {"name": name, "state": entry.state.value, "paused_because": because, "exit_code": 0},
        [f"{name} is {because}; go on with: {goes_on}"],
        as_json=as_json,
    )


def finish(
    name: Name,
    *,
    config: ConfigPath = None,
    env: EnvironmentName = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Verify once more, and remove the trigger that caught what others wrote: from now on the application does.

    A changeset that says `migrator:requires NAME` does the same on its way. Exit code 3: there are violations, and
    nothing was removed.

    \b
    migrator backfill finish split-name --env production
    """
    from migrator.reports import backfills as views
    from migrator.runs.byhand import backfilling

    loaded, database = named.opened(config, env, overrides)
    one = named.defined(loaded, database, name)
    verdict = backfilling.finish(database, one)
    code = Refused.exit_code if verdict.violations else 0
    trigger = "its trigger was left as it was" if code else f"{name}: no trigger of ours is there any more"
    output.answer(
        {"name": name, **views.verdict_json(verdict), "finished": code == 0, "exit_code": code},
        [*views.verdict(name, verdict), trigger],
        as_json=as_json,
    )
    raise typer.Exit(code)


def forget(
    name: Name,
    *,
    config: ConfigPath = None,
    env: EnvironmentName = None,
    overrides: Overrides = None,
    yes: AssumeYes = False,
    as_json: AsJson = False,
) -> None:
    """Let the database forget a backfill that cannot be undone any more: its columns or its table are gone.

    The rows stay as they are, its trigger is removed, and it is pending again. Asks first. What can be taken back is
    taken back by `migrator backfill undo`.

    \b
    migrator backfill forget split-name --env staging
    """
    from migrator.reports import backfills as views
    from migrator.runs.byhand import backfilling

    _, database = named.opened(config, env, overrides)
    found = backfilling.known(database, name).entry
    rows = f"{views.left(found)} moved"
    confirm(f"{name} is {found.state} ({rows}). Leave them as they are, and forget it?", assume_yes=yes)
    backfilling.forget(database, name)
    output.answer(
        {"name": name, "was": found.state.value, "rows": found.rows_done, "exit_code": 0},
        [f"{name} is forgotten ({rows}, and left as they are); it is pending again"],
        as_json=as_json,
    )


def _person() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # no such user on this machine, as in a container
        user = "somebody"
    return f"{user} on {socket.gethostname()}"
