"""What a zone's clock shows, and when. Daylight saving makes some times come twice, and some not at all."""

from __future__ import annotations

import zoneinfo
from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

from migrator.config.names import nearest

_A_SECOND = timedelta(seconds=1)


def zone(key: str) -> ZoneInfo:
    """The IANA zone of that name. Raises: ValueError naming the nearest."""
    try:
        return ZoneInfo(key)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):  # a folder of the database is no zone either
        meant = nearest(key, zoneinfo.available_timezones())
        advice = f"did you mean {meant!r}?" if meant else "write a name of the IANA database, for example Europe/Berlin"
        raise ValueError(f"there is no time zone {key!r}; {advice}") from None


def first_shown(wall: datetime, where: tzinfo) -> datetime:
    """The first moment (UTC) at which the clock there shows `wall`, which is naive, or has jumped past it.

    So a time that comes twice means the first one, and one that is skipped means the moment of the jump. A later
    `wall` is never an earlier moment.
    """
    early = wall.replace(tzinfo=where, fold=0).astimezone(UTC)
    if shown(early, where) == wall:
        return early
    # Skipped: read with the offset from after the jump it lies before it, with the one from before, after it.
    before = wall.replace(tzinfo=where, fold=1).astimezone(UTC)
    after = early
    while after - before > _A_SECOND:
        middle = before + timedelta(seconds=(after - before) // _A_SECOND // 2)
        before, after = (before, middle) if shown(middle, where) >= wall else (middle, after)
    return after


def shown(moment: datetime, where: tzinfo) -> datetime:
    """What the clock there shows at the moment, without its zone."""
    return moment.astimezone(where).replace(tzinfo=None, fold=0)
