"""The database that an environment means, and what a target may not be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from migrator.config import references, urls
from migrator.config.login import Login, PasswordSource, Secret
from migrator.config.models import EnvironmentSettings, EnvironmentTable, JournalTable, SigningTable
from migrator.config.scratch import ScratchSettings
from migrator.errors import ConfigError

EMBEDDED = "local"  # the one environment that needs no url
RDS_IAM = "rds-iam"
_PROVES_THE_SERVER = ("verify-ca", "verify-full")
Where = Callable[[str], str]


def refuse_plain_secrets(
    table: EnvironmentTable | JournalTable | SigningTable | ScratchSettings, where: Where, *, in_file: bool = True
) -> None:
    """No secret stands in plain sight. Raises: ConfigError that does not repeat it."""
    seen = "whoever reads the file" if in_file else "every user of this machine"
    url = None if isinstance(table, SigningTable) else table.url
    if url is not None and not references.is_reference(url) and urls.has_password(references.blanked(url)):
        raise ConfigError(
            f"{where('url')}: the URL holds a password, which {seen} can see",
            hint='leave it out of the URL and write password = "${env:NAME}" in migrator.toml',
        )
    key, secret = ("key", table.key) if isinstance(table, SigningTable) else ("password", table.password)
    if secret is not None and not references.has_reference(secret):
        raise ConfigError(
            f"{where(key)}: a secret in plain sight, which {seen} can see",
            hint=f'put it into an environment variable and write {key} = "${{env:NAME}}"',
        )


def refuse_unavailable(table: EnvironmentTable | JournalTable, where: Where) -> None:
    """The table asks for no way to log in that does not exist, and for one alone. Raises: ConfigError."""
    if table.login is None:
        return
    if table.login != RDS_IAM:
        raise ConfigError(
            f"{where('login')}: there is no way to log in called {references.without_password(table.login)!r}",
            hint=f'write login = "{RDS_IAM}", or password = "${{env:NAME}}"',
        )
    if table.password is not None:
        raise ConfigError(
            f"{where('login')}: a password stands beside it",
            hint="a token is made for every connection: leave the password out",
        )


def login(
    name: str, table: EnvironmentTable, where: Where, base: Path, later: PasswordSource | None = None
) -> Login | None:
    """How the target is reached, from a table whose references are resolved; None: the embedded server.

    `later`: where the password comes from when it is needed. Raises: ConfigError.
    """
    if table.url is None:
        if name == EMBEDDED and table.login is None:
            return None
        raise ConfigError(
            f"{where('url')}: is missing",
            hint=f'write url = "postgresql://user@host:5432/database" under [environments.{name}], or give --url',
        )
    parsed = urls.parse(table.url, where=where("url"), base=base)
    if table.login == RDS_IAM:
        require_proof_of_server(parsed.login, where)
    password = Secret(table.password) if table.password is not None else parsed.password
    if later is None and password is not None and "\0" in password.reveal():
        raise ConfigError(f"{where('password')}: holds a NUL character")
    return Login(
        host=parsed.login.host,
        port=parsed.login.port,
        database=parsed.login.database,
        user=parsed.login.user,
        password=later or password,
        options=parsed.login.options,
    )


def require_proof_of_server(target: Login, where: Where) -> None:
    """A token is as good as a password: it is given to nobody who has not proved to be the server.

    Raises: ConfigError.
    """
    mode = target.options.get("sslmode", "verify-full")
    if mode not in _PROVES_THE_SERVER:
        raise ConfigError(
            f"{where('url')}: sslmode={mode} with login = {RDS_IAM!r} would give a token to whoever answers",
            hint="write ?sslmode=verify-full&sslrootcert=global-bundle.pem, the bundle that AWS publishes for RDS",
        )


def scratch_login(settings: ScratchSettings, base: Path) -> Login | None:
    """How the server for scratch databases is reached; None where none is named. Raises: ConfigError."""
    if settings.url is None:
        return None
    parsed = urls.parse(settings.url, where="scratch.url", base=base)
    password = Secret(settings.password) if settings.password is not None else parsed.password
    return replace(parsed.login, password=password)


def check(target: Login, settings: EnvironmentSettings, journal: Login | None, where: Where) -> None:
    """The target is a database that a run may change and rename. Raises: ConfigError."""
    name = target.database
    if name == "postgres" or name.startswith("template"):
        raise ConfigError(
            f"{where('url')}: the database {name!r} belongs to the server itself and is never a target",
            hint="name the application's database",
        )
    if name == settings.maintenance_database:
        raise ConfigError(
            f"{where('maintenance_database')}: {name!r} is the target itself",
            hint="the run's lock must outlive the target, which may be renamed: name another database, as postgres",
        )
    if journal is not None and (journal.host, journal.port, journal.database) == (target.host, target.port, name):
        raise ConfigError(
            f"{where('url')}: the journal's database is the target itself",
            hint="the journal must outlive a restore of the target: give journal.url another database",
        )
