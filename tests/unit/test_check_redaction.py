"""Values of columns that are not to be shown are shown nowhere."""

from __future__ import annotations

import pytest

from migrator.checks.redaction import hides


@pytest.mark.parametrize(
    ("pattern", "hidden"),
    [
        ("email", True),
        ("*mail", True),
        ("e????", True),
        ("customer.email", True),
        ("cust*.email", True),
        ("public.customer.email", True),
        ("*.email", True),
        ("*", True),
        ("name", False),
        ("orders.email", False),
        ("private.customer.email", False),
        ("mail", False),
        ("EMAIL", False),
    ],
)
def test_a_pattern_names_a_column_in_part_or_whole(pattern: str, hidden: bool) -> None:
    assert hides([pattern], ["id", "email"], table="customer", schema="public") is hidden


def test_what_is_not_known_of_a_column_hides_it_all_the_same() -> None:
    assert hides(["public.customer.email"], ["email"], table=None, schema=None)
    assert hides(["public.customer.email"], ["email"], table="customer", schema=None)
    assert not hides(["public.customer.email"], ["email"], table="orders", schema=None)
