"""The instance or cluster of RDS that a database stands on: named, or derived from the endpoint in its URL."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, StringConstraints

from migrator.config.settings import Seconds, Settings

RdsId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z](-?[A-Za-z0-9])*$", max_length=63)]
_ENDPOINT = re.compile(
    r"(?P<id>[a-z0-9-]+)\.(?:(?P<what>cluster-ro|cluster-custom|cluster|proxy)-)?[a-z0-9]+"
    r"\.(?P<region>[a-z]{2}(?:-[a-z]+)+-\d)\.rds\.amazonaws\.com(?:\.cn)?"
)


class RdsSettings(Settings):
    """What backup.kinds rds, aurora and pitr work with."""

    instance: RdsId | None = None
    """The instance's identifier. Default: what the URL's endpoint says."""
    cluster: RdsId | None = None
    """The cluster's identifier, for Aurora. Default: what the URL's endpoint says."""
    snapshot_timeout_s: Seconds = 7200.0
    """Seconds that a snapshot may take."""
    restore_timeout_s: Seconds = 14400.0
    """Seconds that a restored instance may take until it is available."""
    poll_s: Seconds = 30.0
    """Seconds between two looks at a snapshot or an instance."""
    min_retention_days: Annotated[int, Field(strict=True, ge=1, le=35)] = 1
    """Days that automated backups must be kept, for pitr."""
    max_lag_s: Seconds = 900.0
    """Seconds that the latest restorable time may lie behind, for pitr; RDS itself takes about five minutes."""
    min_free_percent: Annotated[int, Field(strict=True, ge=0, le=99)] = 10
    """Of the instance's storage; less than that is refused. RDS stops an instance that is full."""


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """What an endpoint of RDS says of itself."""

    kind: Literal["instance", "cluster", "reader", "custom", "proxy"]
    id: str  # of the instance, the cluster or the proxy
    region: str


def endpoint(host: str) -> Endpoint | None:
    """What the host's name says; None where it is no endpoint of RDS, as a name of the user's own."""
    found = _ENDPOINT.fullmatch(host.lower())
    if found is None:
        return None
    kinds: dict[str | None, Literal["instance", "cluster", "reader", "custom", "proxy"]] = {
        None: "instance",
        "cluster": "cluster",
        "cluster-ro": "reader",
        "cluster-custom": "custom",
        "proxy": "proxy",
    }
    return Endpoint(kind=kinds[found["what"]], id=found["id"], region=found["region"])


def is_endpoint_of(url: object) -> bool:
    """Whether the URL names an endpoint of RDS; not where it is a reference, or not known."""
    try:
        host = urlsplit(url).hostname if isinstance(url, str) else None
    except ValueError:
        return False
    return host is not None and endpoint(host) is not None
