"""Names in stored lists, and waits with an end, without a server."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrator.postgres.database_settings import names_in
from migrator.postgres.transactions import Deadline


@pytest.mark.parametrize(
    ("stored", "names"),
    [
        ('"$user", public', ["$user", "public"]),
        ("public", ["public"]),
        ("a,b", ["a", "b"]),
        ('"a""b, c", d', ['a"b, c', "d"]),
        ('""', [""]),
        ("", [""]),
    ],
)
def test_stored_list_is_taken_apart(stored: str, names: list[str]) -> None:
    assert names_in(stored) == names


@given(st.lists(st.text(), min_size=1))
def test_any_names_survive_being_stored(names: list[str]) -> None:
    stored = ", ".join('"' + name.replace('"', '""') + '"' for name in names)
    assert names_in(stored) == names


def test_wait_ends_at_its_limit_and_never_sleeps_beyond() -> None:
    now, slept = [100.0], []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    deadline = Deadline(2.0, clock=lambda: now[0], sleep=sleep)
    while not deadline.passed:
        deadline.pause()

    assert sum(slept) == pytest.approx(2.0)
    assert max(slept) <= 0.5
    assert deadline.left_s == 0
    assert deadline.waited_s == pytest.approx(2.0)
