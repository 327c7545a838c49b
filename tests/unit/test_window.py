"""When the maintenance window is open, whatever the clocks of its zone do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from migrator.config import zones
from migrator.config.load import without_file
from migrator.config.models import Environment
from migrator.config.window import DAYS, MaintenanceWindow, announced
from migrator.errors import Refused
from migrator.plans import window
from migrator.plans.window import WindowState
from migrator.runs import windows as gated
from migrator.runs.run import Options, Run

BERLIN = ZoneInfo("Europe/Berlin")
ZONES = ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/St_Johns", "Africa/Cairo", "UTC"]
MINUTES = st.integers(0, 24 * 60 - 1)
MOMENTS = st.datetimes(datetime(2020, 1, 1), datetime(2035, 12, 31)).map(lambda one: one.replace(tzinfo=UTC))  # noqa: DTZ001


def weekly(opens: str, closes: str, zone: str = "Europe/Berlin", days: Sequence[str] = DAYS) -> MaintenanceWindow:
    return MaintenanceWindow.model_validate({"from": opens, "to": closes, "zone": zone, "days": days})


def look(one: MaintenanceWindow | Sequence[MaintenanceWindow], moment: datetime) -> WindowState:
    found = window.look([one] if isinstance(one, MaintenanceWindow) else one, moment)
    assert found is not None
    return found


def berlin(text: str, fold: int = 0) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN, fold=fold)


def clock(minutes: int) -> str:
    return f"{minutes // 60:02d}:{minutes % 60:02d}"


def test_without_a_window_nothing_is_closed() -> None:
    assert window.look([], datetime.now(UTC)) is None


def test_over_midnight_it_belongs_to_the_day_on_which_it_opens() -> None:
    saturday = weekly("22:00", "04:00", days=["sat"])
    assert not look(saturday, berlin("2026-11-28T21:59:59")).is_open
    assert look(saturday, berlin("2026-11-28T22:00")).is_open
    assert look(saturday, berlin("2026-11-29T03:59:59")).is_open
    assert not look(saturday, berlin("2026-11-29T04:00")).is_open
    assert not look(saturday, berlin("2026-11-28T03:00")).is_open


def test_the_next_opening_is_that_of_the_next_week() -> None:
    state = look(weekly("22:00", "04:00", days=["sat"]), berlin("2026-11-29T04:00"))
    assert state.following is not None
    assert state.following.start == berlin("2026-12-05T22:00")
    assert state.following.end == berlin("2026-12-06T04:00")


def test_windows_that_touch_are_one() -> None:
    both = [weekly("22:00", "24:00", days=["fri"]), weekly("00:00", "02:00", days=["sat"])]
    state = look(both, berlin("2026-11-27T23:00"))
    assert state.current is not None
    assert state.current.end == berlin("2026-11-28T02:00")
    assert state.left_s == 3 * 3600


def test_a_window_of_whole_days_does_not_close() -> None:
    state = look(weekly("00:00", "24:00"), berlin("2026-11-28T12:00"))
    assert state.is_open
    assert state.left_s is None
    assert window.overrun(state, 1e9) is None


def test_the_hour_that_is_skipped_opens_at_the_jump() -> None:
    """At 02:00 on 28 March 2027 Berlin's clocks go to 03:00."""
    state = look(weekly("02:30", "05:00"), berlin("2027-03-28T01:59"))
    assert state.following is not None
    assert state.following.start == datetime(2027, 3, 28, 1, 0, tzinfo=UTC)
    assert look(weekly("22:00", "02:30"), berlin("2027-03-28T01:59:59")).is_open
    assert not look(weekly("22:00", "02:30"), berlin("2027-03-28T03:00")).is_open


def test_a_window_inside_the_skipped_hour_does_not_open_that_day() -> None:
    state = look(weekly("02:10", "02:50", days=["sun"]), berlin("2027-03-28T01:00"))
    assert state.following is not None
    assert state.following.start == berlin("2027-04-04T02:10")


def test_the_hour_that_comes_twice_counts_at_its_first_coming() -> None:
    """At 03:00 on 25 October 2026 Berlin's clocks go back to 02:00."""
    late = weekly("22:00", "02:30")
    assert look(late, berlin("2026-10-25T02:29")).is_open
    assert not look(late, berlin("2026-10-25T02:30")).is_open
    assert not look(late, berlin("2026-10-25T02:15", fold=1)).is_open
    early = look(weekly("02:30", "04:00"), berlin("2026-10-25T02:30"))
    assert early.is_open
    assert early.left_s == 2.5 * 3600


