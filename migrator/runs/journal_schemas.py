"""The schema that the last verified run of a database left, as the journal keeps it: compressed, one a database."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

KEPT_DATABASES = 100  # the oldest are forgotten: databases of tests and rehearsals come and go
_LEVEL = 6


@dataclass(frozen=True, kw_only=True)
class KeptSchema:
    """What a database's schema is compared with."""

    run_id: str | None  # that left it; None: a person accepted it as it was
    at: datetime  # when the journal learned of it
    note: str | None  # why it was accepted
    objects: Mapping[str, str] = field(repr=False)  # of its fingerprint

    def __str__(self) -> str:
        """`the schema that ...`"""
        when = f"{self.at:%Y-%m-%d %H:%M} UTC"
        if self.run_id is not None:
            return f"the schema that run {self.run_id} left ({when})"
        return f"the schema that was accepted on {when} ({self.note})"


def packed(objects: Mapping[str, str]) -> bytes:
    return zlib.compress(json.dumps(dict(sorted(objects.items())), ensure_ascii=False).encode(), _LEVEL)


def unpacked(data: bytes) -> dict[str, str]:
    """Raises: ValueError when the data are damaged."""
    try:
        found = json.loads(zlib.decompress(data))
    except zlib.error as error:
        raise ValueError(f"it cannot be unpacked ({error})") from error
    return {str(identity): str(line) for identity, line in found.items()}
