"""References to values that do not stand in the file: ${env:NAME}, ${aws-secret:NAME}, ${ssm:/PATH}."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from migrator.config.models import CommandProvider
from migrator.config.names import did_you_mean
from migrator.config.remote import KINDS, Lookup, Pointer, pointer
from migrator.config.settings import Settings
from migrator.errors import ConfigError

_REFERENCE = re.compile(r"\$\{([A-Za-z][A-Za-z0-9-]*):([^}]*)\}")
_BARE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_PASSWORD_IN_URL = re.compile(r"(:/{1,2}[^\s:/@]*:)[^\s@]*(?=@)")
MASK = "********"


def has_reference(text: str) -> bool:
    return _REFERENCE.search(text) is not None


def named(text: str) -> str:
    """The references in the text, without what stands around them."""
    return ", ".join(match[0] for match in _REFERENCE.finditer(text))


def blanked(text: str) -> str:
    """The text with an x for every reference: what stands in plain sight, and where the rest is."""
    return _REFERENCE.sub("x", text)


def without_password(text: str) -> str:
    """The text with a mask for the password of every URL in it: also a URL under a wrong key may hold one."""
    return _PASSWORD_IN_URL.sub(rf"\g<1>{MASK}", text)


def is_reference(text: str) -> bool:
    """Whether the text is one reference and nothing else."""
    return _REFERENCE.fullmatch(text.strip()) is not None


def has_remote(text: object) -> bool:
    """Whether the text, or a path, holds a reference that only AWS can resolve."""
    return any(match[1] in KINDS for match in _REFERENCE.finditer(str(text)))


def only_remote(text: str, *, where: str) -> Pointer | None:
    """The reference to AWS that the text is, and nothing else; else None. Raises: ConfigError for a malformed one."""
    match = _REFERENCE.fullmatch(text.strip())
    return pointer(match[1], match[2], where) if match and match[1] in KINDS else None


def pointers(text: str) -> list[Pointer]:
    """Every reference to AWS in the text. Raises: ConfigError for a malformed one."""
    return [pointer(match[1], match[2], text) for match in _REFERENCE.finditer(text) if match[1] in KINDS]


def resolve(text: str, environ: Mapping[str, str], *, where: str, lookup: Lookup | None = None) -> str:
    """The text with every reference replaced by what it stands for.

    `where` names the setting in messages; `lookup` asks AWS. Raises: ConfigError for an unset or empty variable, and
    for a kind of reference that is unknown, or that cannot be used here.
    """

    def value(match: re.Match[str]) -> str:
        kind, name = match[1], match[2].strip()
        if kind in KINDS:
            if lookup is None:
                raise ConfigError(
                    f"{where}: ${{{kind}:...}} cannot be used here", hint="write the value itself, or ${env:NAME}"
                )
            return lookup(pointer(kind, name, where), where)
        if kind != "env":
            known = ["env", *KINDS]
            hint = f"{did_you_mean(kind, known)} ${{env:NAME}}, ${{aws-secret:NAME}} and ${{ssm:/PATH}} are there"
            raise ConfigError(f"{where}: unknown kind of reference ${{{kind}:...}}", hint=hint)
        return _variable(name, environ, where)

    return _REFERENCE.sub(value, text)


def resolve_here(text: str, where: str, environ: Mapping[str, str]) -> str:
    """The same for what must be known before AWS can be asked. Raises: ConfigError."""
    return resolve(text, environ, where=where)


def resolve_all(
    values: Mapping[str, object], where: Callable[[str], str], resolve_one: Callable[[str, str], str]
) -> tuple[dict[str, object], dict[str, str]]:
    """The values with every reference resolved, and the texts that held one, by dotted key.

    `resolve_one` is `resolve` for a text and its place. Raises: ConfigError.
    """
    resolved: dict[str, object] = {}
    found: dict[str, str] = {}
    for key, value in values.items():
        resolved[key] = _resolved(value, where(key), resolve_one, bare=key.startswith("parameters."))
        if isinstance(value, (str, Path)) and has_reference(str(value)):
            found[key] = str(value)
        elif isinstance(value, tuple) and any(
            isinstance(one, (str, Path)) and has_reference(str(one)) for one in value
        ):
            found[key] = ", ".join(str(one) for one in value)
    return resolved, found


def _resolved(value: object, where: str, resolve_one: Callable[[str, str], str], *, bare: bool = False) -> object:
    match value:
        case str():
            if not bare:
                _refuse_bare(value, where)
            return resolve_one(value, where)
        case Path():
            return Path(str(_resolved(str(value), where, resolve_one)))
        case CommandProvider():
            if any(has_reference(word) for word in (*value.on, *value.off, *value.status)):
                raise ConfigError(
                    f"{where}: a reference in a command",
                    hint="what is in a command is seen by every user of the machine: let the command read it itself",
                )
            return value
        case Settings():
            fields = {name: getattr(value, name) for name in type(value).model_fields}
            return value.model_copy(
                update={name: _resolved(field, where, resolve_one) for name, field in fields.items() if name != "type"}
            )
        case tuple():
            return tuple(_resolved(one, where, resolve_one) for one in value)
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
