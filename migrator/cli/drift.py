"""`migrator drift`: where a schema is no longer what it should be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from migrator.cli import opening, output
from migrator.cli.options import AsJson, ConfigPath, EnvironmentName, Overrides, environment_names
from migrator.errors import Refused, UsageError

if TYPE_CHECKING:
    from migrator.config.configuration import Config
    from migrator.config.models import Environment
    from migrator.runs.byhand.drift import Seen


def drift(
    *,
    config: ConfigPath = None,
    env: EnvironmentName = None,
    against: Annotated[
        str | None,
        typer.Option(
            "--against",
            metavar="ENV",
            help="Compare with another environment's schema as it is now.",
            autocompletion=environment_names,
        ),
    ] = None,
    against_changelog: Annotated[
        str | None,
        typer.Option(
            "--against-changelog",
            metavar="CHANGELOG",
            help="Compare with what the changelog alone builds, on a scratch database. Without owners and rights.",
        ),
    ] = None,
    param: Annotated[
        list[str] | None,
        typer.Option("--param", metavar="KEY=VALUE", help="A parameter of that changelog. Repeatable."),
    ] = None,
    no_owners: Annotated[bool, typer.Option("--no-owners", help="Leave owners and rights out.")] = False,
    accept: Annotated[
        str | None,
        typer.Option(
            "--accept", metavar="REASON", help="The schema is right as it is: compare with it from now on, and say why."
        ),
    ] = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Compare a database's schema with what its last verified run left, or with something else. Only reads.

    Objects that are there and were not expected stand under +, missing ones under -, changed ones under ~, with the
    statements of both sides. Left out are partitions that one side alone has, Liquibase's own tables, and what
    drift.ignore names. Exit code 0: no drift, 3: drift.

    \b
    migrator drift --env production
    migrator drift --env production --against staging --no-owners
    migrator drift --env production --against-changelog changelogs/all.xml --json
    migrator drift --env production --accept "index added by hand, ticket 4711"
    """
    from migrator.cli import conduct
    from migrator.reports import drift_text
    from migrator.runs.byhand import drift as drifts

    if sum(one is not None for one in (against, against_changelog, accept)) > 1:
        raise UsageError("--against, --against-changelog and --accept exclude each other")
    if accept is not None and not accept.strip():
        raise UsageError("--accept wants a reason", hint='for example --accept "index added by hand, ticket 4711"')
    parameters = conduct.parameters(param)
    loaded, environment = opening.opened(config, env, overrides=overrides)
    found = drifts.of_environment(loaded, environment)
    if accept is not None:
        drifts.accept(loaded, found, accept.strip())
        if as_json:
            output.json_result({"environment": environment.name, "accepted": accept.strip(), "exit_code": 0})
        else:
            output.result(f"{environment.name}: from now on its schema is compared with what it is now")
        return
    if against is not None:
        expected = drifts.of_environment(loaded, loaded.environment(against))
    elif against_changelog is not None:
        expected = _of_changelog(loaded, environment, against_changelog, parameters)
    else:
        expected = drifts.of_journal(loaded, environment, found)
    owners = not no_owners and against_changelog is None
    result = drifts.compared(expected, found, environment, owners=owners)
    code = Refused.exit_code if result else 0
    if as_json:
        about: dict[str, object] = {
            "environment": environment.name,
            "database": found.database,
            "against": expected.what,
            "owners_compared": owners,
        }
        output.json_result({**about, **drift_text.as_json(result), "exit_code": code})
    else:
        if expected.major not in (None, found.major):
            output.note(
                f"the servers are of two versions ({expected.major}, {found.major}): some print SQL differently"
            )
        output.result(drift_text.render(result, of=environment.name, against=expected.what))
    raise typer.Exit(code)


def _of_changelog(config: Config, environment: Environment, changelog: str, parameters: dict[str, str]) -> Seen:
    from migrator.rehearsals import built

    return built.by_changelog(config, environment, changelog, parameters, say=output.note)
