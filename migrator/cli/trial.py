"""What a dry run and a rehearsal share as commands: a run that stands in no journal, and how its record is told."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, Protocol, TypeVar

import typer

from migrator.cli import conduct, job, output

if TYPE_CHECKING:
    from migrator.config.configuration import Config
    from migrator.config.models import Environment
    from migrator.rehearsals.dry_run_record import DryRunRecord
    from migrator.rehearsals.record import RehearsalRecord
    from migrator.runs.run import Run

Tried_contra = TypeVar("Tried_contra", "DryRunRecord", "RehearsalRecord", contravariant=True)


class Report(Protocol[Tried_contra]):
    """The record for people and for programs."""

    def write(self, record: Tried_contra, folder: Path) -> list[Path]: ...
    def as_text(self, record: Tried_contra) -> str: ...
    def as_markdown(self, record: Tried_contra) -> str: ...


def opened(
    config: Config, environment: Environment, changelog: str, *, param: Sequence[str] | None, as_json: bool
) -> Run:
    """A run of the changelog that will be tried; the job around it, if there is one, is told and sees no secret."""
    from migrator.runs.opening import new
    from migrator.runs.run import Options

    run = new(
        config,
        environment,
        Options(changelog=changelog, rehearsal=True),
        reporter=conduct.reporter(silent=as_json),
        parameters=conduct.parameters(param),
    )
    job.enter(run)
    return run


def tell(run: Run, record: Tried_contra, report: Report[Tried_contra], *, as_json: bool) -> NoReturn:
    """The record is written and told. Raises: typer.Exit with its exit code."""
    files = report.write(record, run.folder)
    if as_json:
        output.result(record.model_dump_json(indent=2))
    else:
        output.result(report.as_text(record))
        for path in files:
            output.note(f"report: {path}")
    job.tell_trial(run, record, report.as_markdown(record), files)
    raise typer.Exit(record.exit_code)
