"""A valid migrator.toml, made effective for one environment at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from pydantic import ValidationError

from migrator.config import overrides as command_line
from migrator.config import paths, problems, references, services, targets
from migrator.config.login import Secret
from migrator.config.models import ConfigFile, Environment, EnvironmentSettings, EnvironmentTable, FlagProvider
from migrator.config.names import did_you_mean
from migrator.config.problems import Keys, dotted
from migrator.config.profiles import profile
from migrator.config.services import JournalSettings, LiquibaseSettings, SigningSettings
from migrator.config.sources import Layer, flatten, merge, nest
from migrator.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Config:
    """migrator.toml, valid in itself. References are resolved when they are asked for, not before."""

    path: Path | None  # None: there is no file, everything is at its default
    base: Path  # the folder that relative paths are relative to
    liquibase: LiquibaseSettings
    sources: Mapping[str, str]  # dotted keys of liquibase, journal and signing -> where the value comes from
    _file: ConfigFile = field(repr=False)
    _where: Callable[[Keys], str] = field(repr=False)
    _environ: Mapping[str, str] = field(repr=False)
    _overrides: Layer = field(repr=False)

    @property
    def names(self) -> list[str]:
        """The environments of the file, in its order."""
        return list(self._file.environments)

    @property
    def state(self) -> Path:
        """The folder of everything that migrator keeps for itself. It need not exist yet."""
        return self.base / ".migrator"

    @property
    def journal(self) -> JournalSettings:
        """Raises: ConfigError when a variable of it is not set."""
        table = self._file.journal
        resolve = partial(references.resolve, environ=self._environ)
        where = self._where(("journal", "url"))
        password = None
        if table.password is not None:
            password = Secret(resolve(table.password, where=self._where(("journal", "password"))))
        return services.journal(resolve(table.url, where=where), password, where=where, base=self.base)

    @property
    def signing(self) -> SigningSettings:
        """The private key is resolved when it is read. Raises: ConfigError when a pattern names no public key."""
        key, where = self._file.signing.key, self._where(("signing", "key"))

        def read() -> Secret | None:
            return None if key is None else Secret(references.resolve(key, self._environ, where=where))

        patterns = self._file.signing.public_keys
        public = paths.matching(patterns, self.base, where=self._where(("signing", "public_keys")))
        attestations = paths.absolute(self._file.signing.attestations, self.base)
        return SigningSettings(public_keys=public, key_reference=key, attestations=attestations, _read=read)

    def environment(self, name: str, overrides: Mapping[str, object] | None = None) -> Environment:
        """The effective settings of one environment: default < profile < [defaults] < [environments.X] < command line.

        `overrides` are dotted keys and win over those that the configuration was loaded with.
        Raises: ConfigError for what is missing, unset or not allowed, naming its place.
        """
        table = self._file.environments.get(name)
        if table is None and name != targets.EMBEDDED:
            raise ConfigError(
                f"there is no environment {name!r} in {self.path or 'migrator.toml'}",
                hint=did_you_mean(name, {*self.names, targets.EMBEDDED}),
            )
        given = command_line.table({**self._overrides, **(overrides or {})})
        layers = [
            ("[defaults]", flatten(self._file.defaults)),
            (f"[environments.{name}]", flatten(table or EnvironmentTable())),
            (command_line.SOURCE, flatten(given)),
        ]
        chosen, _ = merge(layers)
        defaults = flatten(EnvironmentSettings(), only_set=False)
        profile_name = str(chosen.get("profile", defaults["profile"]))
        settings, source = profile(profile_name, protected=chosen.get("protected") is True)
        values, sources = merge([("default", defaults), (source, settings), *layers])
        if sources["backup.jobs"] == "default":
            values["backup.jobs"], sources["backup.jobs"] = values["jobs"], "jobs"
        return self._effective(name, values, sources)

    def _effective(self, name: str, values: Layer, sources: Mapping[str, str]) -> Environment:
        def where(key: str) -> str:
            source = sources.get(key, f"[environments.{name}]")
            if source == command_line.SOURCE:
                return command_line.option(key)
            owner = ("defaults",) if source == "[defaults]" else ("environments", name)
            return self._where((*owner, *key.split(".", 1)))

        resolved, found = references.resolve_all(values, self._environ, where)
        try:
            table = EnvironmentTable.model_validate(nest(resolved))
        except ValidationError as error:
            raise problems.explained(error, EnvironmentTable, lambda keys: where(dotted(keys))) from error
        login = targets.login(name, table, where, self.base)
        if login is not None:
            targets.check(login, table, self.journal.login, where)
        if table.protected and not table.backup.kinds:
            raise ConfigError(
                f"{where('backup.kinds')}: is empty, and the environment is protected",
                hint='write kinds = ["dump"]: only an environment that is not protected may go without a backup',
            )
        settings = {key: getattr(table, key) for key in EnvironmentSettings.model_fields}
        settings |= _absolute(table, self.base, where)
        return Environment(**settings, name=name, login=login, sources=sources, references=found)


def _absolute(table: EnvironmentTable, base: Path, where: targets.Where) -> dict[str, object]:
    """The sections that hold paths, each path absolute and each pattern replaced by the files that match."""
    outside = tuple(
        one.model_copy(update={"path": paths.absolute(one.path, base)}) if isinstance(one, FlagProvider) else one
        for one in table.maintenance.outside
    )
    checks = {
        "suites": paths.matching(table.checks.suites, base, where=where("checks.suites")),
        "invariants": paths.matching(table.checks.invariants, base, where=where("checks.invariants")),
    }
    store = str(paths.absolute(table.backup.store, base))
    return {
        "maintenance": table.maintenance.model_copy(update={"outside": outside}),
        "checks": table.checks.model_copy(update=checks),
        "backup": table.backup.model_copy(update={"store": store}),
    }
