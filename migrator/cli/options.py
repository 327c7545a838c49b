"""The options that commands share, so that each means the same everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def environment_names(context: typer.Context, incomplete: str) -> list[str]:
    """The environments of the migrator.toml in use, for the shell's completion. [] where it cannot be read."""
    import tomllib

    path = context.params.get("config") or Path("migrator.toml")
    try:
        environments = tomllib.loads(Path(path).read_text(encoding="utf-8")).get("environments", {})
    except (OSError, ValueError):
        return []
    names = [*environments, "local"] if isinstance(environments, dict) else ["local"]
    return [name for name in dict.fromkeys(names) if name.startswith(incomplete)]


ConfigPath = Annotated[
    Path | None,
    typer.Option("--config", metavar="PATH", help="The configuration. Default: migrator.toml in the current folder."),
]
EnvironmentName = Annotated[
    str | None,
    typer.Option(
        "--env",
        "-e",
        metavar="NAME",
        help="The environment. May be left out where migrator.toml has only one.",
        autocompletion=environment_names,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]
AssumeYes = Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing: every question is answered with yes.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="A setting for this call only, e.g. limits.drain_s=5. Repeatable."),
]
TargetUrl = Annotated[
    str | None,
    typer.Option("--url", metavar="URL", help="Another database than the environment's, without a password."),
]
Window = Annotated[
    str | None,
    typer.Option(
        "--window",
        metavar="FROM/TO",
        help="The announced maintenance window, in place of the configured ones: an ISO 8601 interval.",
    ),
]
Changelog = Annotated[
    str, typer.Argument(metavar="CHANGELOG", help="The changelog file: SQL, XML, YAML or JSON.", show_default=False)
]
Parameters = Annotated[
    list[str] | None,
    typer.Option("--param", metavar="KEY=VALUE", help="A changelog parameter. Repeatable."),
]
BackupId = Annotated[
    str, typer.Argument(metavar="ID", help="The backup's id; see migrator backup list.", show_default=False)
]
