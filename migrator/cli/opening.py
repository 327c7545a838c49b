"""From the options of a command to the configuration that it works with."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from migrator.cli import output
from migrator.errors import UsageError

if TYPE_CHECKING:
    from migrator.config.configuration import Config
    from migrator.config.models import Environment
    from migrator.runs.run import Run


def configuration(
    path: Path | None,
    *,
    overrides: Sequence[str] | None = None,
    url: str | None = None,
    window: str | None = None,
    required: bool = True,
    shown_only: bool = False,
) -> Config:
    """migrator.toml with the command line's settings over it. Raises: ConfigError, UsageError.

    What stands at AWS is asked for when it is needed; with `shown_only` never: it is masked.
    """
    from migrator.aws.secrets import Secrets
    from migrator.config.load import load
    from migrator.config.overrides import parse
    from migrator.config.remote import StandIn

    given = parse(overrides or ())
    if url is not None:
        if "url" in given:
            raise UsageError("--url and --set url exclude each other")
        given["url"] = url
    if window is not None:
        if "maintenance_window" in given:
            raise UsageError("--window and --set maintenance_window exclude each other")
        given["maintenance_window"] = [{"announced": window}]
    return load(path, os.environ, given, required=required, remote=StandIn() if shown_only else Secrets())


def opened(
    path: Path | None,
    env: str | None,
    *,
    overrides: Sequence[str] | None = None,
    url: str | None = None,
    window: str | None = None,
    shown_only: bool = False,
) -> tuple[Config, Environment]:
    """The configuration as `configuration` has it, without a file too, and the environment in it."""
    loaded = configuration(path, overrides=overrides, url=url, window=window, required=False, shown_only=shown_only)
    return loaded, environment(loaded, env)


@contextmanager
def by_hand(path: Path | None, env: str | None, overrides: Sequence[str] | None, *, doing: str) -> Iterator[Run]:
    """A run without a changelog, for a part of one that a person asks for; closed at the end of the block."""
    from migrator.runs import byhand

    loaded, named = opened(path, env, overrides=overrides)
    with closing(byhand.opened(loaded, named, doing=doing)) as run:
        yield run


def environment(config: Config, name: str | None) -> Environment:
    """The environment of that name, or the only one. Raises: ConfigError, UsageError."""
    found = config.environment(only_name(config, name))
    if config.path is None and found.login is None:  # perhaps another folder was meant: better said than guessed
        output.note(
            f"no migrator.toml in {config.base}: environment {found.name} is the embedded PostgreSQL of this folder"
        )
    return found


def only_name(config: Config, name: str | None) -> str:
    """The name that was given, or that of the only environment. Raises: UsageError where there are several."""
    if name is not None:
        return name
    names = config.names or ["local"]
    if len(names) > 1:
        raise UsageError("which environment?", hint=f"give --env with one of: {', '.join(names)}")
    return names[0]
