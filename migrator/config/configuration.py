"""A valid migrator.toml, made effective for one environment at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from pydantic import ValidationError

from migrator.config import gate_settings, paths, problems, rds, references, services, targets
from migrator.config import overrides as command_line
from migrator.config.aws import AwsSettings
from migrator.config.login import Login, PasswordSource, Secret
from migrator.config.models import (
    ConfigFile,
    Environment,
    EnvironmentSettings,
    EnvironmentTable,
    FlagProvider,
    JournalTable,
)
from migrator.config.names import did_you_mean
from migrator.config.problems import Keys, dotted
from migrator.config.profiles import profile
from migrator.config.remote import Pointer, Remote, StandIn
from migrator.config.services import JournalSettings, LiquibaseSettings, SigningSettings
from migrator.config.sources import Layer, flatten, merge, nest
from migrator.config.store import is_s3
from migrator.errors import ConfigError

_SOME_URL = "postgresql://unknown@unknown/unknown"  # of a URL that stands at AWS and is only shown


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
    _remote: Remote | None = field(default=None, repr=False)

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
        where = self._where(("journal", "url"))
        if self._masks(table.url):
            return JournalSettings(login=None, shown=references.MASK, _read=lambda: references.MASK)

        place = self._where(("journal", "password"))

        def password() -> Secret | None:
            return None if table.password is None else Secret(self._resolved(table.password, place))

        found = services.journal(
            self._resolved(table.url, where),
            password,
            where=where,
            base=self.base,
            later=self._journals_password(table, place),
        )
        return replace(found, reference=table.password, by_token=table.login == targets.RDS_IAM)

    def _journals_password(self, table: JournalTable, place: str) -> Callable[[Login], PasswordSource] | None:
        """Where the journal's password comes from, if it does not last. Raises: ConfigError."""
        if table.login == targets.RDS_IAM:

            def token(login: Login) -> PasswordSource:
                targets.require_proof_of_server(login, lambda key: self._where(("journal", key)))
                return self._asked(self._where(("journal", "login"))).token(login, self._own_aws())

            return token
        found = None if table.password is None else references.only_remote(table.password, where=place)
        return None if found is None else lambda _: self._asked(place).password(found, self._own_aws(), where=place)

    @property
    def signing(self) -> SigningSettings:
        """The private key is resolved when it is read. Raises: ConfigError when a pattern names no public key."""
        key, where = self._file.signing.key, self._where(("signing", "key"))

        def read() -> Secret | None:
            return None if key is None else Secret(self._resolved(key, where))

        patterns = self._file.signing.public_keys
        public = paths.matching(patterns, self.base, where=self._where(("signing", "public_keys")))
        attestations = paths.absolute(self._file.signing.attestations, self.base)
        return SigningSettings(public_keys=public, key_reference=key, attestations=attestations, _read=read)

    @property
    def gates_given(self) -> list[str]:
        """The settings of the command line that say what a run has to pass, as dotted keys."""
        services = {key: None for key, source in self.sources.items() if source == command_line.SOURCE}
        return gate_settings.among({**self._overrides, **services})

    def environment(self, name: str, overrides: Mapping[str, object] | None = None) -> Environment:
        """The effective settings of one environment: default < profile < [defaults] < [environments.X] < command line.

        `overrides` are dotted keys and win over those that the configuration was loaded with.
        Raises: ConfigError for what is missing, unset or not allowed, naming its place.
        """
        values, sources = self._merged(name, overrides or {})
        table = self._file.environments.get(name, EnvironmentTable())
        if {**flatten(self._file.defaults), **flatten(table)}.get("protected") is True:
            gate_settings.refuse(name, [*self.gates_given, *gate_settings.among(overrides or {})])
        if sources["backup.jobs"] == "default":
            values["backup.jobs"], sources["backup.jobs"] = values["jobs"], "jobs"
        if sources["backup.kinds"].startswith("profile online") and rds.is_endpoint_of(values.get("url")):
            values["backup.kinds"], sources["backup.kinds"] = ("pitr",), "profile online, at RDS"
        return self._effective(name, values, sources)

    def settings(self, name: str | None) -> EnvironmentSettings:
        """The settings of an environment, or for None what all share, for work that reaches nothing and nobody.

        References stay as they are written, and so do paths. Raises: ConfigError.
        """
        values, _ = self._merged(name, {})
        own = {key: value for key, value in values.items() if key.partition(".")[0] in EnvironmentSettings.model_fields}
        return EnvironmentSettings.model_validate(nest(own))

    def _merged(self, name: str | None, overrides: Mapping[str, object]) -> tuple[dict[str, object], dict[str, str]]:
        """Every setting of the environment, and where its value comes from. Raises: ConfigError."""
        table = None if name is None else self._file.environments.get(name)
        if table is None and name not in (None, targets.EMBEDDED):
            if self.path is None:
                raise ConfigError(
                    f"there is no environment {name!r}: the folder {self.base} has no migrator.toml",
                    hint="go to the folder that has it, give --config PATH, or write one: migrator init",
                )
            raise ConfigError(
                f"there is no environment {name!r} in {self.path}",
                hint=did_you_mean(str(name), {*self.names, targets.EMBEDDED}),
            )
        given = command_line.table({**self._overrides, **overrides})
        layers = [
            ("[aws]", {f"aws.{key}": value for key, value in flatten(self._file.aws).items()}),
            ("[defaults]", flatten(self._file.defaults)),
            (f"[environments.{name}]", flatten(table or EnvironmentTable())),
            (command_line.SOURCE, flatten(given)),
        ]
        chosen, _ = merge(layers)
        defaults = flatten(EnvironmentSettings(), only_set=False)
        profile_name = str(chosen.get("profile", defaults["profile"]))
        settings, source = profile(profile_name, protected=chosen.get("protected") is True)
        return merge([("default", defaults), (source, settings), *layers])

    def _effective(self, name: str, values: Layer, sources: Mapping[str, str]) -> Environment:
        def where(key: str) -> str:
            source = sources.get(key, f"[environments.{name}]")
            if source == command_line.SOURCE:
                return command_line.option(key)
            if source == "[aws]":
                return self._where(tuple(key.split(".", 1)))
            owner = ("defaults",) if source == "[defaults]" else ("environments", name)
            return self._where((*owner, *key.split(".", 1)))

        aws = self._aws(values, where)
        later = {key: values[key] for key in ("password",) if references.has_remote(values.get(key, ""))}
        if self._masks(values.get("url", "")):
            later["url"] = _SOME_URL
        resolved, found = references.resolve_all(
            {key: value for key, value in values.items() if key not in later},
            where,
            partial(self._resolved, aws=aws),
        )
        resolved |= later
        found |= {key: str(values[key]) for key in later}
        try:
            table = EnvironmentTable.model_validate(nest(resolved))
        except ValidationError as error:
            raise problems.explained(error, EnvironmentTable, lambda keys: where(dotted(keys))) from error
        login = targets.login(name, table, where, self.base, self._password(later.get("password"), aws, where))
        if login is not None and table.login == targets.RDS_IAM:
            login = replace(login, password=self._asked(where("login")).token(login, aws))
        if login is not None:
            targets.check(login, table, self.journal.login, where)
        if table.protected and not table.backup.kinds:
            raise ConfigError(
                f"{where('backup.kinds')}: is empty, and the environment is protected",
                hint='write kinds = ["dump"]: only an environment that is not protected may go without a backup',
            )
        settings = {key: getattr(table, key) for key in EnvironmentSettings.model_fields}
        settings |= _absolute(table, self.base, where, found)
        return Environment(**settings, name=name, login=login, sources=sources, references=found)

    def _aws(self, values: Layer, where: targets.Where) -> AwsSettings:
        """How AWS is reached; said without any help from AWS. Raises: ConfigError."""
        own = {key: value for key, value in values.items() if key.startswith("aws.")}
        resolved, _ = references.resolve_all(own, where, partial(references.resolve_here, environ=self._environ))
        try:
            return EnvironmentTable.model_validate(nest(resolved)).aws
        except ValidationError as error:
            raise problems.explained(error, EnvironmentTable, lambda keys: where(dotted(keys))) from error

    def _password(self, text: object, aws: AwsSettings, where: targets.Where) -> PasswordSource | None:
        """Where a password that stands at AWS comes from. Raises: ConfigError."""
        if text is None:
            return None
        place = where("password")
        found = references.only_remote(str(text), where=place)
        if found is None:
            raise ConfigError(
                f"{place}: a reference to AWS and something else", hint="write the reference alone, as ${ssm:/shop/db}"
            )
        return self._asked(place).password(found, aws, where=place)

    def _resolved(self, text: str, where: str, aws: AwsSettings | None = None) -> str:
        def lookup(pointer: Pointer, where: str) -> str:
            return self._asked(where).value(pointer, aws or self._own_aws(), where=where)

        return references.resolve(text, self._environ, where=where, lookup=lookup)

    def _own_aws(self) -> AwsSettings:
        """How AWS is reached for what belongs to no environment."""
        given = {key: value for key, value in self._overrides.items() if key.startswith("aws.")}
        layers = [
            ("[aws]", {f"aws.{key}": value for key, value in flatten(self._file.aws).items()}),
            (command_line.SOURCE, flatten(command_line.table(given))),
        ]
        values, sources = merge(layers)
        return self._aws(values, lambda key: command_line.option(key) if sources[key] == command_line.SOURCE else key)

    def _asked(self, where: str) -> Remote:
        if self._remote is None:
            raise ConfigError(f"{where}: what stands at AWS cannot be used here")
        return self._remote

    def _masks(self, text: object) -> bool:
        return isinstance(self._remote, StandIn) and references.has_remote(text)


def _absolute(table: EnvironmentTable, base: Path, where: targets.Where, found: Mapping[str, str]) -> dict[str, object]:
    """The sections that hold paths, each path absolute and each pattern replaced by the files that match.

    `found` are the texts that held references, by dotted key.
    """
    outside = tuple(
        one.model_copy(update={"path": paths.absolute(one.path, base)}) if isinstance(one, FlagProvider) else one
        for one in table.maintenance.outside
    )
    checks = {
        "suites": paths.matching(
            table.checks.suites, base, where=where("checks.suites"), shown=found.get("checks.suites")
        ),
        "invariants": paths.matching(
            table.checks.invariants, base, where=where("checks.invariants"), shown=found.get("checks.invariants")
        ),
    }
    store = table.backup.store
    store = store if is_s3(store) else str(paths.absolute(store, base))
    return {
        "maintenance": table.maintenance.model_copy(update={"outside": outside}),
        "checks": table.checks.model_copy(update=checks),
        "backup": table.backup.model_copy(update={"store": store}),
    }
