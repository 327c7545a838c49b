"""When users may be disturbed: windows that come every week, or one that was announced."""

from __future__ import annotations

import re
from datetime import datetime, time, timedelta, tzinfo
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, model_validator

from migrator.config import zones
from migrator.config.names import did_you_mean
from migrator.config.settings import Settings, Text

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")  # in the order of date.weekday()
_DAY_NAMES = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_CLOCK = re.compile(r"(?:[01]\d|2[0-3]):[0-5]\d|24:00")
_DURATION = re.compile(r"P(?:(\d{1,3})D)?(?:T(?:(\d{1,3})H)?(?:(\d{1,4})M)?)?")
_INTERVAL = re.compile(r"([^/\[\]]*(?:\[[^\]]*\])?)/([^/\[\]]*(?:\[[^\]]*\])?)")  # names of zones have a slash too
_YEARS = (2000, 2999)  # far from where arithmetic with zones ends
_EXAMPLE = "2026-11-28T22:00/2026-11-29T04:00[Europe/Berlin]"

OnOverrun = Literal["refuse", "warn"]


def _days(value: object) -> object:
    """Names of weekdays, whole or by three letters, and ranges of them, as a tuple of three letters each."""
    given = [value] if isinstance(value, str) else value
    if not isinstance(given, list | tuple):
        return value
    found: list[str] = []
    for one in given:
        first, _, last = str(one).partition("-")
        start, end = _day(first), _day(last or first)
        found += [DAYS[(start + step) % 7] for step in range((end - start) % 7 + 1)]
    return tuple(day for day in DAYS if day in found)


def _day(name: str) -> int:
    folded = name.strip().casefold()
    for known in (DAYS, _DAY_NAMES):
        if folded in known:
            return known.index(folded)
    raise ValueError(f"there is no day {name!r}; {did_you_mean(name, (*DAYS, *_DAY_NAMES))}")


def _clock(value: object) -> object:
    if isinstance(value, time):  # TOML has a type for it
        return f"{value:%H:%M}"
    if isinstance(value, str) and not _CLOCK.fullmatch(value):
        raise ValueError(f'is {value!r}; write hours and minutes, for example "22:00"')
    return value


def _zone(value: str) -> str:
    zones.zone(value)
    return value


def _announced(value: str) -> str:
    announced(value)
    return value


def announced(text: str) -> tuple[datetime, datetime, tzinfo]:
    """Beginning and end (aware) of an ISO 8601 interval, and the zone that it speaks of. Raises: ValueError."""
    parts = _INTERVAL.fullmatch(text.strip())
    if parts is None:
        raise ValueError(f"{text!r} is no interval; write a beginning and an end, for example {_EXAMPLE}")
    start_text, start_zone = _without_zone(parts[1])
    end_text, end_zone = _without_zone(parts[2])
    try:
        start = _moment(start_text, start_zone or end_zone)
        length = _DURATION.fullmatch(end_text)
        if length and any(length.groups()):
            days, hours, minutes = (int(part or 0) for part in length.groups())
            end = start + timedelta(days=days, hours=hours, minutes=minutes)
        else:
            end = _moment(end_text, end_zone or start_zone)
    except OverflowError as error:
        raise ValueError(f"{text!r} lies outside the calendar") from error
    if not (_YEARS[0] <= start.year and end.year <= _YEARS[1]):
        raise ValueError(f"{text!r} lies outside the calendar")
    if end <= start:
        raise ValueError(f"{text!r} ends before it begins")
    return start, end, start_zone or end_zone or start.tzinfo or end.tzinfo  # type: ignore[return-value]


def _without_zone(text: str) -> tuple[str, tzinfo | None]:
    """RFC 9557's suffix, as in 2026-11-28T22:00[Europe/Berlin]."""
    found = re.fullmatch(r"([^\[]*)\[([^\]]+)\]", text.strip())
    return (found[1], zones.zone(found[2])) if found else (text.strip(), None)


def _moment(text: str, zone: tzinfo | None) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is no date and time; an interval is written as {_EXAMPLE}") from None
    if found.tzinfo is not None:
        return found
    if zone is None:
        raise ValueError(f"{text!r} says no time zone; append Z, +01:00 or [Europe/Berlin]")
    return zones.first_shown(found, zone)


class MaintenanceWindow(Settings):
    """One window that comes every week, or one that was announced."""

    model_config = ConfigDict(populate_by_name=True, serialize_by_alias=True)

    days: Annotated[tuple[str, ...], BeforeValidator(_days), Field(min_length=1)] | None = None
    """The weekdays on which it opens: mon to sun, or ranges such as "mon-fri". Default: every day."""
    opens: Annotated[str, BeforeValidator(_clock)] | None = Field(default=None, alias="from")
    """The time at which it opens, as the zone's clock shows it: "22:00"."""
    closes: Annotated[str, BeforeValidator(_clock)] | None = Field(default=None, alias="to")
    """The time at which it closes. Not later than `from`: on the next day. "24:00" is the end of the day."""
    zone: Annotated[Text, AfterValidator(_zone)] | None = None
    """The IANA time zone whose clock is meant: Europe/Berlin."""
    announced: Annotated[Text, AfterValidator(_announced)] | None = None
    """In place of all others: one window alone, an ISO 8601 interval. What `--window` gives."""

    @model_validator(mode="after")
    def _is_one_of_the_two(self) -> MaintenanceWindow:
        if self.announced is not None:
            if (self.days, self.opens, self.closes, self.zone) != (None, None, None, None):
                raise ValueError("announced stands alone: it says day, time and zone itself")
            return self
        for name, value in (("from", self.opens), ("to", self.closes), ("zone", self.zone)):
            if value is None:
                raise ValueError(f"{name} is missing")
        if self.opens == self.closes:
            raise ValueError('from and to are the same; a whole day is "00:00" to "24:00"')
        if self.opens == "24:00":
            raise ValueError('from is "24:00"; write "00:00" and the next day')
        return self
