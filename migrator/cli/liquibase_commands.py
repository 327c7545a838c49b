"""`migrator liquibase`: the Liquibase that runs use."""

from __future__ import annotations

from typing import Annotated

import typer

from migrator.cli import opening, output
from migrator.cli.options import AsJson, ConfigPath

app = typer.Typer(help="The Liquibase that runs use.", no_args_is_help=True, rich_markup_mode=None)


@app.command()
def install(
    *,
    version: Annotated[
        str | None,
        typer.Argument(metavar="VERSION", help="Default: the version of migrator.toml.", show_default=False),
    ] = None,
    config: ConfigPath = None,
    as_json: AsJson = False,
) -> None:
    """Fetch Liquibase into the user's cache and check every file. Afterwards runs need no network for it.

    \b
    migrator liquibase install
    migrator liquibase install 4.33.0
    """
    from migrator.liquibase import install as installation

    settings = opening.configuration(config, required=False).liquibase
    home = settings.home if version is None else None
    jars = installation.jars_for(version or settings.version, home, progress=output.note)
    folder = jars.paths[0].parent
    if as_json:
        output.json_result({"version": jars.version, "folder": str(folder), "files": [p.name for p in jars.paths]})
    else:
        output.result(f"Liquibase {jars.version} is ready in {folder} ({len(jars.paths)} files)")
