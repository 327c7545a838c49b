"""The effective settings of an environment, as a person or a program reads them. Secrets are masked."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel

from migrator.config import references, targets, urls
from migrator.config.configuration import Config
from migrator.config.models import Environment, EnvironmentSettings
from migrator.config.sources import flatten

_MASK = references.MASK
_SECRET = frozenset({"notifications.urls"})  # hold secrets however they are written


@dataclass(frozen=True, kw_only=True)
class Shown:
    """One setting. `value` is JSON; what came from a reference is masked, and `reference` tells which it was."""

    key: str
    value: object
    source: str
    reference: str | None = None


def shown(config: Config, environment: Environment) -> list[Shown]:
    """Every setting of the environment and of the services that it uses, in the order of the documentation."""
    url = "embedded" if environment.login is None else urls.render(environment.login)
    written = environment.references.get("url", "")
    at_aws = written if references.has_remote(written) else None
    settings = [
        Shown(
            key="url",
            value=_MASK if at_aws else url,
            source=environment.sources.get("url", "default"),
            reference=at_aws,
        )
    ]
    if "login" in environment.sources:
        settings.append(Shown(key="login", value=targets.RDS_IAM, source=environment.sources["login"]))
    elif environment.login is not None and environment.login.password is not None:
        key = "password" if "password" in environment.sources else "url"
        settings.append(
            Shown(
                key="password",
                value=_MASK,
                source=environment.sources[key],
                reference=environment.references.get(key),
            )
        )
    own = flatten(environment, only_set=False)
    sections = {key.partition(".")[0] for key in own if "." in key}
    ordered = sorted(own, key=lambda key: key.partition(".")[0] in sections)
    names = EnvironmentSettings.model_fields
    settings += [_one(key, own[key], environment) for key in ordered if key.partition(".")[0] in names]
    return settings + _services(config)


def _one(key: str, value: object, environment: Environment) -> Shown:
    reference = environment.references.get(key)
    if key in _SECRET:  # also of what stands around a reference, or beside one, nothing is shown
        reference = references.named(reference or "") or None
        value = [_MASK for _ in value] if isinstance(value, tuple) else value
    return Shown(
        key=key,
        value=_MASK if reference else _plain(value),
        source=environment.sources.get(key, "default"),
        reference=reference,
    )


def _services(config: Config) -> list[Shown]:
    def source(key: str) -> str:
        return config.sources.get(key, "default")

    liquibase, journal, signing = config.liquibase, config.journal, config.signing
    values: list[tuple[str, object, str | None]] = [
        ("liquibase.version", None if liquibase.home else liquibase.version, None),
        ("liquibase.home", _plain(liquibase.home), None),
        ("liquibase.java_home", _plain(liquibase.java_home), None),
        ("liquibase.root", _plain(liquibase.root), None),
        ("journal.url", journal.shown, None),
        ("signing.key", _MASK if signing.key_reference else None, signing.key_reference),
        ("signing.public_keys", _plain(signing.public_keys), None),
        ("signing.attestations", _plain(signing.attestations), None),
    ]
    return [Shown(key=key, value=value, source=source(key), reference=ref) for key, value, ref in values]


def as_text(config: Config, environment: Environment) -> str:
    """The settings in TOML's words, each with its source behind it; what is not set is a comment."""
    settings = shown(config, environment)
    lines = {one.key: _line(one) for one in settings}
    width = min(60, max(len(line) for line in lines.values()))
    text = [f"# environment {environment.name}, from {config.path or 'no file: everything is at its default'}"]
    section = ""
    for one in settings:
        owner = one.key.partition(".")[0] if "." in one.key else ""
        if owner != section:
            text += ["", f"[{owner}]"]
            section = owner
        source = f"{one.source}: {one.reference}" if one.reference else one.source
        text.append(f"{lines[one.key]:<{width}}  # {source}")
    return "\n".join(text)


def _line(one: Shown) -> str:
    name = one.key.partition(".")[2] or one.key
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        name = json.dumps(name, ensure_ascii=False)
    if one.value is None:
        return f"# {name} is not set"
    return f"{name} = {_toml(one.value)}"


def _toml(value: object) -> str:
    if isinstance(value, dict):
        inner = ", ".join(f"{key} = {_toml(item)}" for key, item in value.items())
        return f"{{ {inner} }}"
    if isinstance(value, list):
        return f"[{', '.join(_toml(item) for item in value)}]"
    if isinstance(value, float):
        return f"{value:g}"
    return json.dumps(value, ensure_ascii=False)


def _plain(value: object) -> object:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_none=True)
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value
