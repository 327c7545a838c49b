"""What each changeset did to the server, as its own transaction tells it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from tests.integration.liquibase_fixtures import Project, project, worker

__all__ = ["project", "worker"]

BEFORE = """
create table customer (id int primary key, name varchar(20));
create table orders (id int primary key, customer_id int references customer on delete cascade, total int);
create index on orders (total);
create table audit (id bigint generated always as identity, what text);
create table part (id int, k int) partition by list (k);
create table part_1 partition of part for values in (1);
insert into customer select g, 'c' || g from generate_series(1, 100) g;
insert into orders select g, 1 + g % 100, g from generate_series(1, 1000) g;
insert into part select g, 1 from generate_series(1, 50) g;
analyze;
"""


def measured(project: Project, mode: str, changelog: str) -> dict[str, Mapping[str, Any]]:
    liquibase = project.connect(mode, measure="copy")  # type: ignore[arg-type]
    if mode == "held":
        liquibase.begin()
    project.update(changelog)
    if mode == "held":
        liquibase.rollback()
    return {event.id: event.measured for event in project.events if event.kind == "measured" and event.measured}


@pytest.mark.parametrize("mode", ["held", "stepwise"])
def test_each_changeset_tells_what_it_did(project: Project, mode: str) -> None:
    project.run(BEFORE)
    changelog = project.sql(
        "\nalter table orders alter column total type bigint;",
        "\ndelete from customer where id <= 10;",
        "\ncreate table extra (id int primary key);\ninsert into extra values (1), (2);",
        "\ncreate index orders_by_customer on orders (customer_id);",
        "\ndrop table audit;",
        "\nupdate part set id = id + 1;",
        "\ntruncate table orders;",
    )
    found = measured(project, mode, changelog)
    assert list(found) == ["1", "2", "3", "4", "5", "6", "7"]
    assert set(found["1"]["rewritten"]) == {"public.orders"}
    assert ["public.orders", "AccessExclusiveLock"] in found["1"]["locks"]
    assert {index[1] for index in found["1"]["indexes"]} == {"public.orders"}
    rows = {name: counts for name, counts in found["2"]["rows"].items() if "changelog" not in name}
    assert rows == {"public.customer": [0, 0, 10], "public.orders": [0, 0, 100]}
    assert ["public.orders", "RowExclusiveLock"] in found["2"]["locks"]
    assert set(found["3"]["created"]) == {"public.extra"}
    assert found["3"]["rows"]["public.extra"] == [2, 0, 0]
    assert not [lock for lock in found["3"]["locks"] if lock[0] == "public.extra"]
    [(name, table, size, is_new)] = found["4"]["indexes"]
    assert (name, table, is_new) == ("public.orders_by_customer", "public.orders", False)
    assert size > 0
    # in one transaction it is held since the first changeset, which built the other index anew
    assert ["public.orders", "ShareLock"] in found["1" if mode == "held" else "4"]["locks"]
    assert set(found["5"]["dropped"]) == {"public.audit"}
    assert found["6"]["rows"]["public.part_1"] == [0, 50, 0]
    before, after = found["7"]["sizes"]["public.orders"]
    assert before > 0
    assert after == 0
    assert all(one["wal_bytes"] > 0 for one in found.values())
    assert [one["at_s"] for one in found.values()] == sorted(one["at_s"] for one in found.values())


def test_changeset_outside_a_transaction_tells_its_indexes(project: Project) -> None:
    project.run(BEFORE)
    changelog = project.sql(" runInTransaction:false\ncreate index concurrently by_name on customer (name);")
    found = measured(project, "stepwise", changelog)
    assert [index[:2] for index in found["1"]["indexes"]] == [["public.by_name", "public.customer"]]


def test_failed_changeset_leaves_what_was_measured_before_it(project: Project) -> None:
    project.run(BEFORE)
    changelog = project.sql("\nalter table orders alter column total type bigint;", "\nselect 1/0;")
    with pytest.raises(Exception, match="division by zero"):
        measured(project, "held", changelog)
    assert [event.id for event in project.events if event.kind == "measured"] == ["1"]
    assert project.query("select pg_typeof(total)::text from orders limit 1") == [("integer",)]
