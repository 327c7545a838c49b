"""What belongs to the whole of migrator.toml and not to one environment: Liquibase, the journal, signing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import quote

from migrator.config import urls
from migrator.config.login import Login, PasswordSource, Secret
from migrator.errors import ConfigError

_LOOPBACK = ("localhost", "::1", "127.0.0.1")


@dataclass(frozen=True, kw_only=True)
class LiquibaseSettings:
    version: str
    home: Path | None  # an existing installation; then version does not count
    java_home: Path | None
    root: Path


@dataclass(frozen=True, kw_only=True)
class JournalAddress:
    """A journal in PostgreSQL whose password does not last: it is asked for with every connection."""

    url: str  # in SQLAlchemy's words, without a password
    login: Login


@dataclass(frozen=True, kw_only=True)
class JournalSettings:
    login: Login | None  # of a journal in PostgreSQL; None for SQLite
    shown: str  # the URL without its password
    _read: Callable[[], str | Secret | JournalAddress] = field(repr=False)
    reference: str | None = None  # the text of its password in the file, as ${env:JOURNAL_PASSWORD}
    by_token: bool = False  # of RDS, in place of a password

    @property
    def url(self) -> str | Secret | JournalAddress:
        """In SQLAlchemy's words; a Secret where it may hold a password. Raises: ConfigError."""
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


def journal(
    url: str,
    password: Callable[[], Secret | None],
    *,
    where: str,
    base: Path,
    later: Callable[[Login], PasswordSource] | None = None,
) -> JournalSettings:
    """The journal's address; its password is asked for with its URL, not before.

    `later`: where a password comes from that does not last. Raises: ConfigError.
    """
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

    def address(secret: Secret | None) -> str:
        user = quote(login.user, safe="") + (f":{quote(secret.reveal(), safe='')}" if secret else "")
        text = f"postgresql+psycopg://{user}@{host}:{login.port}/{quote(login.database, safe='')}"
        return f"{text}?{query}" if query else text

    def read() -> Secret | JournalAddress:
        if later is None:
            return Secret(address(password() or parsed.password))
        return JournalAddress(url=address(None), login=replace(login, password=later(login)))

    return JournalSettings(login=login, shown=urls.render(login), _read=read)
