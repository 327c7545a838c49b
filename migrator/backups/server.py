"""What a backup of a whole server of RDS is about, whether that is an instance or a cluster."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Address:
    """Where a server answers."""

    host: str
    port: int


@dataclass(frozen=True, kw_only=True)
class Described:
    """An instance or a cluster, as it stands."""

    id: str
    resource_id: str  # which it keeps when it is renamed
    status: str
    address: Address
    retention_days: int  # of automated backups; 0: there are none
    restorable_until: datetime | None
    storage_gb: int  # 0 where it grows by itself
    summary: str  # one line for a person
    settings: Mapping[str, Any]  # all that RDS says, in JSON's types
    cluster: str | None = None  # of an instance: the cluster that it is a member of


@dataclass(frozen=True, kw_only=True)
class LeftBehind:
    """Something that is bound to an instance and does not follow its name."""

    what: str
    name: str
    then: str  # what becomes of it, or what to do

    def __str__(self) -> str:
        return f"{self.what} {self.name}: {self.then}"
