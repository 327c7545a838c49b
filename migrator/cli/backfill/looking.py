"""`migrator backfill plan`, `status` and `verify`: what would be done, how far it is, whether it is right."""

from __future__ import annotations

from typing import Annotated

import typer

from migrator.cli import output
from migrator.cli.backfill import named
from migrator.cli.backfill.named import Names, NamesGiven, backfill_names
from migrator.cli.options import AsJson, ConfigPath, EnvironmentName, Overrides
from migrator.errors import Refused


def plan(
    names: Names = None,
    *,
    config: ConfigPath = None,
    env: EnvironmentName = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Show what backfills would do, and what is in their way. Exit code 3: something is in the way.

    Changes nothing: every statement is tried with a batch without a row, in a transaction that is rolled back. The
    module of a python function is imported.

    \b
    migrator backfill plan --env production
    migrator backfill plan split-name --env production --json
    """
    from migrator.reports import backfills as views
    from migrator.runs.byhand import backfilling

    loaded, database = named.opened(config, env, overrides)
    found = [backfilling.plan(database, one) for one in named.chosen(loaded, names or [])]
    code = Refused.exit_code if any(one.is_in_the_way for one in found) else 0
    environment = database.environment.name
    lines = [line for one in found for line in views.plan(one, env=environment)]
    output.answer(
        {"environment": environment, "backfills": [views.plan_json(one) for one in found], "exit_code": code},
        lines if found else [f"there is no backfill below {loaded.liquibase.root}"],
        as_json=as_json,
    )
    raise typer.Exit(code)


def status(
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="Only this one.", show_default=False, autocompletion=backfill_names),
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

    _, database = named.opened(config, env, overrides)
    found = backfilling.standing(database) if name is None else [backfilling.known(database, name)]
    environment = database.environment.name
    shown = [views.status_json(one, env=environment) for one in found]
    output.answer(
        {"environment": environment, "backfills": shown}, views.status(found, env=environment), as_json=as_json
    )


def verify(
    names: NamesGiven,
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

    loaded, database = named.opened(config, env, overrides)
    found = [(one, backfilling.verify(database, one)) for one in named.chosen(loaded, names)]
    code = Refused.exit_code if any(verdict.violations for _, verdict in found) else 0
    shown = [{"name": one.name, **views.verdict_json(verdict)} for one, verdict in found]
    output.answer(
        {"environment": database.environment.name, "backfills": shown, "exit_code": code},
        [line for one, verdict in found for line in views.verdict(one.name, verdict)],
        as_json=as_json,
    )
    raise typer.Exit(code)
