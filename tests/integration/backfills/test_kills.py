"""Killed anywhere, with others writing: no row is done twice, none is missed, and no write of others is lost."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from migrator.backfills import capture, ledger
from migrator.backfills.definition import Backfill
from migrator.backfills.ledger import State
from migrator.config.login import Login
from migrator.errors import Refused, StepFailed
from migrator.postgres.connect import connect
from migrator.postgres.transactions import sqlstate
from tests.acceptance.stage import settled
from tests.integration.backfills.stage import Stage, backfill

ROOT = Path(__file__).parents[3]
COUNTING = {
    "table": "item",
    "where": None,
    "statement": "update item t set done = t.done + 1, copied = t.content from batch b where t.id = b.id",
    "verify": "select id from item where done <> 1 or copied is distinct from content",
    "undo": "update item t set done = t.done - 1, copied = null from batch b where t.id = b.id",
}
TABLE = """
create table item (id bigint primary key, content text, done int not null default 0, copied text);
insert into item select n * 7, 'row ' || n from generate_series(1, {rows}) n
"""


@pytest.fixture
def stage(database: Login) -> Stage:
    return Stage(login=database)


class Hurry:
    """The process; its standard output has a line for every progress."""

    def __init__(self, stage: Stage, given: Backfill, *, fate: str = "", back: bool = False) -> None:
        assert stage.login.password is not None
        login = {name: getattr(stage.login, name) for name in ("host", "port", "database", "user")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.integration.backfills.hurry"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        told = {
            "login": login,
            "password": stage.login.secret().reveal(),
            "backfill": given.model_dump(mode="json"),
            "fate": fate,
            "back": back,
        }
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(told))
        self.process.stdin.close()

    def killed_at(self, rows: int) -> None:
        """It is dead, at the first progress of so many rows or at its own end."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if int(line) >= rows:
                self.process.kill()
                break
        self.process.stdout.close()
        self.process.wait(60)

    def ended(self) -> int:
        assert self.process.stdout is not None
        self.process.stdout.read()
        self.process.stdout.close()
        return self.process.wait(60)


def at_rest(stage: Stage) -> None:
    """No session of a killed process is left."""
    ask = (
        "select count(*) from pg_stat_activity"
        " where application_name like 'mig:hurry:%' and datname = current_database()"
    )
    settled(lambda: stage.value(ask) == "0", lambda: "a session is left")


@contextmanager
def writer(stage: Stage, table: str, highest: int) -> Iterator[list[str]]:
    """Somebody writes the table all the time, a transaction a row; the list has what was committed: id=content."""
    over = threading.Event()
    written: list[str] = []
    errors: list[BaseException] = []

    def write() -> None:
        draw = random.Random(7)
        try:
            with closing(connect(stage.login, role="app", run_id="writer")) as session:
                number = 0
                while not over.is_set():
                    number += 1
                    row = draw.randint(1, highest) * 7
                    with unless_deadlocked():
                        session.execute(f"update {table} set content = 'written {number}' where id = {row}")
                        written.append(f"{row}=written {number}")
                    over.wait(0.001)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield written
    finally:
        over.set()
        thread.join()
    assert not errors
    assert written


@contextmanager
def unless_deadlocked() -> Iterator[None]:
    try:
        yield
    except StepFailed as error:
        if sqlstate(error) != "40P01":
            raise


def last_written(written: list[str]) -> dict[str, str]:
    return dict(one.split("=", 1) for one in written)


