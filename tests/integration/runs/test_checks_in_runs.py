"""Checks decide: in the transaction before its commit, on the migrated database otherwise."""

from __future__ import annotations

import pytest

from migrator.runs.record import Outcome, Way
from tests.shop import SAMPLE, Shop


def sample_checks(shop: Shop, *names: str) -> dict[str, object]:
    for name in names:
        shop.write(f"checks/{name}", (SAMPLE / "checks" / name).read_text(encoding="utf-8"))
    suites = tuple(f"checks/{name}" for name in names if not name.endswith(".sql"))
    return {
        "checks.suites": suites,
        "checks.invariants": tuple(f"checks/{name}" for name in names if name.endswith(".sql")),
    }


@pytest.mark.parametrize("way", ["atomic", pytest.param("stepwise", marks=pytest.mark.slow)])
def test_statements_that_succeed_and_data_that_is_wrong(shop: Shop, way: str) -> None:
    settings = {**sample_checks(shop, "money.sql", "order-totals.sql"), "way": way}
    before = shop.dump()
    record = shop.run(shop.sample("broken/wrong-data.sql"), settings)
    expected = Outcome.ROLLED_BACK if way == "atomic" else Outcome.RESTORED
    assert record.outcome is expected, record.error
    failed = {check.name for check in record.checks if not check.success}
    assert len(failed) == 2, record.checks
    assert {check.phase for check in record.checks if not check.success} == {"after"}
    assert record.error is not None
    assert record.error.code == "verification"
    assert shop.dump() == before


def test_suites_look_at_the_uncommitted_rows(shop: Shop) -> None:
    settings = sample_checks(shop, "customers.yaml", "products.json", "order-totals.sql")
    before = shop.dump()
    record = shop.run(shop.sql("\nupdate customer set email = 'no address' where id = 7"), settings)
    assert (record.outcome, record.way) == (Outcome.ROLLED_BACK, Way.ATOMIC), record.error
    [failed] = [check for check in record.checks if not check.success]
    assert (failed.phase, failed.table, failed.severity) == ("after", "public.customer", "critical")
    assert "regex" in failed.name
    assert len([check for check in record.checks if check.phase == "before"]) == 8
    assert shop.dump() == before


def test_suites_that_hold_are_in_the_report(shop: Shop) -> None:
    settings = {**sample_checks(shop, "customers.yaml", "money.sql"), "way": "stepwise"}
    record = shop.run(shop.sql("\nalter table customer add column nickname text"), settings)
    assert (record.error, record.outcome) == (None, Outcome.MIGRATED)
    assert {(check.phase, check.success) for check in record.checks} == {("before", True), ("after", True)}
    assert any("looked at on the migrated database" in one for one in record.proof.proven), record.proof.proven


def test_a_rule_of_the_new_schema_that_cannot_be_seen_fails_the_run(shop: Shop) -> None:
    shop.write(
        "checks/new.yaml",
        "name: new\ntable: public.customer\nwhen: [after]\nexpectations:\n"
        "- type: expect_column_values_to_not_be_null\n  kwargs: {column: no_such_column}\n  severity: critical\n",
    )
    before = shop.dump()
    record = shop.run(
        shop.sql("\nalter table customer add column nickname text"), {"checks.suites": ("checks/new.yaml",)}
    )
    assert record.outcome is Outcome.ROLLED_BACK, record.error
    assert [(check.phase, check.success) for check in record.checks] == [("after", False)]
    assert shop.dump() == before
