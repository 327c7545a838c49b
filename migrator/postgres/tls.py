"""How a connection is encrypted, and by what the server proves who it is."""

from __future__ import annotations

import ipaddress
import ssl
from pathlib import Path

from migrator.config.login import Login

_SYSTEM_CERTIFICATES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
    "/etc/ssl/ca-bundle.pem",
)


def tls_options(login: Login) -> dict[str, str]:
    """`sslmode` and `sslrootcert` as libpq and pgjdbc understand them: what the login says, else safe defaults.

    Off this machine the server proves who it is (`verify-full`), by the system's certificates where no others are
    named; on this machine TLS is used if the server offers it.
    """
    stated = {name: login.options[name] for name in ("sslmode", "sslrootcert") if name in login.options}
    if "sslmode" not in stated:
        stated["sslmode"] = "prefer" if is_loopback(login.options.get("hostaddr", login.host)) else "verify-full"
    if stated["sslmode"].startswith("verify-") and "sslrootcert" not in stated:
        own = Path.home() / ".postgresql" / "root.crt"
        bundle = own if own.is_file() else _system_certificates()
        if bundle is not None:
            stated["sslrootcert"] = str(bundle)
    return stated


def is_loopback(host: str) -> bool:
    """Whether the connection stays on this machine; a Unix socket's folder does."""
    if host.startswith(("/", "@")) or host.lower() in ("", "localhost", "localhost."):
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _system_certificates() -> Path | None:
    paths = ssl.get_default_verify_paths()
    for candidate in (paths.cafile, *_SYSTEM_CERTIFICATES):
        if candidate and Path(candidate).is_file():
            return Path(candidate)
    return None
