"""Database URLs as people write them: postgresql://user@host:port/database?sslmode=verify-full."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from urllib.parse import quote, unquote

from migrator.config.login import Login, Secret
from migrator.config.names import did_you_mean
from migrator.config.settings import LONGEST_NAME_BYTES
from migrator.errors import ConfigError

_SHAPE = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+]*)://(?P<authority>[^/?#]*)(/(?P<database>[^?#]*))?(\?(?P<query>[^#]*))?"
)
_EXAMPLE = "write postgresql://user@host:5432/database"
_SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_FILES = ("sslrootcert", "sslcert", "sslkey", "sslcrl", "sslcrldir")
_OPTIONS = (
    "sslmode",
    *_FILES,
    "ssl_min_protocol_version",
    "ssl_max_protocol_version",
    "sslnegotiation",
    "sslsni",
    "channel_binding",
    "gssencmode",
    "krbsrvname",
    "require_auth",
    "target_session_attrs",
    "hostaddr",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_count",
    "tcp_user_timeout",
)
_OWN = {
    "application_name": "migrator names its own sessions",
    "options": "migrator sets every session's settings itself",
    "connect_timeout": "set limits.connect_timeout_s",
}


@dataclass(frozen=True, kw_only=True)
class ParsedUrl:
    """The parts of a database URL, percent-decoding undone."""

    login: Login
    password: Secret | None


def has_password(url: str) -> bool:
    """Whether the URL carries a password, malformed or not; errs on the side of yes."""
    rest = url.partition("://")[2] or url
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    user = rest.rpartition("@")[0] if "@" in rest and "@" not in authority else authority.rpartition("@")[0]
    return ":" in user or re.search(r"[?&](ssl)?password=", url) is not None


def parse(url: str, *, where: str, base: Path) -> ParsedUrl:
    """The login that the URL describes; file options become absolute below `base`.

    Raises: ConfigError that names `where` and never repeats the URL, which may hold a password.
    """
    url = url.strip()
    if any(ord(character) < 32 or ord(character) == 127 for character in url):
        raise ConfigError(f"{where}: the URL holds a control character", hint=_EXAMPLE)
    if "#" in url:
        raise ConfigError(f"{where}: the URL holds a '#'", hint="in a name, write it as %23")
    shape = _SHAPE.fullmatch(url)
    if shape is None:
        raise ConfigError(f"{where}: this is no database URL", hint=_EXAMPLE)
    if shape["scheme"] not in ("postgresql", "postgres"):
        raise ConfigError(f"{where}: the URL's scheme {shape['scheme']!r} is not postgresql", hint=_EXAMPLE)
    user, password, place = _authority(shape["authority"], where)
    host, port = _place(place, where)
    database = _decoded(shape["database"] or "", "database", where)
    if not user:
        raise ConfigError(f"{where}: the URL names no user", hint=_EXAMPLE)
    if not database:
        raise ConfigError(f"{where}: the URL names no database", hint=_EXAMPLE)
    for kind, name in (("database", database), ("user", user)):
        if len(name.encode()) > LONGEST_NAME_BYTES:
            raise ConfigError(
                f"{where}: the {kind}'s name is longer than {LONGEST_NAME_BYTES} bytes",
                hint="PostgreSQL cuts longer names off: write the name as the server shows it",
            )
    login = Login(
        host=host,
        port=port,
        database=database,
        user=user,
        options=MappingProxyType(_options(shape["query"] or "", where, base)),
    )
    return ParsedUrl(login=login, password=password)


def render(login: Login) -> str:
    """The URL that `parse` reads back to the same login, without the password."""
    host = f"[{login.host}]" if ":" in login.host else quote(login.host, safe="")
    query = "&".join(f"{key}={quote(value, safe='/')}" for key, value in login.options.items())
    start = f"postgresql://{quote(login.user, safe='')}@{host}:{login.port}/{quote(login.database, safe='')}"
    return f"{start}?{query}" if query else start


def _decoded(text: str, part: str, where: str) -> str:
    try:
        value = unquote(text, errors="strict")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{where}: the URL's {part} is not UTF-8 after percent-decoding", hint=_EXAMPLE) from error
    if "\0" in value:
        raise ConfigError(f"{where}: the URL's {part} holds a NUL character", hint=_EXAMPLE)
    return value


def _authority(authority: str, where: str) -> tuple[str, Secret | None, str]:
    userinfo, at, place = authority.rpartition("@")
    if not at:
        return "", None, authority
    user, colon, password = userinfo.partition(":")
    secret = Secret(_decoded(password, "password", where)) if colon else None
    return _decoded(user, "user", where), secret, place


def _place(place: str, where: str) -> tuple[str, int]:
    if "," in place:
        raise ConfigError(
            f"{where}: the URL names several hosts", hint="name the one server that the run is to work on"
        )
    bracketed = re.fullmatch(r"\[([0-9A-Fa-f:.%]+)\](?::(.*))?", place)
    if bracketed:
        host, port = bracketed[1], bracketed[2]
    else:
        host, _, port = place.partition(":")
        host = _decoded(host, "host", where)
    if not host:
        raise ConfigError(f"{where}: the URL names no host", hint=_EXAMPLE)
    if not port:
        return host, 5432
    if not re.fullmatch(r"[0-9]{1,5}", port) or not 0 < int(port) < 65536:
        raise ConfigError(f"{where}: the URL's port is not a number from 1 to 65535", hint=_EXAMPLE)
    return host, int(port)


def _options(query: str, where: str, base: Path) -> dict[str, str]:
    options: dict[str, str] = {}
    for pair in filter(None, query.split("&")):
        key, _, text = pair.partition("=")
        if "password" in key:
            raise ConfigError(
                f"{where}: the URL holds a password among its options", hint='write password = "${env:NAME}"'
            )
        value = _decoded(text, f"option {key}", where)
        if key in _OWN:
            raise ConfigError(f"{where}: the URL's option {key!r} is not for the URL", hint=_OWN[key])
        if key not in _OPTIONS:
            raise ConfigError(f"{where}: unknown option {key!r} in the URL", hint=did_you_mean(key, _OPTIONS))
        if key in options:
            raise ConfigError(f"{where}: the URL's option {key!r} stands twice")
        if not value:
            raise ConfigError(f"{where}: the URL's option {key!r} is empty")
        if key == "sslmode" and value not in _SSL_MODES:
            raise ConfigError(f"{where}: unknown sslmode {value!r}", hint=did_you_mean(value, _SSL_MODES))
        if key in _FILES and value != "system":
            value = str(base / value)
        options[key] = value
    return options
