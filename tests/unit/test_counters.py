"""What two looks at the server's counters say of the tables: written, not written, or that nobody can tell."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from migrator.postgres.counters import Counters, moved

Table = tuple[int, int, int, int, int]
NAMES = ("public.a", "public.b", "public.c")


def looked(witness: str = "one server", **tables: Table) -> Counters:
    return Counters(witness=witness, tables={f"public.{name}": counted for name, counted in tables.items()})


BEFORE = looked(a=(1, 11, 5, 0, 0), b=(2, 12, 7, 3, 1))


def test_counters_that_stand_still_are_no_write() -> None:
    assert moved(BEFORE, looked(a=(1, 11, 5, 0, 0), b=(2, 12, 7, 3, 1))) == frozenset()


def test_each_number_that_moved_names_its_table() -> None:
    for now in ((1, 11, 6, 0, 0), (1, 11, 5, 1, 0), (1, 11, 5, 0, 1), (1, 99, 5, 0, 0)):
        assert moved(BEFORE, looked(a=now, b=(2, 12, 7, 3, 1))) == {"public.a"}


def test_a_table_that_is_gone_or_new_or_another_of_that_name_is_named() -> None:
    assert moved(BEFORE, looked(a=(1, 11, 5, 0, 0))) == {"public.b"}
    assert moved(BEFORE, looked(a=(1, 11, 5, 0, 0), b=(2, 12, 7, 3, 1), c=(3, 13, 0, 0, 0))) == {"public.c"}
    assert moved(BEFORE, looked(a=(4, 14, 5, 0, 0), b=(2, 12, 7, 3, 1))) == {"public.a"}


def test_a_table_is_called_by_its_name_before() -> None:
    assert moved(BEFORE, looked(c=(1, 11, 6, 0, 0), b=(2, 12, 7, 3, 1))) == {"public.a"}
    assert moved(BEFORE, looked(c=(1, 11, 5, 0, 0), b=(2, 12, 7, 3, 1))) == frozenset()


def test_what_was_reset_switched_off_or_went_down_tells_nothing() -> None:
    same = {"a": (1, 11, 5, 0, 0), "b": (2, 12, 7, 3, 1)}
    assert moved(BEFORE, looked("another start", **same)) is None
    assert moved(looked("off", **same), looked("off", **same)) is None
    assert moved(BEFORE, looked(a=(1, 11, 4, 0, 0), b=(2, 12, 7, 3, 1))) is None


TABLES = st.dictionaries(
    st.sampled_from(NAMES), st.tuples(*[st.integers(0, 4)] * 4).map(lambda four: (0, *four)), max_size=3
)


def numbered(tables: dict[str, Table]) -> Counters:
    return Counters(witness="w", tables={name: (NAMES.index(name) + 1, *t[1:]) for name, t in tables.items()})


@given(TABLES, TABLES)
def test_no_table_that_differs_is_ever_left_out(before: dict[str, Table], now: dict[str, Table]) -> None:
    found = moved(numbered(before), numbered(now))
    differing = {name for name in {*before, *now} if before.get(name) != now.get(name)}
    assert found is None or found == differing
