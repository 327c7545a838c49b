"""Locks of others: waited for within limits, tried again, and never broken while somebody may live behind them."""

from __future__ import annotations

from contextlib import closing

import psycopg

from migrator.runs.record import Outcome, ProofLevel, Way
from migrator.runs.reporter import SilentReporter
from tests.shop import Shop, conninfo
from tests.writer import writing

GOOD = "\nalter table customer add column nickname text"
ONLINE: dict[str, object] = {"profile": "online", "limits.lock_timeout_s": 0.3}


def test_a_lock_that_is_given_up_in_time_is_waited_for(shop: Shop) -> None:
    with closing(psycopg.connect(conninfo(shop.app))) as reader:
        reader.execute("select count(*) from customer").fetchall()

        class GivesUp(SilentReporter):
            def warning(self, text: str) -> None:
                if text.startswith("Attempt 2"):
                    reader.rollback()

        record = shop.run(shop.sql(GOOD), ONLINE, reporter=GivesUp())
        assert (record.error, record.outcome) == (None, Outcome.MIGRATED)
        assert [step.attempt for step in record.steps if step.name == "apply"] == [1, 2]


def test_a_lock_that_is_not_given_up_ends_in_a_rollback(shop: Shop) -> None:
    before = shop.dump()
    with closing(psycopg.connect(conninfo(shop.app))) as reader:
        reader.execute("select count(*) from customer").fetchall()
        record = shop.run(shop.sql(GOOD), {**ONLINE, "limits.lock_retries": 1})
        assert (record.outcome, record.exit_code) == (Outcome.ROLLED_BACK, 6), record.error
        assert record.error is not None
        assert record.error.sqlstate == "55P03"
        assert reader.execute("select count(*) from customer").fetchall() == [(200,)], "the reader was not disturbed"
    assert shop.dump() == before


def test_the_online_profile_migrates_beside_a_writer_and_proves_by_the_write_set(shop: Shop) -> None:
    with writing(shop.app) as writer:
        record = shop.run(shop.sql(GOOD), ONLINE)
        assert (record.error, record.outcome, record.way) == (None, Outcome.MIGRATED, Way.ATOMIC)
        assert record.proof.level is ProofLevel.WRITE_SET
        assert any(one.startswith("Write set: ") for one in record.proof.proven)
        assert (record.backups, record.maintenance.started_at) == ([], None)
    assert writer.refused == []


STALE = "update databasechangeloglock set locked = true, lockedby = 'host-that-died', lockgranted = now()"


def test_a_stale_changelog_lock_is_released_behind_the_fence(shop: Shop) -> None:
    shop.execute(STALE)
    record = shop.run(shop.sql(GOOD))
    assert (record.error, record.outcome) == (None, Outcome.MIGRATED)
    assert any("host-that-died" in one for one in record.warnings)
    assert shop.value("select locked from databasechangeloglock") is False


def test_a_stale_changelog_lock_is_left_alone_where_its_holder_could_live(shop: Shop) -> None:
    shop.execute(STALE)
    before = shop.dump()
    record = shop.run(shop.sql(GOOD), ONLINE)
    assert (record.outcome, record.exit_code) == (Outcome.REFUSED, 3)
    assert record.error is not None
    assert "host-that-died" in record.error.message
    assert "UPDATE databasechangeloglock" in (record.error.hint or "")
    assert shop.dump() == before


def test_the_changelog_lock_of_a_living_liquibase_is_respected(shop: Shop) -> None:
    shop.execute(STALE)
    with psycopg.connect(conninfo(shop.login), application_name="Liquibase 4.33") as other:
        other.execute("select 1")
        record = shop.run(shop.sql(GOOD))
        assert (record.outcome, record.exit_code) == (Outcome.LOCKED, 4), record.error
    assert shop.value("select locked from databasechangeloglock") is True
