"""Whether the server that the url reaches is the one that RDS was asked about, where the url's name does not say it.

A name of one's own, a proxy's, or a tunnel's end leads anywhere. So the server itself is asked: for its own address,
which the endpoint's name must lead to inside the VPC; for the instance that Aurora says it is; and for what every
server of RDS has.
"""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass

from migrator.backups.server import Described
from migrator.config.login import Login
from migrator.config.rds import endpoint
from migrator.errors import Refused
from migrator.postgres.session import Session

_ASKED = """
    SELECT host(inet_server_addr()), current_setting('server_version_num')::int / 10000,
           EXISTS (SELECT FROM pg_roles WHERE rolname = 'rds_superuser'),
           to_regprocedure('aurora_db_instance_identifier()') IS NOT NULL
"""
_OF_AURORA = "SELECT aurora_db_instance_identifier()"


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What the server says of itself."""

    address: str | None  # its own, whatever lies between; None over a socket
    major: int
    is_rds: bool
    aurora_id: str | None  # of the instance of Aurora that answers


def ask(session: Session) -> Seen:
    """Raises: StepFailed."""
    [(address, major, is_rds, is_aurora)] = session.rows(_ASKED)
    return Seen(
        address=address,
        major=int(major or 0),
        is_rds=is_rds == "t",
        aurora_id=session.rows(_OF_AURORA)[0][0] if is_aurora == "t" else None,
    )


def is_proven(login: Login, found: Described, session: Session) -> bool:
    """Whether the url's server is this one; False where neither its name nor the server itself tells.

    Raises: Refused where it is another one; StepFailed.
    """
    if is_reached_by(login, found):
        return True
    seen = ask(session)
    why = difference(seen, found)
    if why is not None:
        raise Refused(
            f"The url's {login.host} leads to another server than {found.id}: {why}.",
            hint="Correct rds.instance (or rds.cluster), or the url: else another server would be backed up.",
            code="rds_another",
        )
    return seen.aurora_id is not None or seen.address in _addresses(found.address.host)


def difference(seen: Seen, found: Described) -> str | None:
    """Why the server that answered cannot be this one; None where nothing speaks against it."""
    version = str(found.settings.get("EngineVersion", ""))
    if not seen.is_rds:
        return "what answers is no server of RDS"
    if version.split(".", maxsplit=1)[0] not in ("", str(seen.major)):
        return f"it has PostgreSQL {seen.major}, and {found.id} has {version}"
    members = [one.get("DBInstanceIdentifier") for one in found.settings.get("DBClusterMembers") or ()]
    if seen.aurora_id is not None and seen.aurora_id not in (found.id, *members):
        return f"it is the instance {seen.aurora_id} of Aurora"
    there = _addresses(found.address.host)
    comparable = seen.aurora_id is None and seen.address is not None and there and all(map(_is_private, there))
    if comparable and seen.address not in there:
        return f"its address is {seen.address}, and {found.address.host} leads to {', '.join(sorted(there))}"
    return None


def is_reached_by(login: Login, found: Described) -> bool:
    """Whether the login's host is the server, by its name or by its address; False where that cannot be told."""
    host, there = login.host, found.address
    if host.lower() == there.host.lower():
        return True
    told = endpoint(host)
    if told is not None and told.kind == "reader" and told.id == found.id:
        return True
    return login.port == there.port and bool(_addresses(host) & _addresses(there.host))


def _addresses(host: str) -> set[str]:
    """Where the name leads, from here; empty where it leads nowhere."""
    try:
        return {str(one[4][0]) for one in socket.getaddrinfo(host, None)} if host else set()
    except OSError:
        return set()


def _is_private(address: str) -> bool:
    return ipaddress.ip_address(address.partition("%")[0]).is_private
