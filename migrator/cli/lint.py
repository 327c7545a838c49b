"""`migrator lint`: what a changelog does that a person should know, with no database at hand."""

from __future__ import annotations

import json
import shutil
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from migrator.cli import conduct, job, opening, output
from migrator.cli.options import AsJson, ConfigPath, EnvironmentName, Overrides, Parameters
from migrator.errors import Refused, StepFailed, UsageError

if TYPE_CHECKING:
    from migrator.plans.findings import Findings


class Format(StrEnum):
    TABLE = "table"
    JSON = "json"
    SARIF = "sarif"
    GITHUB = "github"


class FailOnOption(StrEnum):
    ERROR = "error"
    WARNING = "warning"
    NEVER = "never"


FailOnChoice = Annotated[
    FailOnOption | None,
    typer.Option(
        "--fail-on",
        help="From which severity on the exit code is 3. Default: lint.fail_on, else error.",
        show_default=False,
    ),
]


def lint(
    changelogs: Annotated[
        list[str],
        typer.Argument(metavar="CHANGELOG", help="Changelogs: SQL, XML, YAML or JSON.", show_default=False),
    ],
    *,
    config: ConfigPath = None,
    env: EnvironmentName = None,
    param: Parameters = None,
    overrides: Overrides = None,
    since: Annotated[
        str | None,
        typer.Option("--since", metavar="COMMIT", help="Only what is new since this commit of git, e.g. origin/main."),
    ] = None,
    fail_on: FailOnChoice = None,
    chosen: Annotated[
        Format | None,
        typer.Option("--format", help="How the findings are written. Default: table.", show_default=False),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Write them to this file instead of standard output."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Look for what a changelog should not do, without any database. Exit code 3: there is an error among it.

    With --since only what is new is told, and decides: what the changelogs of that commit had already is counted.

    \b
    migrator lint changelogs/2026.02-loyalty/changelog.xml
    migrator lint db/master.xml --since origin/main
    migrator lint db/*.sql --format github --fail-on warning
    migrator lint db/release.xml --format sarif --output findings.sarif
    """
    from migrator.plans.findings.model import REFUSED
    from migrator.reports import findings_table
    from migrator.runs.byhand import linting
    from migrator.runs.opening import relative_to_root

    if as_json and chosen not in (None, Format.JSON):
        raise UsageError(f"--json and --format {chosen} exclude each other")
    form = Format.JSON if as_json else chosen or Format.TABLE
    loaded = opening.configuration(config, overrides=overrides, required=False)
    names = loaded.names
    settings = loaded.settings(env or (names[0] if len(names) == 1 else None))
    root = loaded.liquibase.root
    paths = [relative_to_root(one, root) for one in changelogs]
    found = linting.lint(
        loaded, settings, paths, parameters=conduct.parameters(param), since=since, progress=output.note
    )
    level = fail_on.value if fail_on is not None else settings.lint.fail_on or "error"
    is_refused = bool(found.against(level)) or any(one.rule == REFUSED for one in found.found)
    code = Refused.exit_code if is_refused else 0
    text = _rendered(
        found, form, prefix=job.prefix(root), extra={"changelogs": paths, "fail_on": level, "exit_code": code}
    )
    if file is not None:
        _write(file, text)
        output.note(f"{findings_table.summary(found)}; written to {file}")
    else:
        if text:
            output.result(text)
        if form in (Format.SARIF, Format.GITHUB):
            output.note(findings_table.summary(found))
    raise typer.Exit(code)


def _rendered(found: Findings, form: Format, *, prefix: str, extra: dict[str, object]) -> str:
    from migrator.reports import findings_github, findings_json, findings_sarif, findings_table

    match form:
        case Format.TABLE:
            width = min(100, shutil.get_terminal_size((findings_table.WIDTH, 24)).columns)
            return findings_table.render(found, width=width, prefix=prefix)
        case Format.JSON:
            return json.dumps({**extra, **findings_json.document(found)}, ensure_ascii=False, indent=2)
        case Format.SARIF:
            return json.dumps(findings_sarif.document(found, prefix=prefix), ensure_ascii=False, indent=2)
        case Format.GITHUB:
            return findings_github.render(found, prefix=prefix)


def _write(file: Path, text: str) -> None:
    from migrator.reports import files

    try:
        files.write(file.absolute(), text + "\n")
    except StepFailed as error:
        raise Refused(error.message, hint="give --output another place", code="output") from error
