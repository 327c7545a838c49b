"""Where two schemas differ, and what of it counts."""

from __future__ import annotations

import pytest

from migrator.plans import drift
from migrator.plans.drift import Change, Drift
from migrator.postgres import ddl
from migrator.reports import drift_text
from migrator.runs import journal_schemas

ORDERS = {
    "schema public": "OWNER pg_database_owner",
    "table public.orders": "COLUMNS (id, total, note) USING heap OWNER ann",
    "column public.orders.id": "bigint NOT NULL GENERATED ALWAYS AS IDENTITY",
    "column public.orders.note": "text",
    "column public.orders.total": "numeric(12,2) NOT NULL",
    "constraint orders_pkey on public.orders": "PRIMARY KEY (id)",
    "constraint orders_id_not_null on public.orders": "NOT NULL id",
    "constraint orders_total_not_null on public.orders": "NOT NULL total",
    "index public.orders_pkey": "CREATE UNIQUE INDEX orders_pkey ON public.orders USING btree (id)",
    "index public.orders_total": "CREATE INDEX orders_total ON public.orders USING btree (total)",
    "sequence public.orders_id_seq": "AS bigint START 1 IDENTITY OF public.orders.id OWNER ann",
    "grants on table public.orders": "SELECT TO app BY ann, INSERT TO app BY ann",
    "comment on table column public.orders.note": "'why'",
    "trigger touch on public.orders": "CREATE TRIGGER touch BEFORE UPDATE ON public.orders EXECUTE FUNCTION public.f()",
}
FUNCTION = {
    "function public.f(a integer)": "CREATE OR REPLACE FUNCTION public.f(a integer) RETURNS integer LANGUAGE sql AS"
    " $function$\\nselect a;\\n$function$ OWNER ann"
}
EVENTS = {
    "table public.event": "COLUMNS (at) PARTITION BY RANGE (at) OWNER ann",
    "column public.event.at": "date NOT NULL",
    "index public.event_at": "CREATE INDEX event_at ON ONLY public.event USING btree (at)",
}


def partition(name: str) -> dict[str, str]:
    bound = "PARTITION OF public.event FOR VALUES FROM ('a') TO ('b')"
    return {
        f"table public.{name}": f"COLUMNS (at) {bound} USING heap OWNER ann",
        f"column public.{name}.at": "date NOT NULL",
        f"index public.{name}_at": f"CREATE INDEX {name}_at ON public.{name} USING btree (at)"
        " PARTITION OF public.event_at",
        f"constraint c on public.{name}": "CHECK (true)",
        f"grants on table public.{name}": "SELECT TO app BY ann",
    }


def names(found: Drift, change: Change) -> list[str]:
    return [one.identity for one in found.of(change)]


def without(objects: dict[str, str], *identities: str) -> dict[str, str]:
    return {identity: line for identity, line in objects.items() if identity not in identities}


def test_equal_schemas_have_no_drift() -> None:
    found = drift.compare(ORDERS, dict(ORDERS))
    assert not found
    assert drift_text.render(found, of="a", against="b").splitlines() == ["a compared with b", "no drift"]


def test_a_new_table_is_one_difference_with_all_that_is_its_own() -> None:
    found = drift.compare({"schema public": ORDERS["schema public"]}, ORDERS)
    assert names(found, Change.ADDED) == ["table public.orders"]
    [one] = found.differences
    assert one.table == "public.orders"
    assert one.expected is None
    assert one.found is not None
    assert one.found.splitlines()[:6] == [
        "CREATE TABLE public.orders (",
        "  id bigint NOT NULL GENERATED ALWAYS AS IDENTITY,",
        "  total numeric(12,2) NOT NULL,",
        "  note text,",
        "  CONSTRAINT orders_pkey PRIMARY KEY (id)",
        ");",
    ]
    assert "ALTER TABLE public.orders OWNER TO ann;" in one.found
    assert "CREATE INDEX orders_total ON public.orders USING btree (total);" in one.found
    assert "GRANT SELECT, INSERT ON TABLE public.orders TO app;" in one.found
    assert "COMMENT ON COLUMN public.orders.note IS 'why';" in one.found
    assert one.found.count("orders_pkey") == 1
    assert "SEQUENCE" not in one.found


def test_the_other_way_round_it_is_missing() -> None:
    found = drift.compare(ORDERS, {"schema public": ORDERS["schema public"]})
    assert names(found, Change.MISSING) == ["table public.orders"]


