"""Which backfills a command is about: its arguments, the database, and what the files define."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from migrator.cli import opening
from migrator.errors import Refused

if TYPE_CHECKING:
    from migrator.backfills.definition import Backfill
    from migrator.config.configuration import Config
    from migrator.runs.byhand.backfilling import Database


def backfill_names(context: typer.Context, incomplete: str) -> list[str]:
    """The backfills below the current folder, for the shell's completion."""
    from migrator.runs.byhand import backfill_files

    given = context.params.get("config")
    root = Path(given).parent if given else Path()
    return [name for name in backfill_files.names(root) if name.startswith(incomplete)]


Name = Annotated[
    str,
    typer.Argument(metavar="NAME", help="The backfill.", show_default=False, autocompletion=backfill_names),
]
Names = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="NAME", help="The backfills. Default: all.", show_default=False, autocompletion=backfill_names
    ),
]
NamesGiven = Annotated[
    list[str],
    typer.Argument(metavar="NAME", help="The backfills.", show_default=False, autocompletion=backfill_names),
]


def opened(config: Path | None, env: str | None, overrides: Sequence[str] | None) -> tuple[Config, Database]:
    from migrator.runs.byhand import backfilling

    loaded, environment = opening.opened(config, env, overrides=overrides)
    return loaded, backfilling.opened(loaded, environment)


def chosen(config: Config, names: Sequence[str]) -> list[Backfill]:
    from migrator.runs.byhand import backfill_files

    return backfill_files.chosen(config.liquibase.root, names)


def defined(config: Config, database: Database, name: str) -> Backfill:
    """The backfill as its file has it; as the database keeps it where there is no such file."""
    from migrator.runs.byhand import backfilling

    try:
        return chosen(config, [name])[0]
    except Refused as error:
        if error.code != "no_backfill":
            raise
        return backfilling.known(database, name).entry.backfill()
