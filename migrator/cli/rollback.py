"""`migrator rollback`: changesets that ran are undone, guarded as a run is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from migrator.cli import conduct, opening, output
from migrator.cli.options import AsJson, AssumeYes, ConfigPath, EnvironmentName, Overrides, Parameters, Window
from migrator.errors import UsageError

if TYPE_CHECKING:
    from migrator.config.configuration import Config
    from migrator.config.models import Environment
    from migrator.runs.facts import Undo
    from migrator.runs.journal_entries import StoredRun
    from migrator.runs.run import Run


def rollback(
    run: Annotated[
        str | None, typer.Argument(metavar="RUN", help="Undo this run; see migrator history.", show_default=False)
    ] = None,
    *,
    to_tag: Annotated[
        str | None, typer.Option("--to-tag", metavar="TAG", help="Undo all that ran after the row with this tag.")
    ] = None,
    count: Annotated[
        int | None, typer.Option("--count", metavar="N", min=1, help="Undo the changesets that ran last.")
    ] = None,
    changelog: Annotated[
        list[str] | None,
        typer.Option(
            "--changelog",
            metavar="PATH",
            help="The changelog that holds them. Default: what journal and ledger name. Repeatable.",
        ),
    ] = None,
    config: ConfigPath = None,
    env: EnvironmentName = None,
    by_changesets: Annotated[
        bool, typer.Option("--by-changesets", help="Undo a blue/green run by its changesets, not by swapping back.")
    ] = False,
    accept_loss: Annotated[
        bool, typer.Option("--accept-loss", help="Swap a blue/green run back though users have written since.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the SQL and touch nothing.")] = False,
    param: Parameters = None,
    overrides: Overrides = None,
    window: Window = None,
    accept_no_way_back: Annotated[
        bool, typer.Option("--accept-no-way-back", help="Go on though a failure could not be taken back by itself.")
    ] = False,
    yes: AssumeYes = False,
    as_json: AsJson = False,
) -> None:
    """Undo a run, all after a tag, or the last changesets: hold users off, back up, undo, verify; or leave it be.

    Rows that were written since into what the changesets made are lost, save in the backup that is taken first.
    A blue/green run is undone by giving the database that it kept its name again, if nobody has written since.
    The exit code tells the state of the database, as that of migrator run does: 0 undone and verified, 3 refused,
    6 and 7 failed and as it was before the rollback.

    \b
    migrator rollback 20261123t175103_4f1c --env staging --dry-run
    migrator rollback 20261123t175103_4f1c --env staging
    migrator rollback --count 2 --env staging
    migrator rollback --to-tag v2026.02 --env production --yes
    """
    from migrator.cli.confirm import confirm_protected
    from migrator.runs import engine, swap_back
    from migrator.runs.opening import new
    from migrator.runs.run import Options

    loaded = opening.configuration(config, overrides=overrides, window=window, required=False)
    undo = _wanted(loaded, run, to_tag, count, changelog or [])
    parameters = conduct.parameters(param)
    kept: str | None = None  # the run, if it swapped a copy in and kept the original
    if undo.run_id is not None:
        found = _to_be_undone(loaded, undo.run_id)
        kept = undo.run_id if swap_back.can_be(found) else None
        env, parameters = env or found.record.environment, {**_parameters_of(found), **parameters}
    environment = opening.environment(loaded, env)

    def opened() -> Run:
        return new(
            loaded,
            environment,
            Options(changelog="", accept_no_way_back=accept_no_way_back, confirm=conduct.confirmer(assume_yes=yes)),
            reporter=conduct.reporter(silent=as_json or dry_run),
            parameters=parameters,
            undo=undo,
        )

    if kept is not None and not by_changesets:
        if dry_run:
            _show_swap(environment, kept, as_json=as_json)
            return
        confirm_protected(environment, f"Swap back what run {kept} had swapped in?", assume_yes=yes)
        _swap_back(opened, kept, accept_loss=accept_loss, as_json=as_json)
    if dry_run:
        _show(opened(), as_json=as_json)
        return
    conduct.conduct(opened(), engine.execute, as_json=as_json)


def _wanted(config: Config, run: str | None, tag: str | None, count: int | None, changelogs: Sequence[str]) -> Undo:
    """Raises: UsageError unless just one of run, tag and count is given."""
    from migrator.runs.facts import Undo
    from migrator.runs.opening import relative_to_root

    if sum(one is not None for one in (run, tag, count)) != 1:
        raise UsageError(
            "say what is to be undone: a RUN, --to-tag TAG or --count N, one of them",
            hint="`migrator history` lists the runs",
        )
    root = config.liquibase.root
    return Undo(run_id=run, tag=tag, count=count, changelogs=tuple(relative_to_root(one, root) for one in changelogs))


def _to_be_undone(config: Config, run_id: str) -> StoredRun:
    """The run as the journal holds it. Raises: Refused for one that cannot be undone by its changesets."""
    from migrator.runs import undoing
    from migrator.runs.journal import Journal

    with closing(Journal.open(config.journal.url, config.base, read_only=True)) as journal:
        found = journal.get(run_id)
    undoing.refuse_run(found)
    return found


def _parameters_of(found: StoredRun) -> dict[str, str]:
    from migrator.runs.facts import Facts

    return Facts.model_validate(found.facts).changelog_parameters


def _swap_back(opened: Callable[[], Run], run_id: str, *, accept_loss: bool, as_json: bool) -> NoReturn:
    """The database from before has its name again, or the answer says why not. Raises: typer.Exit."""
    from migrator.runs import swap_back

    def swap(run: Run, *, accept_loss: bool = accept_loss) -> None:
        swap_back.swap_back(run, run_id, accept_loss=accept_loss)

    record = conduct.story(opened(), swap)
    written = record.error is not None and record.error.code == "written_since"
    ask = conduct.confirmer(assume_yes=False)  # --yes is not meant for rows that users wrote
    if written and not as_json and ask("Swap back all the same, and lose what was written since?"):
        record = conduct.story(opened(), partial(swap, accept_loss=True))
    elif written and not as_json:
        output.note("what was written since is kept by: --by-changesets; it is accepted as lost by: --accept-loss")
    if as_json:
        output.result(record.model_dump_json(indent=2))
    raise typer.Exit(record.exit_code or 0)


def _show_swap(environment: Environment, run_id: str, *, as_json: bool) -> None:
    if as_json:
        output.json_result({"environment": environment.name, "swaps_back": run_id, "sql": "", "exit_code": 0})
        return
    output.note(
        f"run {run_id} was blue/green: the database that it kept would get its name again, by no SQL of its own"
    )
    output.note("the SQL of its changesets is shown by: --by-changesets --dry-run")


def _show(run: Run, *, as_json: bool) -> None:
    from migrator.runs import undo_preview

    try:
        shown = undo_preview.show(run)
    finally:
        run.close()
    if as_json:
        output.json_result(
            {
                "environment": run.record.environment,
                "database": run.record.database,
                "changelogs": list(run.undo.changelogs),
                "changesets": [{"path": c.path, "id": c.id, "author": c.author} for c in shown.changesets],
                "sql": shown.sql,
                "exit_code": 0,
            }
        )
        return
    if not shown.changesets:
        output.note("nothing to undo")
        return
    output.note(f"would undo, newest first, by {run.record.changelog}:")
    for changeset in shown.changesets:
        output.note(f"  {changeset.key}")
    output.result(shown.sql.rstrip())
