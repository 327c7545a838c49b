"""Why a connection was refused: libpq's words as one line with a code, and what a person does next."""

from __future__ import annotations

import re
from collections.abc import Mapping

from migrator.config.login import Login
from migrator.errors import ConnectionFailed

# What libpq says (it gives no SQLSTATE here) -> code, and what a person does next.
_REFUSALS: Mapping[str, tuple[str, str]] = {
    r"password authentication failed": (
        "wrong_password",
        "Check the user and the password; `migrator config show` says where they come from.",
    ),
    r"PAM authentication failed": (  # of a token of RDS
        "wrong_password",
        "GRANT rds_iam TO this user, and allow it rds-db:connect on this instance: `migrator aws policy`.",
    ),
    r"no password supplied|empty password": ("no_password", "Give the environment a password, by a reference."),
    r'database ".*" does not exist': ("no_such_database", "Check the database's name in the URL, or create it."),
    r'role ".*" (does not exist|is not permitted to log in)': (
        "no_such_role",
        "Check the user's name, or create a role with LOGIN.",
    ),
    r"permission denied for database": (
        "no_connect_privilege",
        "Grant this role CONNECT; a database that a run has fenced off is shown by `migrator maintenance status`.",
    ),
    r"not currently accepting connections|cannot connect to invalid database": (
        "closed",
        "The database is closed to everybody; `migrator maintenance status` tells whether a run did it.",
    ),
    r"too many (clients|connections)|connection slots are reserved": (
        "too_many_connections",
        "End sessions or raise the limit of connections; a run needs about ten.",
    ),
    r"starting up|shutting down|in recovery mode|not yet accepting": ("starting_up", "Try again in a moment."),
    r"no pg_hba\.conf entry|pg_hba\.conf rejects": ("pg_hba", "Let this address in by the server's pg_hba.conf."),
    r"server does not support SSL": (
        "tls",
        "Turn TLS on at the server; sslmode=disable in the URL sends everything in the clear.",
    ),
    r"certificate|SSL|GSSAPI|TLS": (
        "tls",
        "Name the server's CA by sslrootcert in the URL; sslmode=require encrypts without proof of who answers.",
    ),
    r"failed to resolve|could not translate host|Name or service": ("unreachable", "Check the host's name."),
    r"Connection refused|timeout|timed out|unreachable|No route|reset by peer|closed the connection|No such file": (
        "unreachable",
        "Check host and port, that the server runs, and that no firewall lies between.",
    ),
}


def refusal(login: Login, said: str) -> ConnectionFailed:
    """The error for a connection of which libpq says this."""
    where = f"{login.database} at {login.host}:{login.port} as {login.user}"
    # After several addresses the last line speaks for all; libpq's own introduction repeats what `where` says.
    reason = re.sub(r"^.*?(?:FATAL|ERROR):\s+", "", one_line(said)) if "FATAL" in said else one_line(said)
    reason = re.sub(r'^(?:connection failed: )?(?:connection to server at "[^"]*"[^:]*failed: )?', "", reason)
    code, hint = "connection", "The server's log says more."
    reason = re.sub(r" Is the server running on that host and accepting TCP/IP connections\?$", "", reason)
    for pattern, (found, remedy) in _REFUSALS.items():
        if re.search(pattern, reason, re.IGNORECASE):
            code, hint = found, remedy
            break
    return ConnectionFailed(f"could not connect to {where}: {reason}", code=code, hint=hint)


def one_line(text: str) -> str:
    """The text without its line breaks."""
    return " ".join(text.split())
