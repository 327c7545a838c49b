"""`migrator backfill`: data migrations by hand, while the application is at work."""

from __future__ import annotations

import getpass
import shutil
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from migrator.cli import opening, output
from migrator.cli.options import AsJson, AssumeYes, ConfigPath, EnvironmentName, Overrides
from migrator.errors import Interrupted, Refused

if TYPE_CHECKING:
    from migrator.backfills.definition import Backfill
    from migrator.backfills.mover import Progress
    from migrator.config.configuration import Config
    from migrator.runs.byhand.backfilling import Database

_STOPPED = 130
_EVERY_S = 10.0  # a line of progress where no terminal redraws it

app = typer.Typer(help="Move data in batches, while others work.", no_args_is_help=True, rich_markup_mode=None)


def backfill_names(context: typer.Context, incomplete: str) -> list[str]:
    """The backfills below the current folder, for the shell's completion."""
    from migrator.runs.byhand import backfill_files

    given = context.params.get("config")
    root = Path(given).parent if given else Path()
    return [name for name in backfill_files.names(root) if name.startswith(incomplete)]


Name = Annotated[
    str,
    typer.Argument(metavar="NAME", help="The backfill.", show_default=False, autocompletion=backfill_names),
]
Names = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[NAME]", help="The backfills. Default: all.", show_default=False, autocompletion=backfill_names
    ),
]
NobodyWrites = Annotated[
    bool,
    typer.Option("--nobody-writes", help="Nobody else writes to its table meanwhile: nothing has to be caught."),
]


