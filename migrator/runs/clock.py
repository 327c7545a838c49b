"""The time of day as a run tells it: what is done to the machine's clock meanwhile does not show."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta


def steady() -> Callable[[], datetime]:
    """A clock that is right now, and goes on evenly from here."""
    began, at_s = datetime.now(UTC), time.monotonic()
    return lambda: began + timedelta(seconds=time.monotonic() - at_s)
