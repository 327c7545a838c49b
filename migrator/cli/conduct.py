"""How a command conducts a run: the story on standard error, the reports, the result on standard output."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import typer

from migrator.cli import job, output
from migrator.errors import Refused

if TYPE_CHECKING:
    from migrator.runs.record import RunRecord
    from migrator.runs.reporter import Reporter
    from migrator.runs.run import Run


def reporter(*, silent: bool) -> Reporter:
    """Who tells the story: the console, or nobody."""
    if silent:
        from migrator.runs.reporter import SilentReporter

        return SilentReporter()
    import os

    from migrator.reports.console import Console

    return Console(environ=os.environ)


def conduct(run: Run, action: Callable[[Run], None], *, as_json: bool) -> NoReturn:
    """The action was carried out, its reports are written and told. Raises: typer.Exit with the run's exit code."""
    story(run, action)
    if as_json:
        output.result(run.record.model_dump_json(indent=2))
    raise typer.Exit(run.record.exit_code or 0)


def story(run: Run, action: Callable[[Run], None]) -> RunRecord:
    """The action was carried out; its reports are written and the reporter told everything. Its record is returned."""
    files: list[Path] = []

    def write(record: RunRecord) -> None:
        from migrator import reports

        if run.plan is not None:
            reports.write_plan(run.plan, run.folder)
        files.extend(reports.write(record, run.folder))

    run.write_reports = write
    run.reporter = _with_listeners(run)
    run.reporter.started(run.record)
    try:
        action(run)
    finally:
        run.reporter.finished(run.record, files)
    return run.record


def _with_listeners(run: Run) -> Reporter:
    """The run's reporter, and before it whoever else is to hear: its log, people, and GitHub inside a job of it."""
    from migrator.reports.log import Logged

    told: Reporter = Logged(run.folder, run.reporter)
    if run.environment.notifications.urls:
        from migrator.reports.notifications import Notified

        told = Notified(told, run.environment.notifications)
    return job.listener(run, told) or told


def confirmer(*, assume_yes: bool) -> Callable[[str], bool]:
    """Asks the person at the terminal; nobody there means no."""

    def ask(question: str) -> bool:
        from migrator.cli.confirm import confirm

        try:
            confirm(question, assume_yes=assume_yes)
        except Refused:
            return False
        return True

    return ask


def parameters(given: Sequence[str] | None) -> dict[str, str]:
    """Changelog parameters from `--param key=value`. Raises: UsageError."""
    from migrator.errors import UsageError

    found: dict[str, str] = {}
    for text in given or ():
        key, sign, value = text.partition("=")
        if not sign or not key.strip():
            raise UsageError(f"--param {text!r} is not KEY=VALUE", hint="write --param region=eu")
        found[key.strip()] = value
    return found