PLACES = [
    f"{place}.{side}#{number}"
    for place in ("backfill_ledger", "commit_ours", "backfill_batch", "backfill_commit", "backfill_state")
    for side in ("before", "after")
    for number in ((1, 4) if place in ("backfill_batch", "backfill_commit") else (1,))
]


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES)
def test_killed_at_a_fail_point_it_carries_on(stage: Stage, place: str) -> None:
    stage.execute(TABLE.format(rows=3000))
    counting = backfill(**COUNTING)
    Hurry(stage, counting, fate=f"crash@{place}").ended()
    at_rest(stage)
    assert Hurry(stage, counting).ended() == 0
    assert stage.verify(counting).violations == 0
    assert stage.entry().rows_done == 3000
    Hurry(stage, counting, fate=f"crash@{place}", back=True).ended()
    at_rest(stage)
    assert Hurry(stage, counting, back=True).ended() == 0
    assert stage.rows("select done, count(*)::text, count(copied)::text from item group by 1") == [("0", "3000", "0")]
    assert stage.entry().state is State.UNDONE


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_ten_times_while_others_write(stage: Stage) -> None:
    """A copy of each row into another table: a version that is older than a writer's would be seen at the end."""
    rows = 2_000_000
    stage.execute(TABLE.format(rows=rows))
    stage.execute("create table copy (id bigint primary key, content text, times int not null)")
    copying = backfill(
        table="item",
        where=None,
        capture="trigger",
        columns=["content"],
        statement="insert into copy as c select t.id, t.content, 1 from item t join batch b on t.id = b.id"
        " on conflict (id) do update set content = excluded.content, times = c.times + 1",
        verify="(select id, content from item except select id, content from copy) union all"
        " (select id, content from copy except select id, content from item)",
        undo="delete from copy c using batch b where c.id = b.id",
        on_delete="delete from copy c using batch b where c.id = b.id",
        batch_rows=5000,
    )
    with closing(stage.session()) as session:
        capture.install(session, copying, lock_timeout_s=1)
    with writer(stage, "item", rows) as written:
        for turn in range(1, 11):
            Hurry(stage, copying).killed_at(turn * rows // 12)
            at_rest(stage)
            done = stage.entry()
            assert done.rows_done <= rows
        assert done.state is State.RUNNING
        stage.move(copying)
    assert stage.entry().rows_done == rows
    verdict = stage.verify(copying)
    assert (verdict.violations, verdict.sample) == (0, ())
    # what was written last is what is there, in both
    wanted = ", ".join(f"({row}, '{content}')" for row, content in last_written(written).items())
    lost = f"select count(*) from (values {wanted}) w (id, content) join copy c using (id) where c.content <> w.content"
    assert stage.value(lost) == "0"
    with closing(stage.session()) as session:
        capture.remove(session, copying.name, lock_timeout_s=1)
    stage.undo(copying)
    assert stage.value("select count(*) from copy") == "0"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_million_rows_are_counted_once_whatever_happens(stage: Stage) -> None:
    rows = 2_000_000
    stage.execute(TABLE.format(rows=rows))
    before = stage.value("select sum(hashtextextended(id || content, 0)) from item")
    counting = backfill(**COUNTING, batch_rows=5000)
    for turn in range(1, 11):
        Hurry(stage, counting).killed_at(turn * rows // 12)
        at_rest(stage)
    stage.move(counting)
    assert stage.rows("select done, count(*)::text from item group by 1") == [("1", str(rows))]
    assert stage.verify(counting).violations == 0
    for turn in range(1, 11):
        Hurry(stage, counting, back=True).killed_at(turn * rows // 12)
        at_rest(stage)
    stage.undo(counting)
    assert stage.rows("select done, count(*)::text, count(copied)::text from item group by 1") == [
        ("0", str(rows), "0")
    ]
    assert stage.value("select sum(hashtextextended(id || content, 0)) from item") == before


def test_writers_win_or_wait_but_are_never_lost(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without kills, in a second: each batch copies what the row's last writer has committed."""
    monkeypatch.setattr("migrator.backfills.pace.LARGEST", 100)
    stage.execute(TABLE.format(rows=4000))
    counting = backfill(**COUNTING, batch_rows=50, lock_timeout_s=0.05)
    with writer(stage, "item", 4000) as written:
        settled(lambda: len(written) > 20, lambda: "nobody writes")
        stage.move(counting)
    assert stage.rows("select done, count(*)::text from item group by 1") == [("1", "4000")]
    last = last_written(written)
    content = dict(stage.rows("select id::text, content from item where content like 'written%'"))
    assert {row: content.get(row) for row in last} == last


def test_rows_that_somebody_holds_are_waited_for(stage: Stage) -> None:
    stage.execute(TABLE.format(rows=400))
    counting = backfill(**COUNTING, lock_timeout_s=0.02, batch_rows=100)
    with closing(stage.session()) as other:
        other.execute("begin; update item set content = 'mine' where id = 7 * 150")

        def let_go() -> None:
            if stage.progress and stage.progress[-1].waiting_for == "rows or tables that others hold":
                with suppress(Refused):
                    other.execute("commit")

        moved = stage.move(counting, check=let_go)
    assert moved.rows == 400
    assert stage.value("select copied from item where id = 7 * 150") == "mine"


def test_paused_it_waits_until_it_may_go_on(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("migrator.backfills.pace.LARGEST", 50)
    stage.execute(TABLE.format(rows=800))
    counting = backfill(**COUNTING, batch_rows=20, pause_s=0.03)
    seen: list[int] = []

    def person() -> None:
        waiting = stage.progress[-1].waiting_for if stage.progress else None
        with closing(stage.session()) as session:
            if not seen and stage.progress:
                ledger.pause(session, None, "split-name", "lunch")
                seen.append(stage.entry().rows_done)
            elif waiting is not None and "lunch" in waiting and len(seen) == 1:
                seen.append(stage.entry().rows_done)
                ledger.go_on(session, None, "split-name")

    assert stage.move(counting, check=person).rows == 800
    assert len(seen) == 2
    assert seen[0] == seen[1] < 800
