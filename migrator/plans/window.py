"""Whether the maintenance window is open, until when, and when it opens next. Pure: the moment is given."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo

from migrator.config import zones
from migrator.config.window import DAYS, MaintenanceWindow, announced

_AHEAD = timedelta(days=16)  # a weekly window that a change of the clocks swallows comes again a week later
_FOR_EVER = timedelta(days=14)


@dataclass(frozen=True, kw_only=True)
class Opening:
    """A stretch of time in which the window is open. Windows that touch or overlap are one stretch."""

    start: datetime  # UTC
    end: datetime | None  # UTC, the first moment at which it is closed; None: it does not close
    zone: tzinfo  # whose clock the window was given by


@dataclass(frozen=True, kw_only=True)
class WindowState:
    """What the windows of an environment mean at one moment."""

    at: datetime
    current: Opening | None  # the one that is open
    following: Opening | None  # the next to open; None: none ever does

    @property
    def is_open(self) -> bool:
        return self.current is not None

    @property
    def left_s(self) -> float | None:
        """Seconds until it closes; None where it is closed, or never closes."""
        if self.current is None or self.current.end is None:
            return None
        return (self.current.end - self.at).total_seconds()


def look(windows: Sequence[MaintenanceWindow], now: datetime) -> WindowState | None:
    """The state of the windows at `now`, which is aware; None where there are no windows: then nothing is closed."""
    if not windows:
        return None
    now = now.astimezone(UTC)
    openings = _merged(windows, now)
    return WindowState(
        at=now,
        current=next((one for one in openings if one.start <= now and (one.end is None or now < one.end)), None),
        following=next((one for one in openings if one.start > now), None),
    )


def describe(state: WindowState, *, here: tzinfo | None = None) -> str:
    """One sentence for people, in the window's zone and in the time of `here` (default: this machine's zone)."""
    if state.current is not None:
        if state.current.end is None:
            return "The maintenance window is open, and does not close."
        return (
            f"The maintenance window is open until {_told(state.current.end, state.current.zone, here)}, "
            f"for another {_length(state.left_s or 0)}."
        )
    if state.following is None:
        return "The maintenance window is closed, and does not open again."
    opening = state.following
    until = f", until {_clock(opening.end, opening.zone)}" if opening.end is not None else ""
    return (
        f"The maintenance window is closed. It opens on {_told(opening.start, opening.zone, here)}{until}; "
        f"that is in {_length((opening.start - state.at).total_seconds())}."
    )


def overrun(state: WindowState, estimate_s: float, *, here: tzinfo | None = None) -> str | None:
    """One sentence when a run that begins now and takes as long as the estimate is at work past the window's end."""
    left_s = state.left_s
    if left_s is None or estimate_s <= left_s or state.current is None or state.current.end is None:
        return None
    return (
        f"The run takes about {_length(estimate_s)}, by estimate, and the maintenance window closes in "
        f"{_length(left_s)}, on {_told(state.current.end, state.current.zone, here)}."
    )


def as_json(state: WindowState | None) -> dict[str, object] | None:
    """For programs: whether it is open, and the moments in UTC; None where there is no window."""
    if state is None:
        return None

    def opening(one: Opening | None) -> dict[str, object] | None:
        if one is None:
            return None
        return {
            "opens": one.start.isoformat(),
            "closes": None if one.end is None else one.end.isoformat(),
            "zone": str(one.zone),
        }

    return {"open": state.is_open, "current": opening(state.current), "next": opening(state.following)}


def _merged(windows: Sequence[MaintenanceWindow], now: datetime) -> list[Opening]:
    found = sorted((one for window in windows for one in _openings(window, now)), key=lambda one: one[0])
    merged: list[tuple[datetime, datetime, tzinfo]] = []
    for start, end, zone in found:
        if merged and start <= merged[-1][1]:
            before = merged.pop()
            merged.append((before[0], max(before[1], end), before[2]))
        else:
            merged.append((start, end, zone))
    horizon = now + _FOR_EVER
    weekly = any(window.announced is None for window in windows)
    return [
        Opening(start=start, end=None if weekly and start <= now and end > horizon else end, zone=zone)
        for start, end, zone in merged
    ]


def _openings(window: MaintenanceWindow, now: datetime) -> Iterator[tuple[datetime, datetime, tzinfo]]:
    """Beginning and end of every opening around now."""
    if window.announced is not None:
        start, end, zone = announced(window.announced)
        yield start.astimezone(UTC), end.astimezone(UTC), zone
        return
    zone = zones.zone(window.zone or "UTC")
    opens, closes = _minutes(window.opens), _minutes(window.closes)
    if closes <= opens:
        closes += timedelta(days=1)
    midnight = zones.shown(now, zone).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=2)
    for _ in range(_AHEAD.days + 2):
        if DAYS[midnight.weekday()] in (window.days or DAYS):
            start, end = zones.first_shown(midnight + opens, zone), zones.first_shown(midnight + closes, zone)
            if start < end:
                yield start, end, zone
        midnight += timedelta(days=1)


def _minutes(clock: str | None) -> timedelta:
    hours, _, minutes = (clock or "00:00").partition(":")
    return timedelta(hours=int(hours), minutes=int(minutes))


def _told(moment: datetime, zone: tzinfo, here: tzinfo | None) -> str:
    """In the zone, and in local time where that is another."""
    there, local = moment.astimezone(zone), moment.astimezone(here)
    name = f" ({zone})" if hasattr(zone, "key") else ""
    text = f"{there:%a} {there.day} {there:%b %Y %H:%M %Z}{name}"
    if there.utcoffset() == local.utcoffset():
        return text
    return f"{text}, which is {local:%a %H:%M %Z} here"


def _clock(moment: datetime, zone: tzinfo) -> str:
    return f"{moment.astimezone(zone):%a %H:%M %Z}"


def _length(seconds: float) -> str:
    minutes = int(seconds // 60)
    if minutes < 1:
        return f"{int(seconds)} s"
    days, rest = divmod(minutes, 24 * 60)
    hours, minutes = divmod(rest, 60)
    parts = ((days, "d"), (hours, "h"), (minutes, "min"))
    return " ".join(f"{number} {unit}" for number, unit in parts if number)