def test_a_column_that_came_is_told_once() -> None:
    less = without(ORDERS, "column public.orders.note", "comment on table column public.orders.note")
    less["table public.orders"] = "COLUMNS (id, total) USING heap OWNER ann"
    found = drift.compare(less, ORDERS)
    assert [(one.identity, one.change) for one in found.differences] == [("column public.orders.note", Change.ADDED)]
    assert found.differences[0].found == (
        "ALTER TABLE public.orders ADD COLUMN note text;\nCOMMENT ON COLUMN public.orders.note IS 'why';"
    )


def test_another_order_of_columns_is_a_difference() -> None:
    turned = {**ORDERS, "table public.orders": "COLUMNS (total, id, note) USING heap OWNER ann"}
    assert names(drift.compare(ORDERS, turned), Change.CHANGED) == ["table public.orders"]


def test_a_changed_column_shows_both_sides() -> None:
    wider = {**ORDERS, "column public.orders.total": "numeric(14,2) NOT NULL"}
    [one] = drift.compare(ORDERS, wider).differences
    assert one.diff == [
        "- ALTER TABLE public.orders ADD COLUMN total numeric(12,2) NOT NULL;",
        "+ ALTER TABLE public.orders ADD COLUMN total numeric(14,2) NOT NULL;",
    ]


def test_a_function_shows_the_lines_that_changed() -> None:
    changed = {name: line.replace("select a;", "select a + 1;") for name, line in FUNCTION.items()}
    [one] = drift.compare(FUNCTION, changed).differences
    assert [line for line in one.diff if line[0] != " "] == ["- select a;", "+ select a + 1;"]


def test_a_not_null_is_the_columns_not_the_constraints() -> None:
    older = without(ORDERS, "constraint orders_id_not_null on public.orders")
    assert not drift.compare(older, ORDERS), "servers before 18 have no such constraint"
    loose = without(ORDERS, "constraint orders_total_not_null on public.orders")
    loose["column public.orders.total"] = "numeric(12,2)"
    assert names(drift.compare(ORDERS, loose), Change.CHANGED) == ["column public.orders.total"]


def test_a_dropped_constraint_takes_its_index_along() -> None:
    less = without(ORDERS, "constraint orders_pkey on public.orders", "index public.orders_pkey")
    [one] = drift.compare(ORDERS, less).differences
    assert (one.identity, one.change) == ("constraint orders_pkey on public.orders", Change.MISSING)
    assert one.expected == "ALTER TABLE public.orders ADD CONSTRAINT orders_pkey PRIMARY KEY (id);"


@pytest.mark.parametrize("newer", [True, False])
def test_partitions_that_one_side_alone_has_are_left_out(newer: bool) -> None:
    less, more = {**EVENTS, **partition("event_1")}, {**EVENTS, **partition("event_1"), **partition("event_2")}
    found = drift.compare(less, more) if newer else drift.compare(more, less)
    assert not found
    assert found.partitions == ("public.event_2",)


def test_what_is_done_to_one_partition_alone_counts() -> None:
    before = {**EVENTS, **partition("event_1")}
    assert names(drift.compare(before, without(before, "index public.event_1_at")), Change.MISSING) == [
        "index public.event_1_at"
    ]


def test_what_is_done_to_all_partitions_is_told_of_the_parent() -> None:
    before = {**EVENTS, **partition("event_1")}
    wider = {**before, "column public.event.at": "date", "column public.event_1.at": "date"}
    assert names(drift.compare(before, wider), Change.CHANGED) == ["column public.event.at"]
    gone = without(before, "index public.event_at", "index public.event_1_at")
    assert names(drift.compare(before, gone), Change.MISSING) == ["index public.event_at"]


@pytest.mark.parametrize("patterns", [["public.orders"], ["table public.ord*"], ["*.orders"], ["public.*"]])
def test_a_pattern_leaves_out_a_table_with_all_that_belongs_to_it(patterns: list[str]) -> None:
    found = drift.compare({"schema public": ORDERS["schema public"]}, ORDERS, ignore=patterns)
    kept = set(names(found, Change.ADDED))
    assert "table public.orders" not in kept
    if patterns != ["table public.ord*"]:
        assert not found, found.differences
    assert "table public.orders" in found.ignored


def test_a_pattern_may_name_one_object() -> None:
    found = drift.compare(without(ORDERS, "index public.orders_total"), ORDERS, ignore=["index *_total"])
    assert not found
    assert found.ignored == ("index public.orders_total",)


