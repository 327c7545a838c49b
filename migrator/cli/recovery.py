"""`migrator resume` and `migrator recover`: a run that was left behind is ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from migrator.cli import conduct, opening, output
from migrator.cli.maintenance import lift_expired
from migrator.cli.options import AsJson, AssumeYes, ConfigPath, EnvironmentName, Overrides
from migrator.errors import Refused

if TYPE_CHECKING:
    from migrator.runs.run import Run

Force = Annotated[bool, typer.Option("--force", help="Take the run over though its process may still live.")]


def resume(
    run: Annotated[str, typer.Argument(metavar="RUN", help="The run's id; see migrator status.", show_default=False)],
    *,
    config: ConfigPath = None,
    back: Annotated[bool, typer.Option("--back", help="Go back, even where carrying on would be safe.")] = False,
    force: Force = False,
    yes: AssumeYes = False,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """End a run that was left behind: carry on where that is safe, else go back. Works from any machine.

    \b
    migrator resume 20261123t175103_4f1c
    migrator resume 20261123t175103_4f1c --back
    """
    from migrator.runs.journal import Journal
    from migrator.runs.opening import stored
    from migrator.runs.run import Options

    loaded = opening.configuration(config, overrides=overrides, required=False)
    journal = Journal.open(loaded.journal.url, loaded.base)
    found = journal.get(run)
    if found.closed:
        raise Refused(
            f"Run {run} has ended: {found.record.outcome}.",
            hint=f"`migrator show {run}` tells its story.",
            code="ended",
        )
    opened = stored(
        loaded,
        loaded.environment(found.record.environment),
        found,
        Options(changelog=found.record.changelog, confirm=conduct.confirmer(assume_yes=yes)),
        journal=journal,
        reporter=conduct.reporter(silent=as_json),
    )
    _end(opened, back=back, force=force, as_json=as_json)


def recover(
    *,
    config: ConfigPath = None,
    env: EnvironmentName = None,
    expired: Annotated[
        bool, typer.Option("--expired", help="Only past a run's lease or a person's --until: for a schedule.")
    ] = False,
    force: Force = False,
    yes: AssumeYes = False,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Bring back a database whose run was left behind, found by the journal or by the fence alone.

    \b
    migrator recover --env production
    migrator recover --env production --expired     (every minute, from a schedule)
    """
    from migrator.runs import reconstruction
    from migrator.runs.journal import Journal
    from migrator.runs.opening import login_of, stored
    from migrator.runs.run import MANUAL, Options

    loaded, environment = opening.opened(config, env, overrides=overrides)
    journal = Journal.open(loaded.journal.url, loaded.base)
    options = Options(changelog="", confirm=conduct.confirmer(assume_yes=yes))
    reporter = conduct.reporter(silent=as_json)
    database = login_of(loaded, environment).database
    for left in journal.open_runs():
        if (left.environment, left.target.partition("/")[2]) != (environment.name, database):
            continue
        if expired and left.alive:
            output.note(f"run {left.run_id} is at work; nothing to recover")
            return
        opened = stored(loaded, environment, journal.get(left.run_id), options, journal=journal, reporter=reporter)
        _end(opened, back=True, force=force, as_json=as_json)
    known = reconstruction.from_fence(loaded, environment, options, journal=journal, reporter=reporter)
    if known is None and expired and lift_expired(loaded, environment):
        if as_json:
            output.json_result({"run_id": MANUAL, "outcome": "lifted", "exit_code": 0})
        else:
            output.result(f"{environment.name}: maintenance by hand was past its time, and is off")
        return
    if known is None:
        if as_json:
            output.json_result({"run_id": None, "outcome": None, "exit_code": 0})
        else:
            output.result(f"nothing to recover in environment {environment.name}")
        return
    _end(known, back=True, force=force, as_json=as_json)


def _end(run: Run, *, back: bool, force: bool, as_json: bool) -> None:
    from migrator.runs import resume as resuming

    if not as_json:
        last = run.record.steps[-1].name if run.record.steps else "nothing"
        output.note(f"found: run {run.id} of {run.record.environment}, left behind in step {last}")
        output.note(f"will do: {resuming.what_it_will_do(run, back=back)}")
    conduct.conduct(run, lambda opened: resuming.resume(opened, back=back, force=force), as_json=as_json)
