"""Every maintenance provider of AWS through one harness: on, off, again, killed, refused, and changed by others."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from migrator.errors import MaintenanceFailed
from migrator.maintenance import Provider
from tests.integration.aws.providers import CASES, Case
from tests.integration.aws.server import Harm, Killed, Shop, killed_after, refused

LONGEST = 19  # calls that one turn makes, and a few more
RUN, OTHER = "20261123t175103_4f1c", "20261124t080000_0000"


@pytest.fixture(params=sorted(CASES))
def case(request: pytest.FixtureRequest, at_aws: Shop) -> Case:
    made: Case = CASES[request.param](at_aws)
    return made


def harmed(case: Case, harm: Harm) -> Provider:
    case.shop.harmed.harm = harm
    return case.provider(case.shop.harmed)


def every_call(case: Case, turn: str) -> Iterator[int]:
    """The numbers of the calls that `on` or `off` makes, as long as there are any; each is to be undone between."""
    number = 1
    while True:
        yield number
        number += 1
        assert number < 100, turn


def test_on_and_off_leave_what_stood_before(case: Case) -> None:
    provider, before = case.provider(), case.world()
    assert case.holds() is provider.status().on
    saved = provider.standing(RUN)
    assert case.world() == before, "to look changes nothing"
    assert provider.on(RUN) == saved
    assert case.holds()
    assert provider.status().on
    assert RUN in provider.status().detail
    assert provider.status().held_by == RUN
    held = case.world()
    assert provider.standing(RUN) == provider.on(RUN) == saved, "what was saved first stays"
    assert case.world() == held
    provider.off(RUN, saved)
    assert case.world() == before
    assert provider.status().held_by is None
    provider.off(RUN, saved)
    provider.off(RUN, {})
    assert case.world() == before


@pytest.mark.slow
def test_off_without_what_was_saved(case: Case) -> None:
    provider, before = case.provider(), case.world()
    provider.off(RUN, {})
    assert case.world() == before
    provider.on(RUN)
    case.provider().off(RUN, {})
    assert case.world() == before


@pytest.mark.slow
def test_off_without_on_changes_nothing(case: Case) -> None:
    provider, before = case.provider(), case.world()
    provider.off(RUN, provider.standing(RUN))
    assert case.world() == before


@pytest.mark.slow
@pytest.mark.parametrize("then", ["off", "on"])
@pytest.mark.parametrize("journal", [True, False])
def test_killed_after_each_call_of_on(case: Case, then: str, *, journal: bool) -> None:
    provider, before = case.provider(), case.world()
    for number in every_call(case, "on"):
        saved = provider.standing(RUN)
        try:
            harmed(case, killed_after(number)).on(RUN)
        except Killed:
            ended = False
        else:
            ended = True
        if then == "on":
            assert provider.on(RUN) == saved
            assert case.holds()
        provider.off(RUN, saved if journal else {})
        assert case.world() == before, f"after call {number}"
        if ended:
            assert number > 2
            return


@pytest.mark.slow
@pytest.mark.parametrize("journal", [True, False])
def test_killed_after_each_call_of_off(case: Case, *, journal: bool) -> None:
    provider, before = case.provider(), case.world()
    for number in every_call(case, "off"):
        saved = provider.on(RUN)
        try:
            harmed(case, killed_after(number)).off(RUN, saved if journal else {})
        except Killed:
            provider.off(RUN, saved if journal else {})
            assert case.world() == before, f"after call {number}"
        else:
            assert case.world() == before
            return


@pytest.mark.slow
def test_denied_at_each_call(case: Case) -> None:
    provider, before = case.provider(), case.world()
    denied: list[MaintenanceFailed] = []
    for number in every_call(case, "on"):
        try:
            harmed(case, refused("AccessDeniedException", at=number)).on(RUN)
        except MaintenanceFailed as error:
            denied.append(error)
        else:
            break
        provider.off(RUN, {})
        assert case.world() == before
    for number in every_call(case, "off"):
        try:
            harmed(case, refused("AccessDeniedException", at=number)).off(RUN, {})
        except MaintenanceFailed as error:
            denied.append(error)
        else:
            break
    provider.off(RUN, {})
    assert case.world() == before
    assert {error.code for error in denied} == {"aws_denied"}
    assert all("allow " in (one.hint or "") for one in denied)


@pytest.mark.slow
def test_throttling_is_waited_out_at_each_call_and_has_an_end(case: Case) -> None:
    before = case.world()
    for number in range(1, LONGEST, 3):
        saved = harmed(case, refused("Throttling", at=number, times=3)).on(RUN)
        assert case.holds()
        harmed(case, refused("Throttling", at=number, times=3)).off(RUN, saved)
        assert case.world() == before
    with pytest.raises(MaintenanceFailed) as caught:
        harmed(case, refused("Throttling", at=1)).on(RUN)
    assert caught.value.code == "aws_busy"
    assert case.world() == before


@pytest.mark.slow
def test_expired_credentials_are_looked_for_anew_and_named_when_there_are_none(case: Case) -> None:
    before = case.world()
    for number in (1, 3):
        saved = harmed(case, refused("ExpiredTokenException", at=number, times=1)).on(RUN)
        harmed(case, refused("ExpiredTokenException", at=number, times=1)).off(RUN, saved)
        assert case.world() == before
    with pytest.raises(MaintenanceFailed) as caught:
        harmed(case, refused("ExpiredTokenException", at=3)).on(RUN)
    assert caught.value.code == "aws_expired"
    case.provider().off(RUN, {})
    assert case.world() == before


def test_another_runs_maintenance_is_neither_taken_nor_ended(case: Case) -> None:
    provider = case.provider()
    saved = provider.on(OTHER)
    held = case.world()
    for act in (provider.standing, provider.on, lambda run: provider.off(run, saved)):
        with pytest.raises(MaintenanceFailed, match=OTHER) as caught:
            act(RUN)
        assert caught.value.code == "maintenance_foreign"
    assert case.world() == held
