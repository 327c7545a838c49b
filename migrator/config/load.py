"""Reading migrator.toml."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from pydantic import ValidationError

from migrator.config import document, paths, problems, references, targets
from migrator.config import overrides as command_line
from migrator.config.aws import AwsSettings
from migrator.config.configuration import Config
from migrator.config.document import Document
from migrator.config.models import ConfigFile, EnvironmentTable
from migrator.config.problems import Keys, dotted
from migrator.config.remote import Pointer, Remote, StandIn
from migrator.config.services import LiquibaseSettings
from migrator.config.sources import Layer, flatten, merge
from migrator.errors import ConfigError

FILE_NAME = "migrator.toml"
_SERVICES = ("liquibase", "journal", "signing")


def load(
    path: Path | None,
    environ: Mapping[str, str],
    overrides: Mapping[str, object] | None = None,
    *,
    required: bool = True,
    remote: Remote | None = None,
) -> Config:
    """migrator.toml was read, and every key and value of it is valid. References are left for later.

    `remote` asks AWS where they stand for something there; without one they are refused.
    Without a path it is `migrator.toml` in the current folder; where that is missing and not `required`, everything is
    at its default. `overrides` are dotted keys from the command line, those of environments included.
    Raises: ConfigError with file and line.
    """
    file = (path or Path(FILE_NAME)).absolute()
    if path is None and not required and not file.exists():
        return without_file(file.parent, environ, overrides, remote)
    return _config(document.read(file), file, environ, dict(overrides or {}), remote)


def without_file(
    folder: Path,
    environ: Mapping[str, str],
    overrides: Mapping[str, object] | None = None,
    remote: Remote | None = None,
) -> Config:
    """Everything is at its default but the overrides. Raises: ConfigError."""
    nothing = Document(path=folder / FILE_NAME, data={}, text="")
    return _config(nothing, None, environ, dict(overrides or {}), remote)


def _config(
    found: Document, path: Path | None, environ: Mapping[str, str], given: Layer, remote: Remote | None
) -> Config:
    services = {key: value for key, value in given.items() if _of_services(key)}
    of_environments = {key: value for key, value in given.items() if key not in services}

    def where(keys: Keys) -> str:
        key = dotted(keys)
        return command_line.option(key) if key in services else found.where(keys)

    try:
        file = ConfigFile.model_validate(_with(found.data, services))
    except ValidationError as error:
        raise problems.explained(error, ConfigFile, where) from error
    _check(file, where)
    command_line.table(of_environments)
    _, sources = merge(
        [("default", flatten(file, only_set=False)), (FILE_NAME, flatten(file)), (command_line.SOURCE, services)]
    )
    base = found.path.parent
    return Config(
        path=path,
        base=base,
        liquibase=_liquibase(file, environ, where, base, remote),
        sources={key: source for key, source in sources.items() if _of_services(key)},
        _file=file,
        _where=where,
        _environ=environ,
        _overrides=of_environments,
        _remote=remote,
    )


def _of_services(key: str) -> bool:
    return key.split(".", maxsplit=1)[0] in _SERVICES


def _with(data: Mapping[str, object], services: Layer) -> dict[str, object]:
    merged = dict(data)
    for key, value in services.items():
        section, _, name = key.partition(".")
        inner = merged.get(section)
        merged[section] = {**(inner if isinstance(inner, dict) else {}), name: value}
    return merged


def _check(file: ConfigFile, where: Callable[[Keys], str]) -> None:
    for section, table in (("journal", file.journal), ("signing", file.signing)):
        targets.refuse_plain_secrets(table, partial(_in, where, (section,)))
    targets.refuse_unavailable(file.journal, partial(_in, where, ("journal",)))
    if file.defaults.url is not None:
        raise ConfigError(
            f"{where(('defaults', 'url'))}: all environments would be one database",
            hint="write the url under [environments.NAME]",
        )
    tables: list[tuple[Keys, EnvironmentTable]] = [(("defaults",), file.defaults)]
    tables += [(("environments", name), table) for name, table in file.environments.items()]
    for owner, environment in tables:
        targets.refuse_plain_secrets(environment, partial(_in, where, owner))
        targets.refuse_plain_secrets(environment.scratch, partial(_in, where, (*owner, "scratch")))
        targets.refuse_unavailable(environment, partial(_in, where, owner))


def _in(where: Callable[[Keys], str], owner: Keys, key: str) -> str:
    return where((*owner, key))


def _liquibase(
    file: ConfigFile, environ: Mapping[str, str], where: Callable[[Keys], str], base: Path, remote: Remote | None
) -> LiquibaseSettings:
    table = file.liquibase
    if table.home is not None and "version" in table.model_fields_set:
        raise ConfigError(
            f"{where(('liquibase', 'home'))}: home and version exclude each other",
            hint="home uses the installation that is there, version fetches one: leave one of them out",
        )

    def resolved(text: str, place: str) -> str:
        lookup = partial(_ask, remote, file.aws) if remote is not None else None
        return references.resolve(text, environ, where=place, lookup=lookup)

    def folder(key: str, path: Path | None) -> Path | None:
        if path is None:
            return None
        place = where(("liquibase", key))
        found = paths.absolute(resolved(str(path), place), base)
        if not found.is_dir() and not (isinstance(remote, StandIn) and references.has_remote(path)):
            shown = f"that {path} stands for" if references.has_reference(str(path)) else found
            raise ConfigError(references.without_password(f"{place}: there is no folder {shown}"))
        return found

    return LiquibaseSettings(
        version=resolved(table.version, where(("liquibase", "version"))),
        home=folder("home", table.home),
        java_home=folder("java_home", table.java_home),
        root=folder("root", table.root) or base,
    )


def _ask(remote: Remote, aws: AwsSettings, pointer: Pointer, where: str) -> str:
    return remote.value(pointer, aws, where=where)
