"""Backfills as files, their place in a changelog, their pace: what needs no database."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg import sql

from migrator.backfills import discovery
from migrator.backfills.definition import Backfill, read
from migrator.backfills.keys import Bounds, Column, Table, with_batch
from migrator.backfills.pace import LARGEST, SMALLEST, Pace, Tally
from migrator.errors import Refused
from migrator.liquibase.models import Changeset, ChangesetState

FILE = """
name = "split-name"
after = "2::shop"
table = "customer"
key = ["id"]
statement = "update customer c set first_name = c.name from batch b where c.id = b.id"
verify = "select id from customer where first_name is null"
"""


def written(folder: Path, text: str, name: str = "a.backfill.toml") -> Path:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return file


def test_file_is_read_with_its_defaults(tmp_path: Path) -> None:
    backfill = read(written(tmp_path, FILE))
    assert (backfill.name, backfill.key, backfill.jobs, backfill.capture) == ("split-name", ("id",), 2, "none")
    assert Backfill.model_validate(backfill.model_dump(mode="json")).checksum == backfill.checksum


@pytest.mark.parametrize(
    ("change", "place", "said"),
    [
        (("name =", "nam ="), "a.backfill.toml:2", "nam: unknown key"),
        (('key = ["id"]', "key = []"), "a.backfill.toml:5", "key: is empty"),
        (('"2::shop"', '"shop"'), "a.backfill.toml:3", "names no changeset"),
        (('"split-name"', '"a b"'), "a.backfill.toml:2", "letters, digits"),
        (("verify =", "batch_rows = 0\nverify ="), "a.backfill.toml:7", "must be more than 0"),
        (
            ("verify =", 'python = "a:b"\nverify ='),
            "a.backfill.toml:",
            "one of statement and python is wanted, not both",
        ),
        (("statement =", "x = 1 # "), "a.backfill.toml:", "x: unknown key"),
        (('["id"]', '["id", "id"]'), "a.backfill.toml:", "key names a column twice"),
        (("verify =", 'on_delete = "x"\nverify ='), "a.backfill.toml:", "on_delete is for capture"),
        (("verify =", 'inside = true\ncapture = "trigger"\nverify ='), "a.backfill.toml:", "catches nothing"),
        (("verify =", 'file = "x"\nverify ='), "a.backfill.toml:7", "file: unknown key"),
        (("verify =", "verify = = "), "a.backfill.toml:7", "not TOML"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(tmp_path: Path, change: tuple[str, str], place: str, said: str) -> None:
    file = written(tmp_path, FILE.replace(*change))
    with pytest.raises(Refused) as caught:
        read(file, shown="changelogs/a.backfill.toml")
    assert any(line.startswith(f"changelogs/{place}") for line in caught.value.message.splitlines())
    assert said in caught.value.message


def test_checksum_is_of_what_is_done_and_not_of_its_pace(tmp_path: Path) -> None:
    before = read(written(tmp_path, FILE)).checksum
    assert read(written(tmp_path, FILE + "jobs = 7\nbatch_rows = 9\npause_s = 1.0\n")).checksum == before
    assert read(written(tmp_path, FILE.replace("is null", "is  null"))).checksum != before
    assert read(written(tmp_path, FILE + 'where = "true"\n')).checksum != before


def test_checksum_is_of_the_module_beside_it(tmp_path: Path) -> None:
    text = "\n".join(line for line in FILE.splitlines() if not line.startswith("statement")) + '\npython = "m:f"\n'
    module = written(tmp_path, "def f(connection, keys): pass\n", "m.py")
    before = read(written(tmp_path, text)).checksum
    module.write_text("def f(connection, keys): print(keys)\n", encoding="utf-8")
    assert read(written(tmp_path, text)).checksum != before


def changeset(number: str, path: str, *, file: str | None = None, author: str = "shop") -> Changeset:
    return Changeset(
        id=number, author=author, path=path, file=file or path, checksum=None, state=ChangesetState.PENDING
    )


CHANGESETS = [changeset("1", "r/one.sql"), changeset("2", "r/one.sql"), changeset("1", "s/two.sql")]


@pytest.mark.parametrize("after", ["2::shop", "r/one.sql::2::shop", "2::shop::r/one.sql"])
def test_backfill_follows_the_changeset_that_it_names(tmp_path: Path, after: str) -> None:
    written(tmp_path, FILE.replace("2::shop", after), "r/a.backfill.toml")
    [placed] = discovery.beside("main.xml", CHANGESETS, tmp_path)
    assert (placed.changeset, placed.backfill.name) == ("r/one.sql::2::shop", "split-name")


def test_backfills_are_in_the_order_of_the_changelog(tmp_path: Path) -> None:
    for name, after, file in (("b", "2::shop", "a"), ("a", "2::shop", "b"), ("z", "r/one.sql::1::shop", "c")):
        text = FILE.replace("2::shop", after).replace("split-name", name)
        written(tmp_path, text, f"r/{file}.backfill.toml")
    assert [one.backfill.name for one in discovery.beside("r/one.sql", CHANGESETS, tmp_path)] == ["z", "a", "b"]


@pytest.mark.parametrize(
    ("after", "said", "remedy"),
    [
        ("1::shop", "could be r/one.sql::1::shop or s/two.sql::1::shop", "path::id::author"),
        ("2::shopp", "no changeset '2::shopp'", "did you mean '2::shop'?"),
        ("x/one.sql::2::shop", "no changeset", "did you mean 'r/one.sql::2::shop'?"),
    ],
)
def test_changeset_that_is_not_one_is_refused(tmp_path: Path, after: str, said: str, remedy: str) -> None:
    written(tmp_path, FILE.replace("2::shop", after), "r/a.backfill.toml")
    with pytest.raises(Refused, match=r"r/a\.backfill\.toml: after: ") as caught:
        discovery.beside("main.xml", CHANGESETS, tmp_path)
    assert said in caught.value.message
    assert remedy in (caught.value.hint or "")


def test_two_of_one_name_are_refused(tmp_path: Path) -> None:
    written(tmp_path, FILE, "r/a.backfill.toml")
    written(tmp_path, FILE, "s/b.backfill.toml")
    with pytest.raises(Refused, match=r"s/b\.backfill\.toml: the backfill split-name is in r/a\.backfill\.toml too"):
        discovery.beside("main.xml", CHANGESETS, tmp_path)


@pytest.mark.parametrize(
    ("statement", "wanted"),
    [
        ("update t", 'WITH "batch" AS MATERIALIZED (select 1) update t'),
        ("/* with */ WITH x as (select 2) select", 'WITH "batch" AS MATERIALIZED (select 1),  x as (select 2) select'),
        ("with recursive x as (y) z", 'WITH RECURSIVE "batch" AS MATERIALIZED (select 1),  x as (y) z'),
    ],
)
def test_batch_stands_in_front_of_a_statement(statement: str, wanted: str) -> None:
    assert with_batch(sql.SQL("select 1"), statement) == wanted


def test_keys_are_compared_as_rows_of_their_own_types() -> None:
    table = Table(oid=1, schema="s", name="t", key=(Column(name="a", type="integer"), Column(name='B"', type="text")))
    condition = table.within(Bounds(low=("1", "x'"), high=None)).as_string(None)
    assert condition == """("a", "B\"\"") OPERATOR("pg_catalog".>) ('1'::integer, 'x'''::text)"""
    assert table.within(Bounds()).as_string(None) == "true"


@given(st.lists(st.tuples(st.floats(0, 100), st.booleans()), max_size=50), st.integers(1, 1_000_000))
def test_a_batch_is_never_too_small_or_too_large(taken: list[tuple[float, bool]], size: int) -> None:
    pace = Pace(target_s=0.5, size=size)
    for duration_s, full in taken:
        pace.took(duration_s, full=full)
        pace.failed()
        assert SMALLEST <= pace.size <= LARGEST


def test_batches_come_to_the_time_that_they_are_meant_to_take() -> None:
    pace = Pace(target_s=0.5, size=10)
    for _ in range(20):
        pace.took(pace.size / 10_000, full=True)
    assert pace.size == 5000
    pace.took(0.01, full=False)  # the end of a range says nothing
    assert pace.size == 5000


def test_rate_is_that_of_late_and_the_rest_follows_from_it() -> None:
    now = [0.0]
    tally = Tally(walked_before=1000, total=4000, clock=lambda: now[0])
    for second in range(1, 31):
        now[0] = second
        tally.add(rows=1, walked=10 if second < 15 else 50, written=frozenset(), writes=1)
    assert tally.rate == pytest.approx(50)
    assert tally.eta_s == pytest.approx((4000 - 1000 - 14 * 10 - 16 * 50) / 50)
    assert (tally.rows, tally.batches) == (30, 30)
