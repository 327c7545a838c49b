"""The job of GitHub Actions around a command, where there is one: what its log must not show, and what it is told."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from migrator.errors import MigratorError

if TYPE_CHECKING:
    from migrator.config.login import Secret
    from migrator.plans.plan import Plan
    from migrator.rehearsals.dry_run_record import DryRunRecord
    from migrator.rehearsals.record import RehearsalRecord
    from migrator.reports.github import GitHub, Told
    from migrator.runs.reporter import Reporter
    from migrator.runs.run import Run

_SHORTEST = 4  # characters of a secret: a mask for less would make the log unreadable


def hide(run: Run) -> None:
    """The job's log shows no secret of the run's configuration from here on."""
    from migrator.reports import github

    if github.is_here(os.environ):
        github.hide(secrets(run))


def listener(run: Run, then: Reporter) -> GitHub | None:
    """A reporter that tells the job everything, around the next one; None where there is no job."""
    from migrator.reports import github

    if not github.is_here(os.environ):
        return None
    return github.GitHub(then, os.environ, secrets=secrets(run), prefix=prefix(run.config.liquibase.root))


def enter(run: Run) -> None:
    """As `hide`, and each part of a rehearsal or a dry run is a group of the job's log."""
    hide(run)
    run.reporter = listener(run, run.reporter) or run.reporter


def tell_plan(run: Run, plan: Plan, against: int) -> None:
    """The job has the plan, of which `against` findings forbid it to be run."""
    from migrator.reports import github

    _tell(run, lambda: github.of_plan(plan, against))


def tell_trial(run: Run, record: RehearsalRecord | DryRunRecord, summary: str, files: Sequence[Path]) -> None:
    """The job has what a rehearsal or a dry run has found."""
    from migrator.reports import github

    _tell(run, lambda: github.of_trial(record, summary, files))


def _tell(run: Run, told: Callable[[], Told]) -> None:
    from migrator.reports import github

    if github.is_here(os.environ):
        github.tell(told(), os.environ, prefix=prefix(run.config.liquibase.root))


def prefix(root: Path) -> str:
    """What stands before a changelog's path in the job's repository, or in the current folder: `db/`, or nothing."""
    base = os.environ.get("GITHUB_WORKSPACE") or Path.cwd()
    relative = os.path.relpath(root.resolve(), Path(base).resolve())
    return "" if relative == "." or relative.startswith("..") else f"{Path(relative).as_posix()}/"


def secrets(run: Run) -> list[str]:
    """Every spelling of what the configuration holds and nobody may see; what cannot be had is left out."""
    from migrator.config.login import Secret
    from migrator.processes.redaction import spellings

    texts = [*_passwords(run), *run.environment.notifications.urls, *_parameters(run)]
    return [one for one in spellings(map(Secret, texts)) if len(one) >= _SHORTEST]


def _passwords(run: Run) -> Iterator[str]:
    # Each is read when it is asked for: from a variable that may not be set, or from AWS, which may not answer.
    for source in (run.login.secret, lambda: _of_journal(run), lambda: run.config.signing.key):
        with suppress(MigratorError):
            found = source()
            if found is not None:
                yield found.reveal()


def _of_journal(run: Run) -> Secret | None:
    from urllib.parse import unquote, urlsplit

    from migrator.config.login import Secret

    found = run.config.journal.url
    if isinstance(found, str):  # a file
        return None
    if isinstance(found, Secret):
        password = urlsplit(found.reveal()).password
        return None if password is None else Secret(unquote(password))
    return found.login.secret()


def _parameters(run: Run) -> Iterator[str]:
    """The changelog parameters that came from references."""
    for name, value in run.environment.parameters.items():
        if f"parameters.{name}" in run.environment.references:
            yield str(value)
