"""References to values that do not stand in the file: ${env:NAME}."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from migrator.config.models import CommandProvider, FlagProvider
from migrator.config.names import did_you_mean
from migrator.errors import ConfigError

_REFERENCE = re.compile(r"\$\{([A-Za-z][A-Za-z0-9-]*):([^}]*)\}")
_BARE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_NOT_YET = ("aws-secret", "ssm")


def has_reference(text: str) -> bool:
    return _REFERENCE.search(text) is not None


def is_reference(text: str) -> bool:
    """Whether the text is one reference and nothing else."""
    return _REFERENCE.fullmatch(text.strip()) is not None


def resolve(text: str, environ: Mapping[str, str], *, where: str) -> str:
    """The text with every reference replaced by what it stands for.

    `where` names the setting in messages. Raises: ConfigError for an unset or empty variable, and for a kind of
    reference that is unknown or not available yet.
    """

    def value(match: re.Match[str]) -> str:
        kind, name = match[1], match[2].strip()
        if kind in _NOT_YET:
            raise ConfigError(
                f"{where}: references of the kind ${{{kind}:...}} are not available yet",
                hint="put the value into an environment variable before the run and write ${env:NAME}",
            )
        if kind != "env":
            raise ConfigError(
                f"{where}: unknown kind of reference ${{{kind}:...}}", hint=did_you_mean(kind, ["env"]) + " ${env:NAME}"
            )
        return _variable(name, environ, where)

    return _REFERENCE.sub(value, text)


def resolve_all(
    values: Mapping[str, object], environ: Mapping[str, str], where: Callable[[str], str]
) -> tuple[dict[str, object], dict[str, str]]:
    """The values with every reference resolved, and the texts that held one, by dotted key. Raises: ConfigError."""
    resolved: dict[str, object] = {}
    found: dict[str, str] = {}
    for key, value in values.items():
        resolved[key] = _resolved(value, environ, where(key), bare=key.startswith("parameters."))
        if isinstance(value, (str, Path)) and has_reference(str(value)):
            found[key] = str(value)
    return resolved, found


def _resolved(value: object, environ: Mapping[str, str], where: str, *, bare: bool = False) -> object:
    match value:
        case str():
            if not bare:
                _refuse_bare(value, where)
            return resolve(value, environ, where=where)
        case Path():
            return Path(str(_resolved(str(value), environ, where)))
        case FlagProvider():
            return value.model_copy(update={"path": _resolved(value.path, environ, where)})
        case CommandProvider():
            if any(has_reference(word) for word in (*value.on, *value.off, *value.status)):
                raise ConfigError(
                    f"{where}: a reference in a command",
                    hint="what is in a command is seen by every user of the machine: let the command read it itself",
                )
            return value
        case tuple():
            return tuple(_resolved(one, environ, where) for one in value)
        case _:
            return value


def _refuse_bare(text: str, where: str) -> None:
    found = _BARE.search(text)
    if found:
        raise ConfigError(
            f"{where}: ${{{found[1]}}} is no reference", hint=f"for an environment variable write ${{env:{found[1]}}}"
        )


def _variable(name: str, environ: Mapping[str, str], where: str) -> str:
    if not name:
        raise ConfigError(f"{where}: ${{env:}} names no environment variable", hint="write ${env:NAME}")
    value = environ.get(name)
    if value is None:
        raise ConfigError(
            f"{where}: the environment variable {name} is not set", hint=f"set {name}, or choose another environment"
        )
    if not value:
        raise ConfigError(f"{where}: the environment variable {name} is empty", hint=f"set {name} to a value")
    return value