@given(st.sampled_from(ZONES), MINUTES, MINUTES, st.sets(st.sampled_from(DAYS), min_size=1), MOMENTS)
def test_open_and_next_agree(zone: str, opens: int, closes: int, days: set[str], moment: datetime) -> None:
    if opens == closes:
        return
    one = weekly(clock(opens), clock(closes), zone, sorted(days))
    state = look(one, moment)
    assert state.following is not None
    assert state.following.start > moment
    assert look(one, state.following.start).is_open
    assert not look(one, state.following.start - timedelta(seconds=1)).is_open
    if state.current is not None and state.current.end is not None:
        assert look(one, state.current.end - timedelta(seconds=1)).is_open
        assert not look(one, state.current.end).is_open
    elif state.current is None:  # nothing opens between now and the next opening
        between = moment + (state.following.start - moment) / 2
        assert look(one, between).following == state.following


@given(st.sampled_from(ZONES), MINUTES, MINUTES, MOMENTS)
def test_what_the_clock_shows_inside_lies_between_from_and_to(
    zone: str, opens: int, closes: int, moment: datetime
) -> None:
    """But for an hour that comes again, inside."""
    if opens == closes:
        return
    state = look(weekly(clock(opens), clock(closes), zone), moment)
    shows = moment.astimezone(ZoneInfo(zone))
    now = shows.hour * 60 + shows.minute
    within = opens <= now < closes if opens < closes else now >= opens or now < closes
    if state.is_open != within:
        day = timedelta(hours=26)
        changes = {(moment + day * step).astimezone(ZoneInfo(zone)).utcoffset() for step in (-1, 0, 1)}
        assert len(changes) > 1, "the clock was not changed near"


@given(st.sampled_from(ZONES), MOMENTS, st.integers(0, 3 * 24 * 60))
def test_a_later_time_is_never_shown_first(zone: str, moment: datetime, minutes: int) -> None:
    wall = zones.shown(moment, ZoneInfo(zone)).replace(second=0, microsecond=0)
    first = zones.first_shown(wall, ZoneInfo(zone))
    assert first <= zones.first_shown(wall + timedelta(minutes=minutes), ZoneInfo(zone))
    assert zones.shown(first, ZoneInfo(zone)) >= wall
    assert zones.shown(first - timedelta(seconds=1), ZoneInfo(zone)) < wall