@app.command()
def plan(
    names: Names = None,
    *,
    config: ConfigPath = None,
    env: EnvironmentName = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Show what backfills would do, and what is in their way. Only reads. Exit code 3: something is in the way.

    \b
    migrator backfill plan --env production
    migrator backfill plan split-name --env production --json
    """
    from migrator.reports import backfills as views
    from migrator.runs.byhand import backfilling

    loaded, database = _opened(config, env, overrides)
    found = [backfilling.plan(database, one) for one in _chosen(loaded, names or [])]
    code = Refused.exit_code if any(one.is_in_the_way for one in found) else 0
    if as_json:
        output.json_result(
            {
                "environment": database.environment.name,
                "backfills": [views.plan_json(one) for one in found],
                "exit_code": code,
            }
        )
    else:
        for one in found:
            for line in views.plan(one, env=database.environment.name):
                output.result(line)
        if not found:
            output.result(f"there is no backfill below {loaded.liquibase.root}")
    raise typer.Exit(code)


@app.command()
def run(
    names: Annotated[
        list[str],
        typer.Argument(metavar="NAME", help="The backfills.", show_default=False, autocompletion=backfill_names),
    ],
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
    from migrator.cli.confirm import confirm

    loaded, database = _opened(config, env, overrides)
    chosen = _chosen(loaded, names)
    if database.environment.protected:
        confirm(f"{database.environment.name} is protected. Move rows ({', '.join(names)})?", assume_yes=yes)
    _move(database, chosen, nobody_writes=nobody_writes, as_json=as_json)


@app.command()
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

    loaded, database = _opened(config, env, overrides)
    one = _defined(loaded, database, name)
    at_work = backfilling.go_on(database, name)
    if at_work is None:
        _move(database, [one], nobody_writes=nobody_writes, as_json=as_json)
    if as_json:
        output.json_result({"name": name, "at_work": at_work.application_name, "pid": at_work.pid, "exit_code": 0})
    else:
        output.result(f"{name} goes on: {at_work.application_name}, pid {at_work.pid}, is at work on it")


@app.command()
def status(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME]", help="Only this one.", show_default=False, autocompletion=backfill_names),
    ] = None,
    *,
    config: ConfigPath = None,
    env: EnvironmentName = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Say how far each backfill of the database is, whether writes are caught, and what to type next. Only reads.

    \b
    migrator backfill status --env production
    """
    from migrator.reports import backfills as views
    from migrator.runs.byhand import backfilling

    _, database = _opened(config, env, overrides)
    found = backfilling.standing(database) if name is None else [backfilling.known(database, name)]
    environment = database.environment.name
    if as_json:
        shown = [views.status_json(one, env=environment) for one in found]
        output.json_result({"environment": environment, "backfills": shown})
        return
    for line in views.status(found, env=environment):
        output.result(line)


@app.command()
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

    _, database = _opened(config, env, overrides)
    because = f"paused by {_person()}" + (f": {reason.strip()}" if reason and reason.strip() else "")
    entry = backfilling.pause(database, name, because)
    if as_json:
        output.json_result({"name": name, "state": entry.state.value, "paused_because": because, "exit_code": 0})
    else:
        output.result(f"{name} is {because}; go on with: migrator backfill resume {name} --env {_env(database)}")


@app.command()
def verify(
    names: Annotated[
        list[str],
        typer.Argument(metavar="NAME", help="The backfills.", show_default=False, autocompletion=backfill_names),
    ],
    *,
    config: ConfigPath = None,
    env: EnvironmentName = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Ask in the database, over all rows, whether the end state is right. Exit code 3: it is not.

    \b
    migrator backfill verify split-name --env production
    """
    from migrator.reports import backfills as views
    from migrator.runs.byhand import backfilling

    loaded, database = _opened(config, env, overrides)
    found = [(one, backfilling.verify(database, one)) for one in _chosen(loaded, names)]
    code = Refused.exit_code if any(verdict.violations for _, verdict in found) else 0
    if as_json:
        shown = [{"name": one.name, **views.verdict_json(verdict)} for one, verdict in found]
        output.json_result({"environment": _env(database), "backfills": shown, "exit_code": code})
    else:
        for one, verdict in found:
            for line in views.verdict(one.name, verdict):
                output.result(line)
    raise typer.Exit(code)


@app.command()
def undo(
    name: Name,
    *,
    config: ConfigPath = None,
    env: EnvironmentName = None,
    overrides: Overrides = None,
    yes: AssumeYes = False,
    as_json: AsJson = False,
) -> None:
    """Take back what was moved, in batches, by the file's `undo`; its trigger is removed. May be repeated.

    \b
    migrator backfill undo split-name --env staging
    """
    from migrator.cli.confirm import confirm
    from migrator.reports import backfills as views
    from migrator.runs.byhand import backfilling

    loaded, database = _opened(config, env, overrides)
    one = _defined(loaded, database, name)
    if database.environment.protected:
        confirm(f"{_env(database)} is protected. Undo {name}?", assume_yes=yes)
    with _stoppable(f"migrator backfill undo {name} --env {_env(database)}") as check:
        undone = backfilling.undo(database, one, on_progress=_teller(silent=as_json), check=check)
    if as_json:
        output.json_result({"name": name, "undone": undone and views.moved_json(undone), "exit_code": 0})
    else:
        lines = [f"{name}: its trigger is gone; no row had been moved"] if undone is None else views.undone(undone)
        for line in lines:
            output.result(line)


@app.command()
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

    loaded, database = _opened(config, env, overrides)
    one = _defined(loaded, database, name)
    verdict = backfilling.finish(database, one)
    code = Refused.exit_code if verdict.violations else 0
    if as_json:
        output.json_result({"name": name, **views.verdict_json(verdict), "finished": code == 0, "exit_code": code})
    else:
        for line in views.verdict(name, verdict):
            output.result(line)
        output.result("its trigger was left as it was" if code else f"{name}: no trigger of ours is there any more")
    raise typer.Exit(code)


def _opened(config: Path | None, env: str | None, overrides: Sequence[str] | None) -> tuple[Config, Database]:
    from migrator.runs.byhand import backfilling

    loaded = opening.configuration(config, overrides=overrides, required=False)
    return loaded, backfilling.opened(loaded, opening.environment(loaded, env))


def _chosen(config: Config, names: Sequence[str]) -> list[Backfill]:
    from migrator.runs.byhand import backfill_files

    return backfill_files.chosen(config.liquibase.root, names)


def _defined(config: Config, database: Database, name: str) -> Backfill:
    """The backfill as its file has it; as the database keeps it where there is no such file."""
    from migrator.runs.byhand import backfilling

    try:
        return _chosen(config, [name])[0]
    except Refused as error:
        if error.code != "no_backfill":
            raise
        return backfilling.known(database, name).entry.backfill()


def _env(database: Database) -> str:
    return database.environment.name


def _person() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # no such user on this machine, as in a container
        user = "somebody"
    return f"{user} on {socket.gethostname()}"


def _move(database: Database, chosen: Sequence[Backfill], *, nobody_writes: bool, as_json: bool) -> NoReturn:
    """Each was moved and verified, and is told. Raises: typer.Exit with 0, 3 or 130."""
    from migrator.reports import backfills as views
    from migrator.runs.byhand import backfilling

    code, shown = 0, []
    for one in chosen:
        with _stoppable(f"migrator backfill resume {one.name} --env {_env(database)}") as check:
            done = backfilling.run(
                database, one, on_progress=_teller(silent=as_json), check=check, nobody_writes=nobody_writes
            )
        code = Refused.exit_code if done.verdict.violations else code
        shown.append(views.done_json(done))
        if not as_json:
            for line in views.done(done, env=_env(database)):
                output.result(line)
    if as_json:
        output.json_result({"environment": _env(database), "backfills": shown, "exit_code": code})
    raise typer.Exit(code)


@contextmanager
def _stoppable(carry_on: str) -> Iterator[Callable[[], None]]:
    """A signal is heard when the batches under way are done, by the function that the block is given.

    Raises: typer.Exit with 130 then.
    """
    from migrator.runs.signals import Heard

    heard = Heard()
    try:
        with heard.installed():
            yield heard.check
    except Interrupted as error:
        output.note(f"{error.message}: stopped after its batches; go on with: {carry_on}")
        raise typer.Exit(_STOPPED) from error


def _teller(*, silent: bool) -> Callable[[Progress], None]:
    """Progress on standard error: one line that is redrawn on a terminal, else a line every now and then."""
    if silent:
        return lambda _: None
    return _Teller(redraws=sys.stderr.isatty()).tell


class _Teller:
    def __init__(self, *, redraws: bool) -> None:
        self._redraws = redraws
        self._told_at = time.monotonic()
        self._waiting: str | None = None
        self._width = 0

    def tell(self, found: Progress) -> None:
        from migrator.reports import backfills as views

        text = views.progress(found)
        is_last = found.total is not None and found.rows >= found.total
        if self._redraws:
            text = text[: shutil.get_terminal_size().columns - 1]
            sys.stderr.write(f"\r{text.ljust(self._width)}" + ("\n" if is_last else ""))
            sys.stderr.flush()
            self._width = 0 if is_last else len(text)
            return
        now = time.monotonic()
        if is_last or now - self._told_at >= _EVERY_S or found.waiting_for != self._waiting:
            output.note(text)
            self._told_at, self._waiting = now, found.waiting_for
