from __future__ import annotations

import pytest

from migrator.plans import concerned

SCHEMA = {
    "table public.orders": "COLUMNS (id, total) USING heap OWNER migrator",
    "column public.orders.id": "bigint NOT NULL",
    "index public.orders_pkey": "CREATE UNIQUE INDEX orders_pkey ON public.orders USING btree (id)",
    "index public.by_total": "CREATE INDEX by_total ON public.orders USING btree (total)",
    "constraint orders_pkey on public.orders": "PRIMARY KEY (id)",
    "trigger stamp on public.orders": "CREATE TRIGGER stamp BEFORE UPDATE ON public.orders EXECUTE FUNCTION "
    "public.stamp()",
    "function public.stamp()": "the body",
    "function public.other()": "the body",
    "sequence public.orders_id_seq": "AS bigint OWNED BY public.orders.id OWNER migrator",
    "table public.items": "COLUMNS (id) OWNER migrator",
    "constraint items_order on public.items": "FOREIGN KEY (order_id) REFERENCES public.orders(id)",
    "constraint items_thing on public.items": "FOREIGN KEY (thing_id) REFERENCES public.things(id)",
    "view public.totals": "SELECT sum(orders.total) AS sum FROM public.orders",
    "view public.names": "SELECT 1",
    "grants on table public.orders": "SELECT TO app BY migrator",
    "comment on table public.orders": "'all of them'",
    "table public.events": "COLUMNS (at) PARTITION BY RANGE (at) OWNER migrator",
    "table public.events_01": "COLUMNS (at) PARTITION OF public.events FOR VALUES FROM (1) TO (2) OWNER migrator",
    "column public.events_01.at": "integer",
    "index public.events_01_at_idx": "CREATE INDEX events_01_at_idx ON public.events_01 USING btree (at) PARTITION OF "
    "public.events_at_idx",
    "index public.events_at_idx": "CREATE INDEX events_at_idx ON ONLY public.events USING btree (at)",
    "type public.mood": "ENUM ('sad')",
    "type public.size": "ENUM ('s')",
    'table public."Odd name"': "COLUMNS (id)",
    "table public.databasechangelog": "COLUMNS (id)",
    "column public.databasechangelog.id": "text",
    "table public.migrator_backfills": "COLUMNS (name)",
    "column public.migrator_backfills.name": "text",
    "index public.migrator_backfills_pkey": "CREATE UNIQUE INDEX ... ON public.migrator_backfills USING btree (name)",
    "table public.migrator_backfill_ranges": "COLUMNS (name)",
    "schema public": "OWNER pg_database_owner",
}


def names(*words: str) -> set[str]:
    return set(concerned.objects(SCHEMA, words))


def test_a_named_table_counts_with_all_that_hangs_on_it() -> None:
    assert names("orders", "alter", "table", "type", "public") == {
        "table public.orders",
        "column public.orders.id",
        "index public.orders_pkey",
        "index public.by_total",
        "constraint orders_pkey on public.orders",
        "trigger stamp on public.orders",
        "function public.stamp()",
        "sequence public.orders_id_seq",
        "constraint items_order on public.items",
        "view public.totals",
        "schema public",
    }


def test_owners_do_not_count() -> None:
    assert concerned.objects(SCHEMA, ["items"])["table public.items"] == "COLUMNS (id)"


def test_partitions_do_not_count_unless_they_are_named() -> None:
    assert names("events") == {"table public.events", "index public.events_at_idx"}
    assert "column public.events_01.at" in names("events", "events_01")


@pytest.mark.parametrize(
    ("word", "found"),
    [
        ("mood", {"type public.mood"}),
        ("other", {"function public.other()"}),
        ("by_total", {"index public.by_total"}),
        ("items_thing", {"constraint items_thing on public.items"}),
        ("Odd name", {'table public."Odd name"'}),
        ("databasechangelog", set()),
        ("migrator_backfills", set()),
        ("migrator_backfill_ranges", set()),
        ("type", set()),
        ("nothing", set()),
    ],
)
def test_the_rest_counts_by_its_own_name(word: str, found: set[str]) -> None:
    assert names(word) == found


TYPES = {
    "table public.orders": "COLUMNS (id, mood, at)",
    "column public.orders.mood": "public.grade[] NOT NULL DEFAULT '{}'::public.grade[]",
    "column public.orders.at": "public.spans",
    "domain public.grade": "AS public.mood NOT NULL OWNER migrator",
    "constraint known on domain public.grade": "CHECK (true)",
    "type public.mood": "ENUM ('sad') OWNER migrator",
    "type public.mood_of_others": "ENUM ('sad')",
    "type public.span": "RANGE OF integer MULTIRANGE public.spans OWNER migrator",
    'type public."A pair"': "COMPOSITE (a)",
    'column public."A pair".a': "public.size",
    "type public.size": "ENUM ('s')",
    "table public.items": "COLUMNS (pair)",
    "column public.items.pair": 'public."A pair"',
}


def test_the_types_of_a_tables_columns_count_down_to_their_labels() -> None:
    found = concerned.objects(TYPES, ["orders"])
    assert set(found) == set(list(TYPES)[:6]) | {"type public.span"}
    assert found["type public.mood"] == "ENUM ('sad')"
    assert set(concerned.objects(TYPES, ["items"])) == set(list(TYPES)[8:])
    assert concerned.objects({**TYPES, "type public.mood": "ENUM ('sad', 'glad')"}, ["orders"]) != found


def test_a_domain_that_is_named_counts_with_what_it_is_made_of() -> None:
    assert set(concerned.objects(TYPES, ["grade"])) == {
        "domain public.grade",
        "constraint known on domain public.grade",
        "type public.mood",
    }
