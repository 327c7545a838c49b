"""Changesets that PostgreSQL or Liquibase treat in a way of their own, and those that look well and are not."""

from __future__ import annotations

import pytest

from migrator.runs.record import Outcome, RunRecord, Way
from tests.shop import Shop


def told(record: RunRecord) -> str:
    return "\n".join([*(record.error.message if record.error else "", record.way_reason or ""), *record.warnings])


def assert_as_it_was(shop: Shop, before: list[str], record: RunRecord, outcome: Outcome = Outcome.ROLLED_BACK) -> None:
    assert record.outcome is outcome, (record.error, record.warnings)
    assert shop.dump() == before


def test_a_changeset_that_commits_by_itself_is_taken_back(shop: Shop) -> None:
    before = shop.dump()
    record = shop.run(shop.sample("broken/own-commit.sql"))
    assert_as_it_was(shop, before, record)
    assert record.error is not None
    assert record.error.changeset == "changelogs/broken/own-commit.sql::own-commit::shop"


def test_a_changeset_that_commits_by_itself_and_has_no_rollback_is_restored(shop: Shop) -> None:
    before = shop.dump()
    record = shop.run(shop.sql("splitStatements:false\ndelete from event; commit; delete from order_item"))
    assert_as_it_was(shop, before, record, Outcome.RESTORED)


def test_an_index_built_concurrently_is_applied_stepwise(shop: Shop) -> None:
    record = shop.run(
        shop.sql(
            "runInTransaction:false\ncreate index concurrently order_by_placed_at on orders (placed_at);\n"
            "--rollback drop index concurrently order_by_placed_at"
        )
    )
    assert (record.error, record.outcome, record.way) == (None, Outcome.MIGRATED, Way.STEPWISE)
    assert "runInTransaction=false" in (record.way_reason or "")
    assert shop.value("select indisvalid from pg_index where indexrelid = 'order_by_placed_at'::regclass") is True


def test_an_index_that_concurrently_turned_out_invalid_is_not_left_behind(shop: Shop) -> None:
    before = shop.dump()
    record = shop.run(shop.sample("broken/concurrently.sql"))
    assert record.exit_code in {6, 7}, record.error
    assert record.error is not None
    assert record.error.sqlstate == "23505"
    assert shop.dump() == before
    assert shop.query("select indexrelid::regclass from pg_index where not indisvalid") == []


def test_an_enum_value_used_at_once_makes_the_run_fall_back_to_stepwise(shop: Shop) -> None:
    record = shop.run(shop.sample("broken/enum-at-once.sql"))
    assert (record.error, record.outcome) == (None, Outcome.MIGRATED)
    assert (record.way, record.fallback) == (Way.STEPWISE, None)
    assert "not possible in one transaction" in (record.way_reason or "")
    assert {step.attempt for step in record.steps if step.name == "apply"} == {1, 2}
    assert shop.value("select tier from customer where id = 1") == "platinum"


def test_an_enum_value_used_at_once_fails_where_nothing_but_atomic_is_allowed(shop: Shop) -> None:
    before = shop.dump()
    record = shop.run(shop.sample("broken/enum-at-once.sql"), {"way": "atomic"})
    assert_as_it_was(shop, before, record)
    assert record.error is not None
    assert record.error.sqlstate == "55P04"


def test_a_deferred_key_is_checked_before_anything_is_called_verified(shop: Shop) -> None:
    before = shop.dump()
    record = shop.run(shop.sample("broken/deferred-key.sql"))
    assert_as_it_was(shop, before, record)
    assert record.error is not None
    assert record.error.sqlstate == "23503"


def test_an_error_that_liquibase_was_told_to_ignore_fails_the_run(shop: Shop) -> None:
    before = shop.dump()
    record = shop.run(shop.sample("broken/hidden-error.sql"))
    assert_as_it_was(shop, before, record)
    assert "failOnError" in told(record)
    assert "hidden-error" in told(record)


def test_a_cascade_into_a_table_that_nobody_named_is_a_surprise(shop: Shop) -> None:
    before = shop.dump()
    record = shop.run(shop.sample("broken/cascade.sql"))
    assert_as_it_was(shop, before, record)
    assert record.surprises == ["public.order_item"]
    assert record.error is not None
    assert record.error.message.startswith("public.order_item was written, though no changeset names it")


@pytest.mark.slow
def test_a_cascade_that_empties_a_table_is_found_in_stepwise_too(shop: Shop) -> None:
    before = shop.dump()
    record = shop.run(shop.sql("\ndelete from orders;\n--rollback empty"), {"way": "stepwise"})
    assert_as_it_was(shop, before, record, Outcome.RESTORED)
    assert record.surprises == ["public.order_item"]


def test_an_expected_cascade_is_none(shop: Shop) -> None:
    record = shop.run(shop.sample("broken/cascade.sql"), {"checks.expected_writes": ("public.order_*",)})
    assert (record.error, record.outcome, record.surprises) == (None, Outcome.MIGRATED, [])
    assert "public.order_item" in record.write_set


@pytest.mark.parametrize("way", ["atomic", pytest.param("stepwise", marks=pytest.mark.slow)])
def test_a_table_that_is_only_altered_may_lose_no_row(shop: Shop, way: str) -> None:
    shop.login = shop.superuser  # only a superuser can back up and restore an event trigger
    shop.execute(
        "create function tidy_up() returns event_trigger language plpgsql as"
        " $$ begin delete from price_audit where id <= 2; end $$;"
        "create event trigger tidy on ddl_command_end when tag in ('ALTER TABLE') execute function tidy_up();"
        "insert into price_audit (product_id) select id from product limit 5",
        shop.superuser,
    )
    before = shop.dump()
    changelog = shop.sql(
        "\nalter table price_audit add column reason text;\n--rollback alter table price_audit drop column reason"
    )
    record = shop.run(changelog, {"way": way})
    assert_as_it_was(shop, before, record, Outcome.ROLLED_BACK if way == "atomic" else Outcome.RESTORED)
    assert "public.price_audit had 5 rows and has 3, though it was only altered" in told(record)


def test_a_table_that_is_only_altered_may_change_no_surviving_value(shop: Shop) -> None:
    before = shop.dump()
    record = shop.run(shop.sql("\nalter table order_item alter column price type numeric(10, 2) using price + 1"))
    assert_as_it_was(shop, before, record)
    assert "public.order_item has other values in columns that were not to change" in told(record)


def test_a_dropped_column_leaves_the_others_proven(shop: Shop) -> None:
    record = shop.run(
        shop.sql(
            "\nalter table customer drop column home",
            "\nalter table product alter column weight_kg type double precision",
        )
    )
    assert (record.error, record.outcome) == (None, Outcome.MIGRATED)
    [kept] = [one for one in record.proof.proven if one.startswith("Altered tables kept")]
    assert "public.customer" in kept
    assert shop.value("select count(*) from customer") == 200
    customer = next(table for table in record.tables if table.name == "public.customer")
    assert (customer.rows_before, customer.rows_after) == (200, 200)
