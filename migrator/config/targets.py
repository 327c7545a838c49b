"""The database that an environment means, and what a target may not be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from migrator.config import references, urls
from migrator.config.login import Login, Secret
from migrator.config.models import EnvironmentSettings, EnvironmentTable, JournalTable, SigningTable
from migrator.errors import ConfigError

EMBEDDED = "local"  # the one environment that needs no url
Where = Callable[[str], str]


def refuse_plain_secrets(
    table: EnvironmentTable | JournalTable | SigningTable, where: Where, *, in_file: bool = True
) -> None:
    """No secret stands in plain sight. Raises: ConfigError that does not repeat it."""
    seen = "whoever reads the file" if in_file else "every user of this machine"
    url = None if isinstance(table, SigningTable) else table.url
    if url is not None and not references.is_reference(url) and urls.has_password(url):
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


def refuse_unavailable(table: EnvironmentTable, where: Where) -> None:
    """The table asks for no way to log in that does not exist. Raises: ConfigError."""
    if table.login is not None:
        raise ConfigError(
            f"{where('login')}: {table.login!r} is not available yet", hint='use password = "${env:NAME}"'
        )


def login(name: str, table: EnvironmentTable, where: Where, base: Path) -> Login | None:
    """How the target is reached, from a table whose references are resolved; None: the embedded server.

    Raises: ConfigError.
    """
    if table.url is None:
        if name == EMBEDDED:
            return None
        raise ConfigError(
            f"{where('url')}: is missing",
            hint=f'write url = "postgresql://user@host:5432/database" under [environments.{name}], or give --url',
        )
    parsed = urls.parse(table.url, where=where("url"), base=base)
    password = Secret(table.password) if table.password is not None else parsed.password
    if password is not None and "\0" in password.reveal():
        raise ConfigError(f"{where('password')}: holds a NUL character")
    return Login(
        host=parsed.login.host,
        port=parsed.login.port,
        database=parsed.login.database,
        user=parsed.login.user,
        password=password,
        options=parsed.login.options,
    )


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
