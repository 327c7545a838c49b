"""A changelog that fails in the middle leaves the database as it was, whatever the way, and the report proves it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from migrator.runs.record import Outcome, RunRecord, Way
from tests.shop import Shop

STEPWISE = {"way": "stepwise"}
FAILS = "\nalter table product add constraint cheap check (price < 3)"


def assert_rolled_back(record: RunRecord, way: Way) -> None:
    assert (record.outcome, record.exit_code) == (Outcome.ROLLED_BACK, 6), record.error
    assert record.way is way
    assert record.error is not None
    assert record.next_command == f"migrator run {record.changelog} --env staging"
    if record.maintenance.started_at is not None:
        assert record.maintenance.downtime_s is not None


def test_a_failing_first_run_leaves_not_even_a_ledger(empty: Shop) -> None:
    before = empty.dump()
    changelog = empty.sql("\ncreate table one (id int)", "\ncreate table two (id int references nowhere)")
    record = empty.run(changelog)
    assert_rolled_back(record, Way.ATOMIC)
    assert record.error is not None
    assert (record.error.sqlstate, record.error.changeset) == ("42P01", "release.sql::2::ann")
    assert (record.error.file, record.error.line) == ("release.sql", 4)
    assert empty.dump() == before
    assert empty.tables() & {"one", "databasechangelog", "databasechangeloglock"} == set()


def test_atomic_failure_in_the_middle_is_a_rollback(shop: Shop) -> None:
    before, ledger = shop.dump(), shop.ledger()
    record = shop.run(
        shop.sql(
            "\nalter table orders add column note text",
            "\ninsert into price_audit (product_id) select id from product",
            FAILS,
            "\ncreate table never (id int)",
        )
    )
    assert_rolled_back(record, Way.ATOMIC)
    assert record.error is not None
    assert record.error.sqlstate == "23514"
    assert any(re.fullmatch(r"Transaction \d+ was rolled back: .*aborted.", one) for one in record.proof.proven)
    assert any(one.startswith("Sequences were set back: ") for one in record.proof.proven)
    assert shop.ledger() == ledger
    assert shop.dump() == before
    assert Path(record.backups[0].location, "manifest.json").is_file()


def test_stepwise_failure_goes_back_by_the_changesets_rollbacks(shop: Shop) -> None:
    before, oid = shop.dump(), shop.oid()
    record = shop.run(
        shop.sql(
            "\ncreate table wish (id serial, name text);\n--rollback drop table wish",
            "\nupdate orders set status = 'cancelled' where id = 1;\n"
            "--rollback update orders set status = 'paid' where id = 1",
            FAILS,
        ),
        STEPWISE,
    )
    assert_rolled_back(record, Way.STEPWISE)
    assert any("rolled back 2 changesets" in one for one in record.proof.proven), record.warnings
    assert [changeset.status for changeset in record.changesets] == ["rolled_back"] * 3
    assert shop.dump() == before
    assert shop.oid() == oid


@pytest.mark.slow
def test_a_stepwise_first_run_takes_its_ledger_away_again(empty: Shop) -> None:
    before = empty.dump()
    changelog = empty.sql(
        "\ncreate table one (id int);\n--rollback drop table one", "\ncreate table two (id int references nowhere)"
    )
    assert_rolled_back(empty.run(changelog, STEPWISE), Way.STEPWISE)
    assert empty.dump() == before


def test_stepwise_failure_without_a_rollback_restores_the_backup(shop: Shop) -> None:
    name = shop.login.database
    shop.execute(f"comment on database {name} is 'the shop'; alter database {name} set work_mem = '7MB'")
    shop.execute(f"revoke connect on database {name} from public; grant connect on database {name} to app")
    before, oid = shop.dump(), shop.oid()
    record = shop.run(
        shop.sql("\ndelete from event where id % 2 = 0", "\nalter table customer drop column home", FAILS), STEPWISE
    )
    assert (record.outcome, record.exit_code) == (Outcome.RESTORED, 7), record.error
    assert shop.oid() != oid
    assert shop.dump() == before
    proven = [one for one in record.proof.proven if "found equal to the state before" in one]
    assert len(proven) == 1
    assert "swapped in" in proven[0]
    [kept] = record.kept
    old = f"mig_{record.run_id}_old"
    assert f'DROP DATABASE "{old}"' in kept
    failed = shop.query(f"select oid, datallowconn, datconnlimit from pg_database where datname = '{old}'")
    assert failed[0][0] == oid, "the failed database is kept as it is"
    assert shop.value("select current_setting('work_mem')") == "7MB"
    assert shop.run(shop.sql("\nalter table customer add column again int", name="again.sql")).exit_code == 0


@pytest.mark.slow
def test_a_rollback_that_does_not_lead_back_is_found_and_the_backup_restored(shop: Shop) -> None:
    before = shop.dump()
    record = shop.run(
        shop.sql("\nupdate orders set total = total + 1;\n--rollback update orders set total = total - 2", FAILS),
        STEPWISE,
    )
    assert record.exit_code == 7, record.error
    assert any("public.orders has other values" in one for one in record.warnings), record.warnings
    assert shop.dump() == before


def test_another_scale_is_another_value_and_a_restore_brings_awkward_types_back(shop: Shop) -> None:
    shop.execute(
        "create type mood as enum ('sad', 'ok');"
        "create table awkward (m mood, n numeric, s numeric(8, 3), i interval, j jsonb, f float8, t text[], b bytea,"
        " c customer_tier[], r regclass, a address, z timestamptz);"
        "insert into awkward values ('ok', 1.500, 2, '1 mon -3 days 04:05:06.7', '{\"b\": 1.10, \"a\": null}', '-0',"
        " array['x', null, 'a\"b'], '\\x00ff', array['gold']::customer_tier[], 'orders', row('s', null, ''),"
        " '2026-03-29 01:30:00+00'), (null, 'NaN', null, '0', '[]', 'NaN', '{}', '', '{}', null, null, 'infinity')"
    )
    before = shop.dump()
    changes_the_scale = "\nupdate awkward set n = 2;\n--rollback update awkward set n = 1.5 where m = 'ok'"
    record = shop.run(
        shop.sql(changes_the_scale + ";\n--rollback update awkward set n = 'NaN' where m is null", FAILS), STEPWISE
    )
    assert record.exit_code == 7, record.error
    assert any("public.awkward has other values" in one for one in record.warnings), record.warnings
    assert shop.dump() == before


def test_what_a_person_declines_is_not_restored(shop: Shop) -> None:
    asked: list[str] = []

    def no_restore(question: str) -> bool:
        asked.append(question)
        return not question.startswith("Restore backup")

    record = shop.run(shop.sql("\ndelete from event", FAILS), {**STEPWISE, "backup.restore": "ask"}, confirm=no_restore)
    assert (record.outcome, record.exit_code) == (Outcome.HALTED, 9)
    assert len(asked) == 1
    assert record.next_command == f"migrator resume {record.run_id}"
    assert shop.value("select count(*) from event") == 0, "nothing was done behind the person's back"