def test_a_day_that_a_zone_never_had() -> None:
    """Samoa went over the date line: there was no 30 December 2011."""
    apia = ZoneInfo("Pacific/Apia")
    assert zones.first_shown(datetime(2011, 12, 30, 12), apia) == datetime(2011, 12, 30, 10, tzinfo=UTC)  # noqa: DTZ001


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-28T22:00+01:00/2026-11-29T04:00+01:00",
        "2026-11-28T21:00Z/PT6H",
        "20261128T210000Z/P0DT5H60M",
        "2026-11-28T22:00/2026-11-29T04:00[Europe/Berlin]",
        "2026-11-28T22:00[Europe/Berlin]/PT6H",
    ],
)
def test_an_announced_window(text: str) -> None:
    start, end, _ = announced(text)
    assert (start, end) == (berlin("2026-11-28T22:00"), berlin("2026-11-29T04:00"))
    one = MaintenanceWindow(announced=text)
    assert look(one, berlin("2026-11-29T03:59")).is_open
    state = look(one, berlin("2026-11-29T04:00"))
    assert (state.is_open, state.following) == (False, None)
    assert "does not open again" in window.describe(state)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("2026-11-28T22:00+01:00", "no interval"),
        ("2026-11-28T22:00/PT6H", "no time zone"),
        ("2026-11-28T22:00Z/P", "no date and time"),
        ("2026-11-28T22:00Z/2026-11-28T22:00Z", "ends before it begins"),
        ("2026-11-28T22:00Z/2026-11-29T04:00[Europe/Berln]", "did you mean 'Europe/Berlin'"),
        ("0001-01-01T00:00[Asia/Tokyo]/PT1H", "outside the calendar"),
        ("9999-12-31T23:00Z/P900D", "outside the calendar"),
        ("soon/later", "no date and time"),
    ],
)
def test_what_is_no_interval_is_told(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        announced(text)


@given(st.text(max_size=60) | st.from_regex(r"[0-9TZ:/P+\[\]-]{0,40}"))
def test_any_text_is_an_interval_or_told(text: str) -> None:
    try:
        start, end, _ = announced(text)
    except ValueError:
        return
    assert start < end


@pytest.mark.parametrize("days", [["sat", "sun"], ["Saturday", "sun"], ["sat-sun"], "sat-sun", ["sun", "sat", "sat"]])
def test_days_in_many_ways(days: object) -> None:
    found = MaintenanceWindow.model_validate({"from": "22:00", "to": "23:00", "zone": "UTC", "days": days})
    assert found.days == ("sat", "sun")


def test_a_range_of_days_goes_over_the_week() -> None:
    assert weekly("22:00", "23:00", days=["fri-mon"]).days == ("mon", "fri", "sat", "sun")


@pytest.mark.parametrize(
    "given",
    [
        {"from": "22:00", "to": "23:00"},
        {"from": "22:00", "to": "22:00", "zone": "UTC"},
        {"from": "24:00", "to": "02:00", "zone": "UTC"},
        {"from": "22:61", "to": "02:00", "zone": "UTC"},
        {"from": "22:00", "to": "23:00", "zone": "Mars/Base"},
        {"from": "22:00", "to": "23:00", "zone": "../../etc/passwd"},
        {"from": "22:00", "to": "23:00", "zone": "Europe"},
        {"from": "22:00", "to": "23:00", "zone": "UTC", "days": []},
        {"from": "22:00", "to": "23:00", "zone": "UTC", "announced": "2026-11-28T22:00Z/PT1H"},
        {},
    ],
)
def test_half_a_window_is_refused(given: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        MaintenanceWindow.model_validate(given)


def test_the_sentences_name_both_zones() -> None:
    one = weekly("22:00", "04:00", days=["sat"])
    closed = look(one, berlin("2026-11-27T12:00"))
    assert window.describe(closed, here=ZoneInfo("America/New_York")) == (
        "The maintenance window is closed. It opens on Sat 28 Nov 2026 22:00 CET (Europe/Berlin), which is "
        "Sat 16:00 EST here, until Sun 04:00 CET; that is in 1 d 10 h."
    )
    opened = look(one, berlin("2026-11-29T03:30"))
    assert window.describe(opened, here=BERLIN) == (
        "The maintenance window is open until Sun 29 Nov 2026 04:00 CET (Europe/Berlin), for another 30 min."
    )
    assert window.overrun(opened, 1800, here=BERLIN) is None
    assert window.overrun(opened, 2700, here=BERLIN) == (
        "The run takes about 45 min, by estimate, and the maintenance window closes in 30 min, on "
        "Sun 29 Nov 2026 04:00 CET (Europe/Berlin)."
    )


@dataclass
class Asked:
    """As much of a run as the window's gate asks of it."""

    environment: Environment
    at: datetime
    warned: list[str] = field(default_factory=list)
    options: Options = field(default_factory=lambda: Options(changelog=""))

    def now(self) -> datetime:
        return self.at

    def warn(self, text: str) -> None:
        self.warned.append(text)


def asked(text: str, at: datetime, **settings: object) -> Run:
    config = without_file(Path.cwd(), {})
    windows = [{"announced": text}] if text else []
    found = Asked(environment=config.environment("local", {"maintenance_window": windows, **settings}), at=at)
    return cast("Run", found)


def test_the_gate_is_open_inside_and_without_a_window() -> None:
    assert gated.gate(asked("", berlin("2026-11-28T22:00"))) is None
    says = gated.gate(asked("2026-11-28T21:00Z/PT6H", berlin("2026-11-28T22:00")))
    assert says is not None
    assert "open until Sun 29 Nov 2026" in says


def test_the_gate_refuses_outside_with_the_next_opening() -> None:
    with pytest.raises(Refused, match="opens on Sat 28 Nov 2026 21:00 UTC") as refused:
        gated.gate(asked("2026-11-28T21:00Z/PT6H", berlin("2026-11-28T21:59")))
    assert "--window" in (refused.value.hint or "")


def test_a_run_that_would_outlast_the_window_is_told_or_refused() -> None:
    late = berlin("2026-11-29T03:30")
    fits = asked("2026-11-28T21:00Z/PT6H", late)
    gated.refuse_overrun(fits, 1700)
    assert cast("Asked", fits).warned == []
    told = asked("2026-11-28T21:00Z/PT6H", late)
    gated.refuse_overrun(told, 1900)
    assert "takes about 31 min" in cast("Asked", told).warned[0]
    with pytest.raises(Refused, match="takes about 31 min"):
        gated.refuse_overrun(asked("2026-11-28T21:00Z/PT6H", late, on_overrun="refuse"), 1900)