def test_liquibases_tables_rows_and_what_a_login_may_not_see_do_not_count() -> None:
    more = {
        **ORDERS,
        "table public.databasechangelog": "COLUMNS (id) OWNER ann",
        "column public.databasechangelog.id": "text",
        "index public.dcl": "CREATE INDEX dcl ON public.databasechangelog USING btree (id)",
        "grants on table public.databasechangeloglock": "SELECT TO app BY ann",
        "large objects": "7 4711",
        'function public."migrator_backfill_split-name"()': "CREATE FUNCTION ...",
        'grants on function public."migrator_backfill_split-name"()': "",
        'trigger "migrator_backfill_split-name:update" on public.orders': "CREATE TRIGGER ...",
        "trigger migrator_backfill_widen on public.orders": "CREATE TRIGGER ...",
        "user mapping for ann on s": "OPTIONS (password ab12)",
    }
    assert not drift.compare({**ORDERS, "user mapping for ann on s": "OPTIONS ()"}, more)


def test_owners_and_rights_count_unless_told_otherwise() -> None:
    view = {"view public.v": "COLUMNS (id) OWNER ann | SELECT 1 AS id"}
    theirs = {identity: line.replace("ann", "bob") for identity, line in {**ORDERS, **FUNCTION, **view}.items()}
    theirs["default privileges of bob on tables"] = "SELECT TO app"
    assert drift.compare({**ORDERS, **FUNCTION, **view}, theirs)
    assert not drift.compare({**ORDERS, **FUNCTION, **view}, theirs, owners=False)


def test_a_view_reads_as_a_query() -> None:
    line = (
        "COLUMNS (id, n) OWNER ann | SELECT o.id, count(*) AS n FROM (public.orders o LEFT JOIN public.item i ON"
        " ((i.order_id = o.id))) WHERE (o.note <> 'FROM here'::text) GROUP BY o.id;"
    )
    assert ddl.of("view public.v", {"view public.v": line}).splitlines() == [
        "CREATE VIEW public.v AS",
        "SELECT o.id,",
        "  count(*) AS n",
        "FROM (public.orders o",
        "  LEFT JOIN public.item i ON ((i.order_id = o.id)))",
        "WHERE (o.note <> 'FROM here'::text)",
        "GROUP BY o.id;",
        "ALTER VIEW public.v OWNER TO ann;",
    ]


@pytest.mark.parametrize(
    ("identity", "line", "says"),
    [
        ("type public.tier", "ENUM ('a', 'b') OWNER ann", "CREATE TYPE public.tier AS ENUM (\n  'a',\n  'b'\n);"),
        ("domain public.d", "AS text NOT NULL OWNER ann", "CREATE DOMAIN public.d AS text NOT NULL;"),
        ("extension citext", "VERSION '1.6' SCHEMA public", "CREATE EXTENSION citext VERSION '1.6' SCHEMA public;"),
        ("schema s", "OWNER ann", "CREATE SCHEMA s"),
        (
            "column public.o.v",
            "numeric GENERATED STORED ((a * b))",
            "ADD COLUMN v numeric GENERATED ALWAYS AS ((a * b)) STORED;",
        ),
        (
            "index public.i",
            "CREATE INDEX i ON public.o USING btree (a) CLUSTERED INVALID",
            "CREATE INDEX i ON public.o USING btree (a);  -- CLUSTERED,INVALID",
        ),
        ("policy p on public.o", "PERMISSIVE FOR ALL TO app USING (true)", "CREATE POLICY p ON public.o AS PERMISSIVE"),
        ("constraint c on domain public.d", "CHECK (true)", "ALTER DOMAIN public.d ADD CONSTRAINT c CHECK (true);"),
        ("operator @@@(a,b)", "FUNCTION f", "-- operator @@@(a,b): FUNCTION f"),
    ],
)
def test_other_objects_read_as_sql(identity: str, line: str, says: str) -> None:
    assert says in ddl.of(identity, {identity: line})


def test_touching_keeps_what_a_changelog_names() -> None:
    found = drift.compare({}, {**ORDERS, **FUNCTION})
    assert names(found.touching([], ["public.orders"]), Change.ADDED) == ["table public.orders"]
    assert names(found.touching(["function public.f(a integer)"], []), Change.ADDED) == ["function public.f(a integer)"]


def test_a_kept_schema_is_small_and_comes_back_whole() -> None:
    many = {f"column public.table_{n}.column_{m}": "bigint NOT NULL" for n in range(500) for m in range(20)}
    packed = journal_schemas.packed(many)
    assert len(packed) < 60_000
    assert journal_schemas.unpacked(packed) == many
    with pytest.raises(ValueError, match="unpacked"):
        journal_schemas.unpacked(packed[:100])
