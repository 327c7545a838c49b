"""Moments as a person gives them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from migrator.errors import UsageError

_AHEAD = re.compile(r"\+(\d{1,6})([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def until(text: str, now: datetime) -> datetime:
    """The moment in UTC: +30m (s, m, h, d) from `now`, or an ISO time, which is local where it names no zone.

    Raises: UsageError for what is neither, and for what has passed.
    """
    ahead = _AHEAD.fullmatch(text.strip())
    if ahead is not None:
        return now.astimezone(UTC) + timedelta(**{_UNITS[ahead[2]]: int(ahead[1])})
    try:
        moment = datetime.fromisoformat(text.strip()).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise UsageError(
            f"{text!r} is not a time", hint="write +30m, +2h, 2026-11-24T06:00 or 2026-11-24T06:00+01:00"
        ) from error
    if moment <= now:
        raise UsageError(f"{text} has passed already", hint=f"it is {now.astimezone():%Y-%m-%dT%H:%M:%S%z} now")
    return moment
