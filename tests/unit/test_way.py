"""The way of a run, and that nobody falls back to one without a way back."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from migrator.errors import Refused
from migrator.plans import way


@dataclass(frozen=True, kw_only=True)
class Changeset:
    path: str = "release.sql"
    id: str = "1"
    author: str = "ann"
    run_in_transaction: bool = True
    needs_savepoint: bool = False
    has_rollback: bool = True


def chosen(changeset: Changeset, *, has_dump: bool, accepted: bool = False) -> tuple[way.Choice, list[str]]:
    choice = way.choose("auto", [changeset], protected=False, maintenance="offline")
    warnings = way.refuse_without_way_back(
        choice, [changeset], maintenance="offline", has_dump=has_dump, restore="automatic", accepted=accepted
    )
    kept = way.without_hopeless_fallback(
        choice, [changeset], maintenance="offline", has_dump=has_dump, restore="automatic", accepted=accepted
    )
    return kept, warnings


def test_atomic_falls_back_where_a_restore_or_a_rollback_leads_back() -> None:
    assert chosen(Changeset(has_rollback=False), has_dump=True)[0].fallback == "stepwise"
    assert chosen(Changeset(), has_dump=False) == (way.choose("auto", [], protected=False, maintenance="offline"), [])


def test_a_fallback_without_a_way_back_is_no_fallback() -> None:
    choice, [warning] = chosen(Changeset(has_rollback=False), has_dump=False)
    assert (choice.way, choice.fallback) == ("atomic", None)
    assert "stays atomic" in warning


def test_a_fallback_without_a_way_back_can_be_accepted() -> None:
    choice, [warning] = chosen(Changeset(has_rollback=False), has_dump=False, accepted=True)
    assert choice.fallback == "stepwise"
    assert warning.startswith("accepted: ")


def test_stepwise_without_a_way_back_is_refused() -> None:
    with pytest.raises(Refused, match="no rollback"):
        chosen(Changeset(has_rollback=False, run_in_transaction=False), has_dump=False)


@dataclass(frozen=True, kw_only=True)
class Backfill:
    name: str = "split-name"
    inside: bool = False


def test_a_backfill_in_batches_rules_atomic_out_and_two_releases_are_proposed() -> None:
    choice = way.choose("auto", [Changeset()], protected=False, maintenance="offline", backfills=[Backfill()])
    assert (choice.way, choice.fallback) == ("stepwise", None)
    assert "split-name" in choice.reason
    assert "two releases" in choice.reason
    with pytest.raises(Refused, match="split-name") as refused:
        way.choose("atomic", [Changeset()], protected=False, maintenance="offline", backfills=[Backfill()])
    assert "two releases" in str(refused.value.hint)


def test_a_backfill_inside_the_transaction_leaves_the_way_as_it_is() -> None:
    inside = [Backfill(inside=True)]
    choice = way.choose("auto", [Changeset()], protected=False, maintenance="offline", backfills=inside)
    assert choice.way == "atomic"
