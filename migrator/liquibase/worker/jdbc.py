"""How a login is told to the PostgreSQL JDBC driver."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote

from migrator.errors import ConnectionFailed

_LOOPBACK = ("localhost", "127.0.0.1", "::1")
# libpq's names and the driver's; what is not here has no meaning for the driver
_RENAMED = {
    "sslmode": "sslmode",
    "sslcert": "sslcert",
    "sslkey": "sslkey",
    "sslpassword": "sslpassword",
    "sslrootcert": "sslrootcert",
    "connect_timeout": "connectTimeout",
    "gssencmode": "gssEncMode",
    "channel_binding": "channelBinding",
    "options": "options",
    "krbsrvname": "kerberosServerName",
}


def url(host: str, port: int, database: str) -> str:
    """The driver's URL, without user or password.

    Raises: ConnectionFailed for a Unix socket, which the driver cannot use.
    """
    if host.startswith(("/", "@")):
        raise ConnectionFailed(
            f"Liquibase's driver cannot connect through the Unix socket {host}",
            hint="Give the server's host name or 127.0.0.1.",
            code="unix_socket",
        )
    where = f"[{host}]" if ":" in host else quote(host, safe=".-_")
    return f"jdbc:postgresql://{where}:{port}/{quote(database, safe='')}"


def properties(
    *, host: str, user: str, password: str | None, options: Mapping[str, str], application_name: str
) -> dict[str, str]:
    """The driver's connection properties. TLS as everywhere in migrator: verify-full off loopback unless chosen."""
    chosen = {
        "user": user,
        "ApplicationName": application_name,
        "connectTimeout": "10",
        "loginTimeout": "30",
        "socketTimeout": "0",
        "tcpKeepAlive": "true",
        "assumeMinServerVersion": "14",
        # plans that outlive a DDL statement fail, and values are wanted as PostgreSQL prints them
        "prepareThreshold": "0",
        "binaryTransfer": "false",
        "gssEncMode": "disable",
        "sslmode": "prefer" if host in _LOOPBACK else "verify-full",
    }
    if password is not None:
        chosen["password"] = password
    chosen |= {_RENAMED[name]: value for name, value in options.items() if name in _RENAMED}
    if chosen.get("sslrootcert") == "system":
        del chosen["sslrootcert"]
        chosen["sslfactory"] = "org.postgresql.ssl.DefaultJavaSSLFactory"
    return chosen
