"""`migrator adopt`: a database with a history of its own is taken over."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from migrator.cli import conduct, opening, output
from migrator.cli.options import AsJson, AssumeYes, ConfigPath, EnvironmentName, Overrides, Parameters

if TYPE_CHECKING:
    from migrator.plans.adoption import Adoption
    from migrator.runs.run import Run


def adopt(
    changelog: Annotated[
        str, typer.Argument(metavar="CHANGELOG", help="The changelog that has run here already.", show_default=False)
    ],
    *,
    config: ConfigPath = None,
    env: EnvironmentName = None,
    to_tag: Annotated[
        str | None, typer.Option("--to-tag", metavar="TAG", help="Without a ledger: mark only the changesets up to it.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the mapping and write nothing.")] = False,
    param: Parameters = None,
    overrides: Overrides = None,
    yes: AssumeYes = False,
    as_json: AsJson = False,
) -> None:
    """Take over a database that was migrated otherwise: under other paths (Spring Boot), or without a ledger.

    Rows of the ledger with the same id and author get the paths of this changelog. Where there is no ledger, the
    changesets are marked as ran, if the tables that they create are there. The mapping is shown first; only the ledger
    is written, in one transaction, and its rows as they were are kept in the run's folder.

    \b
    migrator adopt db/changelog/master.yaml --env production --dry-run
    migrator adopt db/changelog/master.yaml --env production
    migrator adopt db/changelog/master.yaml --env legacy --to-tag v1.0
    """
    from migrator.cli.confirm import confirm
    from migrator.runs import byhand
    from migrator.runs.byhand import adopt as adopting
    from migrator.runs.opening import relative_to_root

    loaded, environment = opening.opened(config, env, overrides=overrides)
    path = relative_to_root(changelog, loaded.liquibase.root)
    run = byhand.opened(loaded, environment, doing=path)
    run.facts.changelog_parameters = conduct.parameters(param)
    written = False
    try:
        found = adopting.look(run, path, tag=to_tag)
        if not as_json:
            _show(run, found)
        if not (dry_run or found.is_empty):
            number = len(found.moved) + len(found.marked)
            confirm(f"Write {number} rows into the ledger of {run.database} ({environment.name})?", assume_yes=yes)
            adopting.write(run, path, found, tag=to_tag)
            written = True
    finally:
        run.close()
    kept = run.folder / adopting.LEDGER_FILE
    if as_json:
        output.json_result(
            {
                "environment": environment.name,
                "database": run.record.database,
                "changelog": path,
                "moved": [{"changeset": one.changeset.key, "from": one.row.path} for one in found.moved],
                "marked": list(found.marked),
                "pending": list(found.pending),
                "written": written,
                "ledger_before": str(kept),
            }
        )
    elif written:
        output.note(f"written and verified; the ledger as it was: {kept}")


def _show(run: Run, found: Adoption) -> None:
    for warning in run.record.warnings:
        output.note(f"warning: {warning}")
    for move in found.moved:
        output.result(f"{move.changeset.key}  has run as  {move.row.path}")
    for key in found.marked:
        output.result(f"{key}  is marked as ran")
    for key in found.pending:
        output.result(f"{key}  stays pending")
    if found.is_empty:
        output.note("nothing to adopt: no pending changeset is in the ledger under another path")
