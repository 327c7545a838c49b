from __future__ import annotations

from datetime import UTC, datetime

import pytest

from migrator.rehearsals import estimate
from migrator.rehearsals.estimate import Sizes
from migrator.rehearsals.record import RehearsalRecord, RehearsedRecord

MB = 2**20


def estimated(
    *, here: int = MB, there: int | None = 10 * MB, with_data: bool = True, apply_s: float | None = 2.0
) -> RehearsalRecord:
    record = RehearsalRecord(
        id="r",
        environment="staging",
        database="d",
        changelog="c.sql",
        source="clone" if with_data else "schema",
        with_data=with_data,
        started_at=datetime(2026, 11, 23, tzinfo=UTC),
        changesets=[RehearsedRecord(path="c.sql", id="1", author="kim", apply_s=apply_s)],
    )
    target = None if there is None else {"public.orders": there, "public.other": 99 * MB}
    estimate.of(record, {"c.sql::1::kim": {"public.orders"}}, Sizes(copied={"public.orders": here}, target=target))
    return record


def test_it_grows_with_the_tables_concerned() -> None:
    record = estimated()
    assert record.changesets[0].estimate_s == record.estimate_s == 20.0
    assert record.changesets[0].estimate_from == "10 times the copy's: its tables have 10 MB there"


def test_small_tables_say_nothing_of_time() -> None:
    assert estimated(here=8192, there=16384).estimate_s == 2.0


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"with_data": False}, "the copy has no rows"),
        ({"there": None}, "the target was not reached"),
        ({"apply_s": None}, "it did not run on the copy"),
        ({"here": 0}, "its tables are empty in the copy"),
    ],
)
def test_what_is_not_known_is_not_guessed(changes: dict[str, int | bool | None], why: str) -> None:
    record = estimated(**changes)  # type: ignore[arg-type]
    assert record.estimate_s is None
    assert record.changesets[0].estimate_from == f"unknown: {why}"
