"""The blue/green way: the copy is migrated, the original stands by, and the names are swapped after the proof."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from migrator.postgres import properties
from migrator.runs.record import Outcome, RunRecord, StepName, Way
from tests import shop as shops
from tests.conftest import Server
from tests.shop import Shop

CONCURRENTLY = "runInTransaction:false\ncreate index concurrently order_by_placed_at on orders (placed_at);"
ENUM_AT_ONCE = (
    "runInTransaction:false\nalter type customer_tier add value if not exists 'diamond';",
    "\nupdate customer set tier = 'diamond' where id = 1;",
)
AUTO = {"bluegreen": True}
ASKED_FOR = {"way": "bluegreen"}


def run_databases(shop: Shop, record: RunRecord) -> dict[str, int]:
    found = shop.query(f"select datname, oid from pg_database where datname like 'mig_{record.run_id}%'")
    return {str(name).rsplit("_", 1)[1]: int(str(oid)) for name, oid in found}


def steps(record: RunRecord) -> list[StepName]:
    return [step.name for step in record.steps if step.status == "done"]


def test_what_cannot_be_atomic_is_applied_to_a_copy_that_takes_the_name(shop: Shop) -> None:
    original = shop.oid()
    record = shop.run(shop.sql(CONCURRENTLY, *ENUM_AT_ONCE), AUTO)
    assert (record.error, record.outcome, record.way) == (None, Outcome.MIGRATED, Way.BLUEGREEN)
    assert "runInTransaction=false" in (record.way_reason or "")
    assert shop.oid() != original
    assert run_databases(shop, record) == {"old": original}
    assert any(f"mig_{record.run_id}_old" in kept for kept in record.kept)
    assert shop.value("select indisvalid from pg_index where indexrelid = 'order_by_placed_at'::regclass") is True
    assert shop.value("select tier from customer where id = 1") == "diamond"
    assert steps(record)[2:] == ["maintain", "copy", "back_up", "apply", "verify", "swap", "lift"]


def test_failure_after_what_no_rollback_undoes_costs_nothing(shop: Shop) -> None:
    before, original = shop.dump(), shop.oid()
    record = shop.run(shop.sql(CONCURRENTLY, *ENUM_AT_ONCE, "\nselect 1 / 0;"), AUTO)
    assert (record.outcome, record.way, record.exit_code) == (Outcome.ROLLED_BACK, Way.BLUEGREEN, 6)
    assert record.error is not None
    assert record.error.sqlstate == "22012"
    assert shop.oid() == original
    assert run_databases(shop, record) == {}
    assert shop.dump() == before
    assert any(f"OID {original}" in proven for proven in record.proof.proven)
