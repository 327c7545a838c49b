"""`migrator history` and `migrator show`: the runs that the journal knows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from migrator.cli import opening, output
from migrator.cli.options import AsJson, ConfigPath, EnvironmentName
from migrator.errors import Refused

if TYPE_CHECKING:
    from migrator.runs.journal import Journal
    from migrator.runs.journal_entries import StoredRun

_LISTED = 10
_ELSEWHERE = "where there were runs, go to the folder of their migrator.toml, or give --config PATH"


def history(
    *,
    config: ConfigPath = None,
    env: EnvironmentName = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="How many runs.")] = 20,
    html: Annotated[
        Path | None,
        typer.Option("--html", metavar="FILE", help="Write one page over these runs, with plots.", dir_okay=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the latest runs, newest first.

    \b
    migrator history --env staging
    migrator history -n 3 --json
    migrator history -n 500 --html history.html
    """
    with _journal(config) as journal:
        runs = journal.history(env, limit)
    if html is not None:
        from migrator.reports import overview
        from migrator.reports.wording import count

        written = overview.write([run.record for run in runs], html.absolute(), now=datetime.now(UTC))
        output.note(f"{count(len(runs), 'run')} in {written}")
    if as_json:
        output.json_result([_summary(run) for run in runs])
    elif runs and html is None:
        head = ("run", "environment", "started", "outcome", "took", "changelog")
        output.result(output.table(head, [_row(run) for run in runs]))
    elif not runs:
        of = "" if env is None else f" of environment {env}"
        output.note(f"no run yet{of} in the journal ({journal.where}); {_ELSEWHERE}")


def show(
    *,
    run: Annotated[str | None, typer.Argument(metavar="RUN", help="Default: the latest.", show_default=False)] = None,
    config: ConfigPath = None,
    as_json: AsJson = False,
) -> None:
    """Tell the story of one run.

    \b
    migrator show
    migrator show 20261123t175103_4f1c --json
    """
    from migrator.reports import markdown

    with _journal(config) as journal:
        stored = _found(journal, run)
    if as_json:
        output.json_result(stored.record.model_dump(mode="json"))
    else:
        output.result(markdown.render(stored.record).replace(markdown.BREAK, ""))  # nobody renders it here


def _found(journal: Journal, run_id: str | None) -> StoredRun:
    latest = journal.history(None, _LISTED)
    if run_id is None:
        if not latest:
            raise Refused(
                f"the journal ({journal.where}) knows of no run yet",
                hint=_ELSEWHERE,
                code="no_such_run",
            )
        run_id = latest[0].record.run_id
    try:
        return journal.get(run_id)
    except Refused as error:
        if error.code != "no_such_run" or not latest:
            raise
        known = ", ".join(one.record.run_id for one in latest)
        raise Refused(error.message, hint=f"the latest runs are: {known}", code=error.code) from error


@contextmanager
def _journal(config: Path | None) -> Iterator[Journal]:
    from migrator.runs.journal import Journal

    loaded = opening.configuration(config, required=False)
    with closing(Journal.open(loaded.journal.url, loaded.base, read_only=True)) as journal:
        yield journal


def _state(run: StoredRun) -> str:
    if run.record.outcome is not None:  # a run that is open may have one too: halted, unfinished, interrupted
        return run.record.outcome.value
    return "running" if run.alive else "left behind"


def _of_what(run: StoredRun) -> str:
    back = run.record.direction == "rollback" and not run.record.changelog.startswith("--")
    return f"rollback of {run.record.changelog}" if back else run.record.changelog


def _row(run: StoredRun) -> tuple[str, ...]:
    from migrator.reports import wording

    record = run.record
    took = "" if record.ended_at is None else wording.duration((record.ended_at - record.started_at).total_seconds())
    started = record.started_at.astimezone().strftime("%Y-%m-%d %H:%M")
    texts = (record.run_id, record.environment, started, _state(run), took, _of_what(run))
    return tuple(wording.one_line(text) for text in texts)


def _summary(run: StoredRun) -> dict[str, object]:
    record = run.record
    return {
        "run_id": record.run_id,
        "environment": record.environment,
        "changelog": record.changelog,
        "direction": record.direction.value,
        "database": record.database,
        "started_at": record.started_at.isoformat(),
        "ended_at": record.ended_at.isoformat() if record.ended_at else None,
        "state": _state(run),
        "outcome": record.outcome.value if record.outcome else None,
        "exit_code": record.exit_code,
        "next_command": record.next_command,
    }
