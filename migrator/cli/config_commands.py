"""`migrator config`: what is in effect, and what may be written."""

from __future__ import annotations

import typer

from migrator.cli import opening, output
from migrator.cli.options import AsJson, ConfigPath, EnvironmentName, Overrides, TargetUrl

app = typer.Typer(help="What is configured, and what can be.", no_args_is_help=True, rich_markup_mode=None)


@app.command(short_help="Print the settings in effect, and where each comes from.")
def show(
    *,
    config: ConfigPath = None,
    env: EnvironmentName = None,
    url: TargetUrl = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Print the settings that are in effect for an environment, and where each comes from. Secrets are masked.

    \b
    migrator config show --env staging
    migrator config show --env staging --set profile=online --json
    """
    from migrator.config import show as listing

    loaded, environment = opening.opened(config, env, overrides=overrides, url=url, shown_only=True)
    if not as_json:
        output.result(listing.as_text(loaded, environment))
        return
    output.json_result(
        {
            "environment": environment.name,
            "file": str(loaded.path) if loaded.path else None,
            "settings": {
                one.key: {"value": one.value, "source": one.source, "reference": one.reference}
                for one in listing.shown(loaded, environment)
            },
        }
    )


@app.command()
def schema() -> None:
    """Print the JSON schema of migrator.toml, for editors.

    \b
    migrator config schema > migrator.schema.json
    and as the first line of migrator.toml:  #:schema ./migrator.schema.json
    """
    from migrator.config.schema import json_schema

    output.json_result(json_schema())
