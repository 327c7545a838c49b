"""What a verification must see though no lock and no name in the changelog tells of it, and what it must not claim."""

from __future__ import annotations

from collections.abc import Sequence

import psycopg
import pytest

from migrator.runs.record import Outcome, StepName
from migrator.runs.reporter import SilentReporter
from tests.shop import Shop, conninfo

STEPWISE = {"way": "stepwise"}
DROPS_BY_A_NAME_MADE_UP = """splitStatements:false
do $$ begin execute 'drop table ' || 'heart' || 'beat'; end $$;
--rollback empty"""


def proven(lines: Sequence[str], begin: str) -> list[str]:
    return [line for line in lines if line.startswith(begin)]


def test_a_table_that_is_dropped_by_a_name_in_no_changeset_is_brought_back(shop: Shop) -> None:
    before = shop.dump()
    record = shop.run(shop.sql(DROPS_BY_A_NAME_MADE_UP))
    assert record.outcome is Outcome.ROLLED_BACK, record.error
    assert record.error is not None
    assert "public.heartbeat is gone" in record.error.message
    assert shop.dump() == before


def test_a_table_that_a_changeset_drops_by_name_is_said_to_be_uncompared(shop: Shop) -> None:
    record = shop.run(shop.sql("\ndrop table price_audit"))
    assert (record.error, record.outcome) == (None, Outcome.MIGRATED)
    assert any("public.price_audit" in line and "dropped" in line for line in record.proof.not_proven)


@pytest.mark.slow
def test_large_objects_that_are_lost_by_a_function_nobody_names_are_brought_back(shop: Shop) -> None:
    shop.execute(
        "create function tidy() returns void language sql as"
        " 'select lo_unlink(oid) from pg_catalog.pg_largeobject_metadata'"
    )
    before = shop.dump()
    assert shop.value("select count(*) from pg_largeobject_metadata") != 0
    record = shop.run(shop.sql("\nselect tidy()"))
    assert record.outcome is Outcome.ROLLED_BACK, record.error
    assert shop.dump() == before


def test_rows_changed_outside_a_transaction_by_a_changeset_that_names_them_are_its_own(shop: Shop) -> None:
    record = shop.run(shop.sql("runInTransaction:false\nupdate orders set status = 'cancelled' where id = 1"))
    assert (record.error, record.outcome) == (None, Outcome.MIGRATED)
    assert not proven(record.proof.proven, "Write set:")
    assert any("outside a transaction" in line for line in record.proof.not_proven)


@pytest.mark.slow
def test_the_kept_columns_are_named_where_not_all_were_compared(shop: Shop) -> None:
    record = shop.run(shop.sql("\nalter table customer drop column email cascade"))
    assert (record.error, record.outcome) == (None, Outcome.MIGRATED)
    [line] = proven(record.proof.proven, "Altered tables kept")
    columns = line.partition("public.customer (")[2]
    assert "name" in columns
    assert "email" not in columns


def test_what_users_write_before_the_fence_is_not_laid_to_the_migration(shop: Shop) -> None:
    shop.write("checks/beats.sql", "-- migrator: unchanged\nselect count(*) from heartbeat\n")

    class WritesBetween(SilentReporter):
        def step_started(self, name: StepName, title: str) -> None:
            if name is StepName.MAINTAIN:
                with psycopg.connect(conninfo(shop.app), autocommit=True) as connection:
                    connection.execute("insert into heartbeat default values")

    record = shop.run(
        shop.sql("\nalter table customer add column nickname text"),
        {"checks.invariants": ["checks/*.sql"]},
        reporter=WritesBetween(),
    )
    assert (record.error, record.outcome) == (None, Outcome.MIGRATED)
    assert any(check.phase == "after" and check.success for check in record.checks)
