"""A run begins inside its maintenance window only; what goes back never asks for one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from migrator.runs import engine
from migrator.runs.record import Outcome
from tests.shop import Shop

GOOD = "\nalter table customer add column nickname text\n--rollback alter table customer drop column nickname"


def interval(start_h: float, end_h: float) -> dict[str, object]:
    """A window from so many hours from now to so many."""
    now = datetime.now(UTC)
    start, end = (now + timedelta(hours=hours) for hours in (start_h, end_h))
    return {"maintenance_window": [{"announced": f"{start.isoformat()}/{end.isoformat()}"}]}


def test_a_run_outside_its_window_is_refused_and_one_inside_is_not(shop: Shop) -> None:
    changelog, before = shop.sql(GOOD), shop.dump()
    refused = shop.run(changelog, interval(1, 2))
    assert (refused.outcome, refused.exit_code) == (Outcome.REFUSED, 3)
    assert refused.error is not None
    assert refused.error.code == "window_closed"
    assert "It opens on" in refused.error.message
    assert "59 min" in refused.error.message
    assert refused.maintenance.started_at is None
    assert shop.dump() == before
    assert shop.run(changelog, interval(-1, 1)).outcome is Outcome.MIGRATED


def test_a_failed_run_goes_back_though_its_window_has_closed_meanwhile(shop: Shop) -> None:
    before = shop.dump()
    run = shop.open(shop.sql(GOOD, "\nalter table customer add constraint no check (id < 0)"), interval(-1, 1))
    closed = datetime.now(UTC) + timedelta(hours=3)

    def clock() -> datetime:
        begun = {step.name.value for step in run.record.steps}
        return datetime.now(UTC) if begun <= {"lock", "preflight"} else closed

    run.now = clock
    engine.execute(run)
    assert run.record.outcome is Outcome.ROLLED_BACK, run.record.error
    assert shop.dump() == before


@pytest.mark.slow
def test_a_window_that_closes_while_a_person_is_asked_lets_nothing_begin(shop: Shop) -> None:
    shop.settings = {"protected": True}
    before, answered = shop.dump(), False

    def answer(_question: str) -> bool:
        nonlocal answered
        answered = True
        return True

    run = shop.open(shop.sql(GOOD), interval(-1, 1), confirm=answer)
    run.now = lambda: datetime.now(UTC) + timedelta(hours=3 if answered else 0)
    engine.execute(run)
    assert run.record.outcome is Outcome.REFUSED, run.record.error
    assert run.record.error is not None
    assert run.record.error.code == "window_closed"
    assert shop.dump() == before


@pytest.mark.slow
def test_a_rollback_asks_for_the_window_too(shop: Shop) -> None:
    assert shop.run(shop.sql(GOOD)).outcome is Outcome.MIGRATED
    assert shop.rollback(interval(1, 2), count=1).outcome is Outcome.REFUSED
    assert shop.rollback(interval(-1, 1), count=1).outcome is Outcome.MIGRATED
