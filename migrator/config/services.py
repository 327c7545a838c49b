"""What belongs to the whole of migrator.toml and not to one environment: Liquibase, the journal, signing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from migrator.config import urls
from migrator.config.login import Login, Secret
from migrator.errors import ConfigError

_LOOPBACK = ("localhost", "::1", "127.0.0.1")


@dataclass(frozen=True, kw_only=True)
class LiquibaseSettings:
    version: str
    home: Path | None  # an existing installation; then version does not count
    java_home: Path | None
    root: Path


@dataclass(frozen=True, kw_only=True)
class JournalSettings:
    login: Login | None  # of a journal in PostgreSQL; None for SQLite
    shown: str  # the URL without its password
    _read: Callable[[], str | Secret] = field(repr=False)

    @property
    def url(self) -> str | Secret:
        """In SQLAlchemy's words; a Secret where it may hold a password. Raises: ConfigError, ConnectionFailed."""
        return self._read()


@dataclass(frozen=True, kw_only=True)
class SigningSettings:
    public_keys: tuple[Path, ...]
    key_reference: str | None  # the text in the file, as ${env:MIGRATOR_SIGNING_KEY}
    attestations: Path  # the folder of attestations; it need not exist
    _read: Callable[[], Secret | None] = field(repr=False)

    @property
    def key(self) -> Secret | None:
        """The private key, or None where none is configured. Raises: ConfigError when its variable is not set."""
        return self._read()


def journal(url: str, password: Callable[[], Secret | None], *, where: str, base: Path) -> JournalSettings:
    """The journal's address; its password is asked for with its URL, not before. Raises: ConfigError."""
    if url.startswith("sqlite:"):
        if not url.startswith("sqlite:///") or len(url) == len("sqlite:///"):
            raise ConfigError(f"{where}: names no file", hint="write sqlite:///path/to/journal.db")
        return JournalSettings(login=None, shown=url, _read=lambda: url)
    scheme, _, rest = url.partition("://")
    if scheme not in ("postgresql", "postgres", "postgresql+psycopg"):
        raise ConfigError(
            f"{where}: this is no journal URL", hint="write sqlite:///path or postgresql://user@host/database"
        )
    parsed = urls.parse(f"postgresql://{rest}", where=where, base=base)
    login = parsed.login
    options = dict(login.options)
    if login.host not in _LOOPBACK and not login.host.startswith("/"):
        options.setdefault("sslmode", "verify-full")
    host = f"[{login.host}]" if ":" in login.host else login.host
    if login.host.startswith("/"):
        host, options["host"] = "", login.host
    query = "&".join(f"{key}={quote(value, safe='')}" for key, value in options.items())

    def read() -> Secret:
        secret = password() or parsed.password
        user = quote(login.user, safe="") + (f":{quote(secret.reveal(), safe='')}" if secret else "")
        text = f"postgresql+psycopg://{user}@{host}:{login.port}/{quote(login.database, safe='')}"
        return Secret(f"{text}?{query}" if query else text)

    return JournalSettings(login=login, shown=urls.render(login), _read=read)
