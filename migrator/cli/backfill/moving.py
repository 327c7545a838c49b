"""`migrator backfill run`, `resume` and `undo`: what moves rows, or takes them back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from migrator.cli import output
from migrator.cli.backfill import named, progress
from migrator.cli.backfill.named import Name, NamesGiven
from migrator.cli.confirm import confirm_protected
from migrator.cli.options import AsJson, AssumeYes, ConfigPath, EnvironmentName, Overrides
from migrator.errors import Refused

if TYPE_CHECKING:
    from migrator.backfills.definition import Backfill
    from migrator.runs.byhand.backfilling import Database

NobodyWrites = Annotated[
    bool,
    typer.Option("--nobody-writes", help="Nobody else writes to its table meanwhile: nothing has to be caught."),
]

AcceptLoss = Annotated[
    bool,
    typer.Option("--accept-loss", help="Undo also where what it was moved from is gone: no other copy may be left."),
]


def run(
    names: NamesGiven,
    *,
    config: ConfigPath = None,
    env: EnvironmentName = None,
    nobody_writes: NobodyWrites = False,
    overrides: Overrides = None,
    yes: AssumeYes = False,
    as_json: AsJson = False,
) -> None:
    """Move the rows in batches, each a transaction of its own, and prove the end state. Carries on where it was left.

    The changeset that it follows has run. What others write meanwhile is caught as the file's `capture` says. Killed
    anywhere, `migrator backfill resume` goes on; a signal ends it when its batches are done (exit code 130).
    Exit code 0: moved and verified, 3: refused, or `verify` finds violations, 4: somebody else is at work on it.

    \b
    migrator backfill run split-name --env production
    migrator backfill run split-name move-events --env staging --json
    """
    loaded, database = named.opened(config, env, overrides)
    chosen = named.chosen(loaded, names)
    confirm_protected(database.environment, f"Move rows ({', '.join(names)})?", assume_yes=yes)
    _move(database, chosen, nobody_writes=nobody_writes, as_json=as_json)


def resume(
    name: Name,
    *,
    config: ConfigPath = None,
    env: EnvironmentName = None,
    nobody_writes: NobodyWrites = False,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Go on with a backfill that was paused, or whose process is gone.

    Where its process still waits for this, that one goes on, and the command ends at once. Exit codes as of run.

    \b
    migrator backfill resume split-name --env production
    """
    from migrator.runs.byhand import backfilling

    loaded, database = named.opened(config, env, overrides)
    one = named.defined(loaded, database, name)
    at_work = backfilling.go_on(database, name)
    if at_work is None:
        _move(database, [one], nobody_writes=nobody_writes, as_json=as_json)
    output.answer(
        {"name": name, "at_work": at_work.application_name, "pid": at_work.pid, "exit_code": 0},
        [f"{name} goes on: {at_work.application_name}, pid {at_work.pid}, is at work on it"],
        as_json=as_json,
    )


def undo(
    name: Name,
    *,
    config: ConfigPath = None,
    env: EnvironmentName = None,
    accept_loss: AcceptLoss = False,
    overrides: Overrides = None,
    yes: AssumeYes = False,
    as_json: AsJson = False,
) -> None:
    """Take back what was moved, in batches, by the file's `undo`; its trigger is removed. May be repeated.

    Refused where what it was moved from is gone, or differs now: what was moved may be the only copy then.

    \b
    migrator backfill undo split-name --env staging
    """
    from migrator.reports import backfills as views
    from migrator.runs.byhand import backfilling

    loaded, database = named.opened(config, env, overrides)
    one = named.defined(loaded, database, name)
    confirm_protected(database.environment, f"Undo {name}?", assume_yes=yes)
    with progress.stoppable(f"migrator backfill undo {name} --env {database.environment.name}") as check:
        undone = backfilling.undo(
            database, one, on_progress=progress.teller(silent=as_json), check=check, accept_loss=accept_loss
        )
    output.answer(
        {"name": name, **views.undone_json(undone), "exit_code": 0},
        views.undone(name, undone),
        as_json=as_json,
    )


def _move(database: Database, chosen: Sequence[Backfill], *, nobody_writes: bool, as_json: bool) -> NoReturn:
    """Each was moved and verified, and is told. Raises: typer.Exit with 0, 3 or 130."""
    from migrator.reports import backfills as views
    from migrator.runs.byhand import backfilling

    code, shown = 0, []
    for one in chosen:
        with progress.stoppable(f"migrator backfill resume {one.name} --env {database.environment.name}") as check:
            done = backfilling.run(
                database, one, on_progress=progress.teller(silent=as_json), check=check, nobody_writes=nobody_writes
            )
        code = Refused.exit_code if done.verdict.violations else code
        shown.append(views.done_json(done))
        if not as_json:
            output.lines(views.done(done, env=database.environment.name))
    if as_json:
        output.json_result({"environment": database.environment.name, "backfills": shown, "exit_code": code})
    raise typer.Exit(code)
