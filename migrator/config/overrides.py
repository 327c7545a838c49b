"""Settings that were given on the command line."""

from __future__ import annotations

import tomllib
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path

from pydantic import BaseModel, ValidationError

from migrator.config import problems, targets
from migrator.config.models import ConfigFile, EnvironmentTable
from migrator.config.sources import nest
from migrator.errors import UsageError

SOURCE = "command line"


def parse(pairs: Iterable[str]) -> dict[str, object]:
    """`key=value` pairs as dotted keys and values, read as TOML where the setting is not a text.

    Raises: UsageError for a pair without `=`, or a key that stands twice. Whether a key exists is not looked at.
    """
    values: dict[str, object] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        key = key.strip()
        if not equals or not key:
            # The pair is not repeated: it may be a secret.
            raise UsageError("--set wants key=value", hint="for example --set limits.lock_timeout_s=5")
        if key in values:
            raise UsageError(f"--set {key} stands twice")
        values[key] = text if _is_text(key) else _toml(text)
    return values


def table(values: Mapping[str, object]) -> EnvironmentTable:
    """The settings of an environment that were given. Raises: ConfigError naming the option."""
    try:
        given = EnvironmentTable.model_validate(nest(values))
    except ValidationError as error:
        raise problems.explained(error, EnvironmentTable, lambda keys: option(problems.dotted(keys))) from error
    targets.refuse_plain_secrets(given, option, in_file=False)
    targets.refuse_unavailable(given, option)
    return given


def option(key: str) -> str:
    """The command line's word for a setting."""
    return "--url" if key == "url" else f"--set {key}"


def _toml(text: str) -> object:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _is_text(key: str) -> bool:
    section, _, name = key.partition(".")
    if section == "parameters":
        return True
    owner: type[BaseModel] = EnvironmentTable if section in EnvironmentTable.model_fields else ConfigFile
    field = owner.model_fields.get(section)
    if name and field is not None and isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
        field = field.annotation.model_fields.get(name)
    return field is not None and _holds_text(field.annotation)


def _holds_text(annotation: object) -> bool:
    if typing.get_origin(annotation) in (tuple, list):
        return False
    return annotation in (str, Path) or any(_holds_text(argument) for argument in typing.get_args(annotation))
