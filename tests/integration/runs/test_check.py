"""The checks alone: what they say of the data now, and nothing is written."""

from __future__ import annotations

import pytest

from migrator.postgres import sessions
from tests.integration.runs.byhand import call
from tests.shop import Shop

SUITE = """
name: customers
table: public.customer
expectations:
  - type: expect_column_values_to_not_be_null
    kwargs: {column: email}
  - type: expect_table_row_count_to_be_between
    kwargs: {max_value: 1}
    severity: warning
"""


@pytest.fixture
def checked(shop: Shop) -> Shop:
    shop.write("checks/customers.yaml", SUITE)
    shop.write("checks/orders.sql", "-- migrator: violations\nselect id from customer where name = 'nobody'")
    shop.write("checks/total.sql", "-- migrator: unchanged\nselect count(*) from orders")
    shop.toml = '[environments.staging.checks]\nsuites = ["checks/*.yaml"]\ninvariants = ["checks/*.sql"]\n'
    return shop


def test_checks_that_hold_end_with_0_and_warnings_are_told(checked: Shop) -> None:
    done = call(checked, "check", "--json")
    assert done.code == 0, done.out
    found = {one["name"]: one["success"] for one in done.json["checks"]}
    assert len(found) == 4
    assert [name for name, success in found.items() if not success] == [
        name for name in found if "expect_table_row_count" in name
    ]
    told = call(checked, "check")
    assert "warning customers" in told.out
    assert "4 checks: 3 hold, 0 critical fail, 1 that are not critical fail" in told.out


def test_a_critical_one_that_fails_ends_with_3(checked: Shop) -> None:
    checked.execute("update customer set name = 'nobody' where id = 1")
    done = call(checked, "check", "--suite", "orders.sql")
    assert done.code == 3
    assert "failed  orders.sql" in done.out
    assert call(checked, "check", "--suite", "customers", "--json").json["failed"] == 0


def test_an_unknown_suite_is_named_with_those_that_there_are(checked: Shop) -> None:
    wrong = call(checked, "check", "--suite", "nosuch")
    assert (wrong.code, "customers, orders.sql, total.sql" in wrong.err) == (2, True)


def test_without_any_check_it_is_refused(shop: Shop) -> None:
    refused = call(shop, "check")
    assert (refused.code, "has no check" in refused.err) == (3, True)


def test_it_stays_away_from_a_database_that_a_run_works_on(checked: Shop) -> None:
    with checked.server.session(checked.server.migrator) as other:
        assert sessions.lock(other, checked.login.database)
        assert call(checked, "check").code == 4
