"""Changesets that ran are undone, and nothing else; or the database is what it was before the rollback."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from migrator.runs.record import Direction, Outcome, RunRecord, Way
from tests.shop import Shop

REPOSITORY = Path(__file__).parents[3]
STEPWISE = {"way": "stepwise"}
WISH = "\ncreate table wish (id serial primary key, name text);\n--rollback drop table wish"
NOTE = "\nalter table orders add column note text;\n--rollback alter table orders drop column note"
GIFT = (
    "\nupdate orders set status = 'cancelled' where id = 1;\n--rollback update orders set status = 'paid' where id = 1"
)


def undone(record: RunRecord, way: Way = Way.ATOMIC) -> RunRecord:
    assert (record.outcome, record.exit_code) == (Outcome.MIGRATED, 0), record.error
    assert (record.direction, record.way) == (Direction.ROLLBACK, way)
    assert {changeset.status for changeset in record.changesets} == {"rolled_back"}
    return record


def done(record: RunRecord) -> RunRecord:
    assert record.outcome is Outcome.MIGRATED, record.error
    return record


def refused(record: RunRecord, code: str, *words: str) -> None:
    assert (record.outcome, record.exit_code) == (Outcome.REFUSED, 3), record.error
    assert record.error is not None
    assert record.error.code == code
    for word in words:
        assert word in f"{record.error.message} {record.error.hint}"


def as_it_was(shop: Shop, record: RunRecord, before: list[str]) -> None:
    assert (record.outcome, record.exit_code) == (Outcome.ROLLED_BACK, 6), record.error
    assert shop.dump() == before
    assert "rolled_back" not in {changeset.status for changeset in record.changesets}


@pytest.mark.parametrize("settings", [{}, STEPWISE])
def test_a_run_is_undone_and_nothing_else_changed(shop: Shop, settings: dict[str, object]) -> None:
    shop.execute("update orders set status = 'paid' where id = 1")
    before, oid = shop.dump(), shop.oid()
    first = done(shop.run(shop.sql(WISH, NOTE, GIFT)))
    assert shop.dump() != before
    record = undone(shop.rollback(settings, run_id=first.run_id), Way.STEPWISE if settings else Way.ATOMIC)
    assert [changeset.id for changeset in record.changesets] == ["3", "2", "1"]
    assert shop.dump() == before
    assert shop.oid() == oid
    assert Path(record.backups[0].location, "manifest.json").is_file()
    proven = " ".join(record.proof.proven)
    assert "The ledger has lost the 3 changesets" in proven
    assert f"The schema is what it was before run {first.run_id}" in proven
    assert record.surprises == []
    refused(shop.rollback(run_id=first.run_id), "undone_already", record.run_id)


@pytest.mark.slow
def test_rows_written_since_go_with_their_table_and_the_report_says_so(shop: Shop) -> None:
    first = done(shop.run(shop.sql(WISH)))
    shop.execute("insert into wish (name) select 'w' from generate_series(1, 7)")
    record = undone(shop.rollback(run_id=first.run_id))
    assert "public.wish was dropped, and 7 rows with it; the backup has them." in record.warnings


@pytest.mark.slow
def test_a_run_that_is_not_the_newest_is_refused_and_what_came_later_named(shop: Shop) -> None:
    first = done(shop.run(shop.sql(WISH)))
    done(shop.run(shop.sql(NOTE, name="later.sql")))
    before = shop.dump()
    refused(shop.rollback(run_id=first.run_id), "not_newest", "later.sql::1::ann", "--count 2")
    assert shop.dump() == before


@pytest.mark.slow
def test_the_last_changesets_of_several_changelogs_are_undone_at_once(shop: Shop) -> None:
    before = shop.dump()
    done(shop.run(shop.sql(WISH)))
    done(shop.run(shop.sql(NOTE, name="later.sql")))
    record = undone(shop.rollback(count=2))
    assert record.changelog == "later.sql, release.sql"
    assert shop.dump() == before


def test_all_after_a_tag_is_undone(shop: Shop) -> None:
    done(shop.run(shop.sql(WISH)))
    shop.execute("update databasechangelog set tag = 'v1' where filename = 'release.sql'")
    before = shop.dump()
    done(shop.run(shop.sql(NOTE, name="later.sql")))
    refused(shop.rollback(tag="v2"), "no_tag", "v1")
    undone(shop.rollback(tag="v1"))
    assert shop.dump() == before
    assert shop.rollback(tag="v1").outcome is Outcome.NOTHING_TO_DO


def test_a_missing_rollback_is_refused_before_anybody_notices(shop: Shop) -> None:
    first = done(shop.run(shop.sql(WISH, "\ninsert into price_audit (product_id) select 1", NOTE)))
    before = shop.dump()
    record = shop.rollback(run_id=first.run_id)
    refused(record, "refused", "release.sql::2::ann has no rollback")
    assert record.maintenance.started_at is None
    assert shop.dump() == before


def test_an_edited_or_absent_changeset_is_refused(shop: Shop) -> None:
    first = done(shop.run(shop.sql(WISH, NOTE)))
    shop.sql(WISH.replace("name text", "name varchar(9)"))
    refused(shop.rollback(run_id=first.run_id), "refused", "1::ann was edited", "2::ann is not in release.sql")


@pytest.mark.slow
def test_what_was_only_marked_as_ran_is_refused(shop: Shop) -> None:
    marked = (
        "\n--preconditions onFail:MARK_RAN\n--precondition-sql-check expectedResult:0 select count(*) from orders\n"
        "create table never (id int);\n--rollback drop table never"
    )
    first = done(shop.run(shop.sql(WISH, marked)))
    refused(shop.rollback(run_id=first.run_id), "refused", "2::ann was only marked as ran")


@pytest.mark.slow
def test_what_ran_before_and_once_more_is_refused(shop: Shop) -> None:
    always = " runAlways:true\nselect 1;\n--rollback select 1"
    done(shop.run(shop.sql(always)))
    second = done(shop.run(shop.sql(always, WISH)))
    refused(shop.rollback(run_id=second.run_id), "ran_before", "release.sql::1::ann")


@pytest.mark.parametrize(
    ("rollback", "why"),
    [
        pytest.param("drop table nowhere", "nowhere", marks=pytest.mark.slow),
        (
            "alter table orders drop column note; delete from event where id = 1",
            "was written, though no changeset names it",
        ),
        pytest.param("select 1; drop table price_audit", "price_audit is gone", marks=pytest.mark.slow),
    ],
)
def test_a_rollback_that_fails_or_does_more_leaves_the_database_as_it_was(shop: Shop, rollback: str, why: str) -> None:
    forward = "\nalter table orders add column note text" if "note" in rollback else "\nselect 1"
    first = done(shop.run(shop.sql(WISH, f"{forward};\n--rollback {_hidden(rollback)}", GIFT)))
    before, ledger = shop.dump(), shop.ledger()
    record = shop.rollback(run_id=first.run_id)
    as_it_was(shop, record, before)
    assert record.error is not None
    assert why in record.error.message
    assert shop.ledger() == ledger
    assert record.next_command == f"migrator rollback {first.run_id} --env staging"


def _hidden(text: str) -> str:
    """Table names that no changeset names, for what the write set must find."""
    name = next((one for one in ("event", "price_audit") if one in text), None)
    if name is None:
        return text
    split = f"'{name[:3]}' || '{name[3:]}'"
    head, _, last = text.partition("; ")
    return f"{head}; do $$ begin execute '{last.split(name)[0]}' || {split} || '{last.split(name)[1]}'; end $$"


@pytest.mark.slow
def test_a_stepwise_rollback_that_fails_halfway_restores_the_backup(shop: Shop) -> None:
    first = done(shop.run(shop.sql("\nselect 1;\n--rollback drop table nowhere", WISH, NOTE)))
    before, oid = shop.dump(), shop.oid()
    record = shop.rollback(STEPWISE, run_id=first.run_id)
    assert (record.outcome, record.exit_code) == (Outcome.RESTORED, 7), record.error
    assert shop.oid() != oid
    assert shop.dump() == before


@pytest.mark.slow
def test_a_stepwise_rollback_without_a_way_back_is_refused(shop: Shop) -> None:
    first = done(shop.run(shop.sql(WISH)))
    settings = {**STEPWISE, "backup.restore": "never"}
    refused(shop.rollback(settings, run_id=first.run_id), "refused", "--accept-no-way-back")
    undone(shop.rollback(settings, run_id=first.run_id, accept_no_way_back=True), Way.STEPWISE)


@pytest.mark.slow
def test_what_cannot_be_in_one_transaction_is_undone_stepwise(shop: Shop) -> None:
    before = shop.dump()
    index = " runInTransaction:false\ncreate index concurrently later on orders (total);\n"
    first = done(shop.run(shop.sql(WISH, index + "--rollback drop index concurrently later")))
    undone(shop.rollback(run_id=first.run_id), Way.STEPWISE)
    assert shop.dump() == before


def test_a_protected_environment_asks_first(shop: Shop) -> None:
    first = done(shop.run(shop.sql(WISH)))
    asked: list[str] = []

    def no(question: str) -> bool:
        asked.append(question)
        return False

    record = shop.rollback({"protected": True}, run_id=first.run_id, confirm=no)
    refused(record, "refused", "no")
    assert asked[0].startswith("staging is protected. Undo 1 changeset of release.sql in ")


@pytest.mark.slow
def test_rules_that_held_must_hold_unless_undoing_excuses_them(shop: Shop) -> None:
    shop.write("total.sql", "-- migrator: unchanged\nselect sum(total) from orders")
    shop.write("events.sql", "-- migrator: unchanged\nselect count(*) from event")
    settings: dict[str, object] = {"checks.invariants": ["total.sql", "events.sql"]}
    first = done(shop.run(shop.sql(NOTE, "\nselect 1;\n--rollback update orders set total = total + 1")))
    shop.write("wrong.sql", "-- migrator: violations\nselect id from product")
    shop.write("notes.sql", "-- migrator: violations\nselect id from orders where note = 'bad'")
    shop.write("prices.sql", "-- migrator: violations\nselect id from orders where total < 0 or total > 1e9")
    wide = {"checks.invariants": ["total.sql", "events.sql", "wrong.sql", "notes.sql", "prices.sql"]}
    record = undone(shop.rollback(wide, run_id=first.run_id))
    told = " ".join(record.warnings)
    assert "Before the rollback: check wrong.sql" in told
    assert "wrong.sql does not hold after the rollback" in told
    assert "it speaks of note, which is gone" in told
    assert "total.sql does not hold after the rollback" in told
    assert "it reads a table that the undone changesets name" in told

    before_rule = "\nselect 1;\n--rollback update orders set total = -total"
    second = done(shop.run(shop.sql(before_rule, name="second.sql"), settings))
    before = shop.dump()
    failed = shop.rollback({"checks.invariants": ["prices.sql"]}, run_id=second.run_id)
    as_it_was(shop, failed, before)
    assert failed.error is not None
    assert "check prices.sql" in failed.error.message


def program(shop: Shop, *arguments: str) -> subprocess.CompletedProcess[str]:
    shop.write_config()
    migrator = Path(sys.executable).with_name("migrator")
    env = {**os.environ, **shop.environ(), "COLUMNS": "200"}
    return subprocess.run(
        [migrator, *arguments], cwd=shop.folder, env=env, capture_output=True, text=True, timeout=120, check=False
    )


def test_the_program_shows_the_sql_asks_for_one_target_and_undoes(shop: Shop) -> None:
    done(shop.run(shop.sql("\nselect 1", name="earlier.sql")))
    first = done(shop.run(shop.sql(WISH, NOTE)))
    before = shop.dump()
    shown = program(shop, "rollback", first.run_id, "--env", "staging", "--dry-run")
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.index("drop column note") < shown.stdout.index("drop table wish")
    assert "release.sql::2::ann" in shown.stderr
    shown = program(shop, "rollback", "--count", "3", "--env", "staging", "--dry-run", "--json")
    answer = json.loads(shown.stdout)
    assert shown.returncode == 3
    assert "earlier.sql::1::ann has no rollback" in answer["error"]["message"]
    assert shop.dump() == before, "nothing was touched"
    both = program(shop, "rollback", first.run_id, "--count", "1", "--env", "staging")
    assert (both.returncode, "one of them" in both.stderr) == (2, True)
    assert program(shop, "rollback", "20260101t000000_0000", "--env", "staging").returncode == 3
    undo = program(shop, "rollback", first.run_id, "--json")
    assert undo.returncode == 0, undo.stderr
    record = json.loads(undo.stdout)
    assert (record["outcome"], record["direction"]) == ("migrated", "rollback")
    assert "wish" not in shop.tables()
    again = program(shop, "rollback", first.run_id)
    assert again.returncode == 3
    assert f"was undone by run {record['run_id']}" in " ".join(again.stderr.split())


@pytest.mark.slow
def test_a_blue_green_run_is_swapped_back_or_says_what_would_be_lost(shop: Shop) -> None:
    before, oid = shop.dump(), shop.oid()
    first = done(shop.run(shop.sql(WISH), {"way": "bluegreen"}))
    assert shop.oid() != oid
    shop.execute("insert into wish (name) values ('late')")
    lost = program(shop, "rollback", first.run_id)
    assert lost.returncode == 3, lost.stderr
    assert "public.wish has 1 rows" in lost.stderr
    assert "--accept-loss" in lost.stderr
    back = program(shop, "rollback", first.run_id, "--accept-loss")
    assert back.returncode == 0, back.stderr
    assert "Swapped back" in back.stderr
    assert shop.oid() == oid
    assert shop.dump() == before


def killed(shop: Shop, moment: str, *arguments: str) -> str:
    """The program was killed at that moment of a rollback; the id of its run."""
    config = shop.write_config()
    env = {**os.environ, **shop.environ()}
    argv = [sys.executable, "-m", "tests.acceptance.victim", moment, "kill", "rollback", *arguments]
    done = subprocess.run(
        [*argv, "--config", str(config)],
        cwd=REPOSITORY,
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    return done.stderr.split()[1]


@pytest.mark.parametrize(
    ("way", "forget", "code"),
    [
        pytest.param("atomic", False, 0, marks=pytest.mark.slow),
        pytest.param("atomic", True, 6, marks=pytest.mark.slow),
        pytest.param("stepwise", False, 7, marks=pytest.mark.slow),
        ("stepwise", True, 7),
    ],
)
def test_a_killed_rollback_is_ended(shop: Shop, way: str, forget: bool, code: int) -> None:
    before = shop.dump()
    first = done(shop.run(shop.sql(WISH, NOTE)))
    migrated = shop.dump()
    run = killed(shop, "changeset:1:rolled_back", first.run_id, "--set", f"way={way}")
    if forget:
        for file in (shop.folder / ".migrator").glob("journal.db*"):
            file.unlink()
    ended = program(shop, *(["recover"] if forget else ["resume", run]), "--set", f"way={way}")
    assert ended.returncode == code, ended.stderr
    assert shop.dump() == (before if code == 0 else migrated)
    shop.app_writes()
