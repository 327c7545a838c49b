"""The numbers behind findings, from a real database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from migrator.config.login import Login
from migrator.plans.findings import Finding, Findings, Severity
from migrator.plans.findings.database import Database
from migrator.postgres.connect import PgSession, connect
from tests.conftest import Server
from tests.linted import find

TABLES = """
CREATE TABLE customer (id bigint PRIMARY KEY, email varchar(200) NOT NULL, phone text, note text);
CREATE TABLE orders (id bigint PRIMARY KEY, customer_id bigint REFERENCES customer ON DELETE CASCADE, qty integer);
CREATE TABLE item (id bigint PRIMARY KEY, order_id bigint REFERENCES orders ON DELETE CASCADE);
CREATE TABLE refund (id int, order_id bigint REFERENCES orders);
CREATE VIEW report AS SELECT c.email, o.qty FROM customer c JOIN orders o ON o.customer_id = c.id;
CREATE MATERIALIZED VIEW totals AS SELECT email, sum(qty) FROM report GROUP BY email;
CREATE TABLE nothing (id int);
CREATE SCHEMA attic; CREATE TABLE attic.old AS SELECT generate_series(1, 500) AS id;
CREATE TYPE mood AS ENUM ('good'); CREATE TABLE diary (id int, m mood);
CREATE TABLE part (id int, at date) PARTITION BY RANGE (at);
CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
CREATE TABLE part_2 PARTITION OF part FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
INSERT INTO part SELECT 1, d FROM generate_series('2024-01-01'::date, '2025-12-31', '1 day') d;
INSERT INTO customer SELECT i, 'u' || i, CASE WHEN i % 2 = 0 THEN 'p' END FROM generate_series(1, 100) i;
INSERT INTO orders SELECT i, 1 + i % 100, 1 FROM generate_series(1, 1000) i;
INSERT INTO item SELECT i, i FROM generate_series(1, 700) i;
"""


def session_of(login: Login, *, read_only: bool = False) -> PgSession:
    return connect(login, role="test", run_id="test", read_only=read_only)


@pytest.fixture
def shop(database: Login) -> Login:
    with session_of(database) as session:
        session.execute(TABLES)
    return database


@contextmanager
def asked(login: Login) -> Iterator[Database]:
    with session_of(login, read_only=True) as session:
        yield Database(session)


def found(root: Path, login: Login, *bodies: str) -> Findings:
    with asked(login) as database:
        return find(root, *[f"\n{body}" for body in bodies], database=database)


def only(findings: Findings, rule: str) -> Finding:
    [one] = [one for one in findings.found if one.rule == rule]
    return one


def numbers(finding: Finding) -> dict[str, tuple[int, bool]]:
    return {stake.table: (stake.rows, stake.is_exact) for stake in finding.stakes}


def test_dropped_column_counts_the_rows_that_have_a_value(shop: Login, tmp_path: Path) -> None:
    one = only(found(tmp_path, shop, "alter table customer drop column phone;"), "drop-column")
    assert numbers(one) == {"public.customer": (50, True)}
    assert one.rows_at_stake == 50
    assert "50 rows with a value in it (counted)" in one.message


def test_cascade_of_a_drop_names_views_and_keys_of_other_tables(shop: Login, tmp_path: Path) -> None:
    findings = found(tmp_path, shop, "drop table orders cascade;")
    message = only(findings, "drop-cascade").message
    for name in ("view public.report", "materialized view public.totals", "item_order_id_fkey", "refund_order_id_fkey"):
        assert name in message.replace("constraint ", "").replace(" on table public.item", ""), message
    assert "orders_pkey" not in message
    assert numbers(only(findings, "drop-table")) == {"public.orders": (1000, True)}


def test_cascade_of_a_truncate_counts_every_table_that_it_empties(shop: Login, tmp_path: Path) -> None:
    one = only(found(tmp_path, shop, "truncate customer cascade;"), "truncate-cascade")
    assert numbers(one) == {"public.orders": (1000, True), "public.item": (700, True), "public.refund": (0, True)}


def test_delete_names_the_tables_that_its_foreign_keys_empty(shop: Login, tmp_path: Path) -> None:
    findings = found(tmp_path, shop, "delete from customer where id = 1;", "delete from item where id = 1;")
    assert numbers(only(findings, "delete-cascades")) == {"public.orders": (1000, True), "public.item": (700, True)}


def test_cascade_takes_columns_of_a_type_and_tables_of_a_schema(shop: Login, tmp_path: Path) -> None:
    findings = found(tmp_path, shop, "drop type mood cascade;", "drop schema attic cascade;", "drop type mood;")
    assert "column m of table public.diary" in only(findings, "drop-cascade").message
    assert numbers(only(findings, "drop-schema")) == {"attic.old": (500, True)}


def test_column_that_others_refer_to_takes_their_keys_along(shop: Login, tmp_path: Path) -> None:
    findings = found(tmp_path, shop, "alter table customer drop column id cascade;")
    message = only(findings, "drop-cascade").message
    assert "orders_customer_id_fkey" in message
    assert "view public.report" in message


def test_type_is_judged_by_the_one_that_the_column_has(shop: Login, tmp_path: Path) -> None:
    findings = found(
        tmp_path,
        shop,
        "alter table customer alter email type varchar(400);",
        "alter table customer alter email type varchar(20);",
        "alter table orders alter qty type bigint;",
    )
    assert "from character varying(200) to varchar(20)" in only(findings, "narrow-type").message
    assert [one.line for one in findings.found if one.rule == "table-rewrite"] == [5, 7]
    assert not [one for one in findings.found if one.rule == "change-type"]
    rewrite = findings.found[[one.line for one in findings.found].index(7)]
    assert numbers(rewrite) == {"public.orders": (1000, True)}
    assert "1,000 rows (counted)" in rewrite.message


def test_not_null_counts_the_rows_that_break_it(shop: Login, tmp_path: Path) -> None:
    findings = found(
        tmp_path,
        shop,
        "alter table customer alter phone set not null;",
        "alter table orders alter qty set not null;",
        "alter table customer alter email set not null;",
    )
    by_line = {one.line: one for one in findings.found if one.rule == "set-not-null"}
    assert sorted(by_line) == [3, 5]
    assert (by_line[3].severity, by_line[3].rows_at_stake) == (Severity.ERROR, 50)
    assert by_line[5].severity is Severity.WARNING


def test_empty_table_makes_a_finding_milder(shop: Login, tmp_path: Path) -> None:
    findings = found(
        tmp_path,
        shop,
        "alter table nothing add a int not null;",
        "create index on nothing (id);",
        "truncate nothing;",
        "alter table nothing add constraint c check (id > 0);",
    )
    assert not findings.at_least(Severity.ERROR)
    assert only(findings, "index-blocks-writes").severity is Severity.INFO


def test_table_that_is_pending_is_new_though_its_file_is_another(shop: Login, tmp_path: Path) -> None:
    findings = found(
        tmp_path,
        shop,
        "create table fresh (id int); create table if not exists orders (id int);",
        "alter table fresh add a int not null; alter table orders drop column qty;",
    )
    assert [one.rule for one in findings.at_least(Severity.WARNING)] == ["drop-column"]


def test_partitions_are_counted_with_their_parent(shop: Login, tmp_path: Path) -> None:
    one = only(found(tmp_path, shop, "truncate part;"), "truncate")
    assert numbers(one) == {"public.part": (731, True)}
    assert (one.stakes[0].size_bytes or 0) > 0


def test_what_may_not_be_read_is_estimated(server: Server, shop: Login, tmp_path: Path) -> None:
    with session_of(shop) as session:
        session.execute("ANALYZE orders; GRANT USAGE ON SCHEMA public TO app")
    one = only(found(tmp_path, server.app.to(shop.database), "drop table orders;"), "drop-table")
    assert numbers(one) == {"public.orders": (1000, False)}
    assert "about 1,000 rows (estimated)" in one.message


def test_count_waits_for_nobody_and_a_lock_that_others_hold_is_told(shop: Login, tmp_path: Path) -> None:
    with session_of(shop) as session:
        session.execute("ANALYZE orders")
    with session_of(shop) as other:
        other.execute("BEGIN; LOCK TABLE orders IN ACCESS EXCLUSIVE MODE; LOCK TABLE item IN ROW SHARE MODE")
        findings = found(tmp_path, shop, "truncate orders;", "alter table item add a int;")
        other.execute("ROLLBACK")
    assert numbers(only(findings, "truncate"))["public.orders"] == (1000, False)
    busy = only(findings, "access-exclusive")
    assert busy.severity is Severity.WARNING
    assert "1 session holds it now" in busy.message
    assert "700 rows (counted)" in busy.message


def test_names_are_found_by_the_search_path_and_by_quoted_names(shop: Login, tmp_path: Path) -> None:
    with session_of(shop) as session:
        session.execute(
            """CREATE SCHEMA "Odd s"; CREATE TABLE "Odd s"."T 1" AS SELECT 1 AS "C"; SET search_path = attic"""
        )
    findings = found(tmp_path, shop, 'drop table "Odd s"."T 1";', "drop table attic.old;", "drop table if exists gone;")
    drops = [one for one in findings.found if one.rule == "drop-table"]
    assert [list(numbers(one)) for one in drops] == [['"Odd s"."T 1"'], ["attic.old"]]


def test_nothing_is_left_behind(shop: Login, tmp_path: Path) -> None:
    with session_of(shop, read_only=True) as session:
        database = Database(session)
        find(tmp_path, "\ntruncate customer cascade; drop schema attic cascade;", database=database)
        assert session.rows("SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND relation > 16383") == [
            ("0",)
        ]
        assert session.rows("SHOW statement_timeout") == [("0",)]
