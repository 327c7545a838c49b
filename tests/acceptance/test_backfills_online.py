"""Rows are moved while others write them; killed ten times on the way, all of them are right in the end, or as before.

What is right is asked by questions of the test's own, over all rows.
"""

from __future__ import annotations

import random
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg
import pytest

from migrator.postgres.connect import connect
from tests.acceptance.moving import ROWS, Moving, Writer, checksum, writing
from tests.acceptance.stage import ended, settled
from tests.conftest import Server, fresh_database
from tests.replica import Pair, pair
from tests.shop import conninfo

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

_KILLS = 10
_PACE = "target_batch_s = 0.2\nbatch_rows = 2000\n"


@contextmanager
def set_up(server: Server, folder: Path, name: str) -> Iterator[Moving]:
    with fresh_database(server) as login:
        moving = Moving(server=server, login=login, folder=folder, name=name, pace=_PACE)
        moving.set_up()
        yield moving


def moved_and_killed(moving: Moving, writer: Writer) -> None:
    """It was killed ten times, an application wrote all the time, and the end is verified by the program itself."""
    with writing(writer):
        for number in range(_KILLS):
            command = "run" if number == 0 else "resume"
            moving.killed(command, moving.name, counted="move", after_rows=ROWS // (_KILLS * 2))
        answer = moving.migrator("resume", moving.name, "--json")
        assert answer.code == 0, answer
        [found] = answer.json["backfills"]
        assert (found["violations"], found["captured"]) == (0, True)
        seen = len(writer.did)
        settled(lambda: len(writer.did) > seen + 50, lambda: "the application cannot write any more")
        assert moving.migrator("verify", moving.name).code == 0
    assert writer.refused == []
    assert moving.status()["state"] == "verified"


def undone_and_killed(moving: Moving) -> None:
    for _ in range(2):
        moving.killed("undo", moving.name, counted="undo", after_rows=ROWS // 10)
    answer = moving.migrator("undo", moving.name)
    assert answer.code == 0, answer
    assert moving.query("select tgname from pg_trigger where tgname like 'migrator%'") == []


def test_name_is_split(server: Server, tmp_path: Path) -> None:
    def write(connection: psycopg.Connection, dice: random.Random) -> tuple[str, int]:
        member, what = dice.randint(1, ROWS), dice.choice(["insert", "rename", "delete"])
        if what == "insert":
            text = "insert into member (name) values ('Nova Insert') returning id"
            [(member,)] = connection.execute(text).fetchall()
        elif what == "rename":
            connection.execute("update member set name = 'Re Named' || id where id = %s", (member,))
        else:
            connection.execute("delete from member where id = %s", (member,))
        return what, member

    wrong = """select count(*) from member where first_name is null or last_name is null
        or first_name || ' ' || last_name <> name"""
    with set_up(server, tmp_path, "split-name") as moving:
        before = checksum(moving, "id, joined_at", "member")
        writer = Writer(login=server.app.to(moving.login.database), deed=write)
        moved_and_killed(moving, writer)
        assert moving.value(wrong) == 0
        deleted = {member for what, member in writer.did if what == "delete" and member <= ROWS}
        inserted = {member for what, member in writer.did if what == "insert"} - deleted
        assert moving.value("select count(*) from member") == before[0] - len(deleted) + len(inserted)

        original = checksum(moving, "id, name, joined_at", "member")
        undone_and_killed(moving)
        assert checksum(moving, "id, name, joined_at", "member") == original
        assert (
            moving.value("select count(*) from member where (first_name, last_name) is distinct from (null, null)") == 0
        )

        assert moving.migrator("run", moving.name).code == 0
        assert moving.value(wrong) == 0
        assert moving.migrator("finish", moving.name).code == 0
        moving.execute(moving.changelog("3-contract"))
        assert checksum(moving, "id, first_name || ' ' || last_name, joined_at", "member") == original


def test_table_is_moved_to_partitions(server: Server, tmp_path: Path) -> None:
    def write(connection: psycopg.Connection, dice: random.Random) -> tuple[str, int]:
        visit, what = dice.randint(1, ROWS), dice.choice(["insert", "page", "moment", "delete", "id"])
        new = dice.randint(10 * ROWS, 10**12)
        text = {
            "insert": "insert into visit values (%(new)s, '/new', 1, '2026-02-03')",
            "page": "update visit set page = '/changed' where id = %(visit)s",
            "moment": "update visit set at = '2027-01-01' where id = %(visit)s",
            "delete": "delete from visit where id = %(visit)s",
            "id": "update visit set id = %(new)s where id = %(visit)s",
        }[what]
        connection.execute(text, {"visit": visit, "new": new})
        return what, visit

    different = """select count(*) from visit v full join visit_by_month p on v.id = p.id and v.at = p.at
        where v.id is null or p.id is null or row(v.*)::text <> row(p.*)::text"""
    with set_up(server, tmp_path, "partition-visits") as moving:
        writer = Writer(login=server.app.to(moving.login.database), deed=write)
        moved_and_killed(moving, writer)
        assert moving.value(different) == 0
        assert moving.value("select count(*) from visit_other") > 0

        original = checksum(moving, "id, page, seconds, at", "visit")
        undone_and_killed(moving)
        assert checksum(moving, "id, page, seconds, at", "visit") == original
        assert moving.value("select count(*) from visit_by_month") == 0

        assert moving.migrator("run", moving.name).code == 0
        assert moving.migrator("finish", moving.name).code == 0
        moving.execute(moving.changelog("3-contract"))
        assert moving.value("select relkind from pg_class where relname = 'visit'") == "p"
        assert checksum(moving, "id, page, seconds, at", "visit") == original


def test_key_becomes_a_bigint(server: Server, tmp_path: Path) -> None:
    def write(connection: psycopg.Connection, dice: random.Random) -> tuple[str, int]:
        ticket, what = dice.randint(1, ROWS), dice.choice(["insert", "title", "delete", "id"])
        text = {
            "insert": "insert into ticket (title) values ('new')",
            "title": "update ticket set title = 'changed' where id = %(ticket)s",
            "delete": "delete from ticket where id = %(ticket)s",
            "id": "update ticket set id = %(new)s where id = %(ticket)s",
        }[what]
        connection.execute(text, {"ticket": ticket, "new": dice.randint(10 * ROWS, 2**31 - 1)})
        return what, ticket

    with set_up(server, tmp_path, "widen-ticket-id") as moving:
        writer = Writer(login=server.app.to(moving.login.database), deed=write)
        moved_and_killed(moving, writer)
        assert moving.value("select count(*) from ticket where wide_id is distinct from id") == 0

        original = checksum(moving, "id, title", "ticket")
        undone_and_killed(moving)
        assert checksum(moving, "id, title", "ticket") == original
        assert moving.value("select count(*) from ticket where wide_id is not null") == 0

        assert moving.migrator("run", moving.name).code == 0
        assert moving.migrator("finish", moving.name).code == 0
        index, rest = moving.changelog("3-contract").split("--changeset shop:wide-ticket-id-is-there")
        moving.execute_one_by_one(index)
        moving.execute(rest)
        assert checksum(moving, "id, title", "ticket") == original
        with psycopg.connect(conninfo(writer.login), autocommit=True) as app:
            app.execute("insert into ticket (id, title) values (5000000000, 'wide'), (default, 'next')")
        assert (
            moving.value(
                "select format_type(atttypid, null) from pg_attribute where attrelid = 'ticket'::regclass"
                " and attname = 'id'"
            )
            == "bigint"
        )


_MOST_LAG = 8_000_000


def test_replica_does_not_fall_behind(tmp_path: Path) -> None:
    """Also where it follows not at all for a while: then nothing is moved."""
    with pair() as replicated, fresh_database(replicated.server) as login:
        pace = f"{_PACE}max_lag_bytes = {_MOST_LAG}\n"
        moving = Moving(
            server=replicated.server, login=login, folder=tmp_path, name="split-name", rows=400_000, pace=pace
        )
        moving.set_up()
        replicated.catch_up()
        with lag_looked_at(replicated) as seen:
            process = moving.begin("run", moving.name, "--json")
            settled(lambda: moving.moved_rows() > 40_000, lambda: "it does not begin", within_s=60)
            replicated.stand_still()
            settled(lambda: stands_still(moving), lambda: "it goes on though the replica does not", within_s=60)
            replicated.go_on()
            answer = ended(process, within_s=300)
        assert answer.code == 0, answer
        [found] = answer.json["backfills"]
        assert (found["violations"], found["moved"]["rows"]) == (0, 400_000)
        assert found["moved"]["waited_s"] > 0
        assert found["moved"]["max_lag_bytes"] <= _MOST_LAG
        assert _MOST_LAG / 4 < max(seen) <= _MOST_LAG


def stands_still(moving: Moving) -> bool:
    """No row was moved for a second."""
    before = moving.moved_rows()
    time.sleep(1)
    return moving.moved_rows() == before


@contextmanager
def lag_looked_at(replicated: Pair) -> Iterator[list[int]]:
    """How far the replica is behind, in bytes, every now and then."""
    seen: list[int] = []
    over = threading.Event()

    def look() -> None:
        text = "select pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn)::bigint from pg_stat_replication"
        with closing(connect(replicated.primary.admin, role="test", run_id="test")) as session:
            while not over.wait(0.02):
                seen.extend(int(behind or 0) for (behind,) in session.rows(text))

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join(30)


def test_nobody_waits_for_long(server: Server, tmp_path: Path) -> None:
    """Rows that one writer has locked for good, and that others want, are moved when they are free."""
    with fresh_database(server) as login:
        pace = f"{_PACE}max_blocked_s = 0.5\nlock_timeout_s = 0.2\n"
        moving = Moving(server=server, login=login, folder=tmp_path, name="split-name", rows=300_000, pace=pace)
        moving.set_up()
        with psycopg.connect(conninfo(login)) as holder:
            process = moving.begin("run", moving.name, "--json")
            settled(lambda: moving.moved_rows() > 3_000, lambda: "it does not begin", within_s=60)
            holder.execute("update member set name = 'Held Back' where id in (120000, 299999)")
            settled(lambda: stands_still(moving), lambda: "it does not come to the rows that are held", within_s=120)
            with psycopg.connect(conninfo(server.app.to(login.database)), autocommit=True) as app:
                app.execute("set statement_timeout = '10s'")
                for member in range(119_000, 119_100):  # in the batch that waits, which gives up again and again
                    app.execute("update member set name = 'Not Blocked' where id = %s", (member,))
            holder.commit()
            answer = ended(process, within_s=300)
        assert answer.code == 0, answer
        assert answer.json["backfills"][0]["violations"] == 0
        assert moving.value("select count(*) from member where first_name in ('Held', 'Not')") == 102


def test_person_pauses_it_lets_it_go_on_and_stops_it(server: Server, tmp_path: Path) -> None:
    with fresh_database(server) as login:
        slowly = "target_batch_s = 0.02\npause_s = 0.2\nbatch_rows = 500\n"  # not done before the others are heard
        moving = Moving(server=server, login=login, folder=tmp_path, name="split-name", rows=200_000, pace=slowly)
        moving.set_up()
        process = moving.begin("run", moving.name)
        settled(lambda: moving.moved_rows() > 3_000, lambda: "it does not begin", within_s=60)
        assert moving.migrator("pause", moving.name, "--reason", "lunch").code == 0
        before = moving.moved_rows()
        assert moving.status()["paused_because"].endswith(": lunch")
        assert moving.migrator("run", moving.name).code == 4
        assert moving.moved_rows() == before
        assert moving.status()["state"] == "paused"

        answer = moving.migrator("resume", moving.name)
        assert (answer.code, "goes on" in answer.out) == (0, True), answer
        settled(lambda: moving.moved_rows() > before, lambda: "it does not go on", within_s=60)
        process.send_signal(signal.SIGTERM)
        stopped = ended(process)
        assert stopped.code == 130, stopped
        assert "waiting for a person: paused by" in stopped.err
        assert f"go on with: migrator backfill resume {moving.name}" in stopped.err
        assert 0 < moving.moved_rows() < 200_000
        assert moving.status()["next_command"] == f"migrator backfill resume {moving.name} --env online"
        assert moving.migrator("resume", moving.name).code == 0
        assert moving.moved_rows() == 200_000
