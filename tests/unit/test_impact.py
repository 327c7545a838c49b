"""Which tables a changelog names, and which of them its DML names."""

from dataclasses import dataclass

import pytest

from migrator.plans import impact


@dataclass(frozen=True)
class Text:
    statements: tuple[str, ...] = ()
    tables: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Table:
    name: str
    parent: str | None = None
    schema: str = "public"

    @property
    def qualified(self) -> str:
        return f"{self.schema}.{self.name}"


TABLES = [Table("orders"), Table("order_item"), Table("event"), Table("event_2026", parent="public.event")]


def test_a_table_is_named_by_any_identifier_in_the_sql():
    found = impact.of([Text(('ALTER TABLE public."orders" ADD note text',))], TABLES)
    assert found.named == {"public.orders"}
    assert not found.written


def test_a_partition_is_named_by_its_parent():
    found = impact.of([Text(("delete from event where true",))], TABLES)
    assert found.named == found.written == {"public.event", "public.event_2026"}


@pytest.mark.parametrize(
    "sql",
    [
        "update orders set a = 1",
        "with x as (select 1) delete from orders",
        "do $$ begin delete from orders; end $$",
        "select repair('orders'), * from orders",
        "alter table orders add b int; insert into orders default values",
        "/* note */ truncate orders",
    ],
)
def test_dml_marks_the_tables_that_it_names(sql):
    assert impact.of([Text((sql,))], TABLES).written == {"public.orders"}


@pytest.mark.parametrize(
    "sql",
    [
        "alter table orders add foreign key (a) references order_item on delete cascade on update cascade",
        "create trigger t after insert or update on orders for each row execute function f()",
        "create function f() returns void language sql as $$ delete from orders $$",
        "comment on table orders is 'we delete; update'",
        "create index concurrently i on orders (a)",
    ],
)
def test_ddl_that_speaks_of_dml_is_ddl(sql):
    assert "public.orders" not in impact.of([Text((sql,))], TABLES).written


def test_structured_names_of_a_change_without_sql_count_as_written():
    assert impact.of([Text((), frozenset({"orders"}))], TABLES).written == {"public.orders"}


def test_a_quoted_name_keeps_its_case():
    table = Table("Order")
    assert impact.of([Text(('drop table "Order"',))], [table]).named == {table.qualified}
    assert not impact.of([Text(("drop table order",))], [table]).named


@pytest.mark.parametrize(
    ("statements", "in_transaction", "hides"),
    [
        (("update a set b = 1",), True, False),
        (("update a set b = 1; commit; update a set b = 2",), True, True),
        (("/* commit; */ update a set b = 'x; commit'",), True, False),
        (("do $$ begin perform 1; end $$",), True, False),
        ((), True, False),
        ((), False, True),
        (("create unique index concurrently i on a (b)", "drop index concurrently i"), False, False),
        (("alter type mood add value 'ok'",), False, False),
        (("alter type pair alter attribute a type text cascade",), False, True),
        (("select tidy()",), False, True),
        (("create index i on a (b); delete from a",), False, True),
    ],
)
def test_writes_are_hidden_outside_a_transaction_and_in_one_that_a_statement_ends(
    statements: tuple[str, ...], in_transaction: bool, hides: bool
) -> None:
    assert impact.hides_writes(statements, in_transaction=in_transaction) is hides
