"""Backfills between the changesets of a run: done, proven, required, and taken back."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from migrator.backfills import capture, definition, ledger, verifying
from migrator.backfills.definition import Backfill
from migrator.postgres.connect import PgSession, connect
from migrator.postgres.transactions import transaction
from migrator.runs import moving
from migrator.runs.record import BackfillRecord, Outcome, RunRecord, Way
from migrator.runs.reporter import SilentReporter
from migrator.runs.run import Run
from tests.integration.runs.rehearsing import rehearse
from tests.integration.runs.test_bluegreen import taken_back
from tests.shop import Shop

EXPAND = "\nalter table customer add column first_name text\n--rollback alter table customer drop column first_name"
FILLED = """
alter table customer alter column first_name set not null
--rollback alter table customer alter column first_name drop not null"""
BREAKS = "\nselect 1/0\n--rollback select 1"
BACKFILL = """
name = "split-name"
after = "1::ann"
table = "customer"
key = ["id"]
statement = "update customer c set first_name = split_part(c.name, ' ', 1) from batch b where c.id = b.id"
verify = "select id from customer where first_name is distinct from split_part(name, ' ', 1)"
undo = "update customer c set first_name = null from batch b where c.id = b.id"
batch_rows = 50
"""
MOVED = "select count(*) from customer where first_name = split_part(name, ' ', 1)"


def _backfill(shop: Shop, text: str = BACKFILL, **changed: str) -> None:
    shop.write("split-name.backfill.toml", text + "".join(f"{key} = {value}\n" for key, value in changed.items()))


@pytest.mark.slow
@pytest.mark.parametrize("way", [Way.ATOMIC, Way.STEPWISE])
def test_changeset_that_grants_rights_on_all_tables_does_not_open_the_ledger(shop: Shop, way: Way) -> None:
    _backfill(shop)
    assert shop.run(shop.sql(EXPAND)).outcome is Outcome.MIGRATED
    grant = "\ngrant select, insert, update, delete on all tables in schema public to app\n--rollback select 1"
    record = shop.run(shop.sql(EXPAND, grant), {"way": way.value})
    assert (record.outcome, record.way) == (Outcome.MIGRATED, way), (record.error, record.warnings)
    assert any("let others write the backfills' ledger" in warning for warning in record.warnings)
    assert shop.value("select has_table_privilege('app', 'migrator_backfills', 'INSERT, UPDATE, DELETE')") is False
    assert shop.run("release.sql").outcome is Outcome.NOTHING_TO_DO


@contextmanager
def _by_hand(shop: Shop) -> Iterator[tuple[PgSession, Backfill]]:
    with closing(connect(shop.login, role="backfill", run_id="earlier")) as session:
        yield session, definition.read(shop.folder / "split-name.backfill.toml")


def _undone_before(shop: Shop) -> None:
    with _by_hand(shop) as (session, backfill), transaction(session):
        ledger.begin(session, None, backfill, table="public.customer", run_id="earlier")
        ledger.change(session, None, backfill.name, ledger.State.UNDONE, only_from=[ledger.State.RUNNING])


def _states(record: RunRecord) -> list[tuple[str, str]]:
    return [(one.name, one.state) for one in record.backfills]


def test_backfill_is_done_between_its_changesets(shop: Shop) -> None:
    _backfill(shop)
    record = shop.run(shop.sql(EXPAND, FILLED))
    assert (record.outcome, record.way) == (Outcome.MIGRATED, Way.STEPWISE), (record.error, record.warnings)
    rows = shop.value("select count(*) from customer")
    assert shop.value(MOVED) == rows
    [told] = record.backfills
    assert (told.state, told.rows, told.violations) == ("verified", rows, 0)
    assert record.surprises == []
    assert "public.customer" in record.write_set
    assert not any("migrator_backfill" in one for one in (*record.write_set, *record.warnings))
    assert shop.run("release.sql").outcome is Outcome.NOTHING_TO_DO


@pytest.mark.slow
def test_changeset_that_fails_after_a_backfill_goes_back_with_proof(shop: Shop) -> None:
    before = shop.dump()
    _backfill(shop)
    record = shop.run(shop.sql(EXPAND, FILLED, BREAKS))
    assert (record.outcome, record.exit_code) == (Outcome.ROLLED_BACK, 6), (record.error, record.warnings)
    assert _states(record) == [("split-name", "undone")]
    assert shop.dump() == before


@pytest.mark.slow
def test_backfill_that_is_wrong_goes_back(shop: Shop) -> None:
    before = shop.dump()
    _backfill(shop, BACKFILL.replace("split_part(c.name, ' ', 1) from", "'nobody' from"))
    record = shop.run(shop.sql(EXPAND, FILLED))
    assert record.outcome is Outcome.ROLLED_BACK, (record.error, record.warnings)
    assert record.error is not None
    assert record.error.code == "backfill_wrong"
    assert shop.dump() == before


@pytest.mark.slow
def test_backfill_without_an_undo_is_taken_back_by_the_backup(shop: Shop) -> None:
    before = shop.dump()
    _backfill(shop, "\n".join(line for line in BACKFILL.splitlines() if not line.startswith("undo")) + "\n")
    record = shop.run(shop.sql(EXPAND, BREAKS))
    assert (record.outcome, record.exit_code) == (Outcome.RESTORED, 7), (record.error, record.warnings)
    assert shop.dump() == before


@pytest.mark.slow
def test_backfill_inside_is_part_of_the_one_transaction(shop: Shop) -> None:
    before = shop.dump()
    _backfill(shop, inside="true")
    failed = shop.run(shop.sql(EXPAND, FILLED, BREAKS), {"way": "atomic"})
    assert (failed.outcome, failed.way) == (Outcome.ROLLED_BACK, Way.ATOMIC), (failed.error, failed.warnings)
    assert shop.dump() == before
    record = shop.run(shop.sql(EXPAND, FILLED))
    assert (record.outcome, record.way) == (Outcome.MIGRATED, Way.ATOMIC), (record.error, record.warnings)
    assert _states(record) == [("split-name", "verified")]
    assert shop.value(MOVED) == shop.value("select count(*) from customer")
    assert "public.customer" in record.write_set


@pytest.mark.slow
def test_backfill_on_the_copy_of_a_bluegreen_run(shop: Shop) -> None:
    _backfill(shop)
    before = shop.dump()
    failed = shop.run(shop.sql(EXPAND, BREAKS), {"way": "bluegreen"})
    assert failed.outcome is Outcome.ROLLED_BACK, (failed.error, failed.warnings)
    assert shop.dump() == before
    record = shop.run(shop.sql(EXPAND, FILLED), {"way": "bluegreen"})
    assert (record.outcome, record.way) == (Outcome.MIGRATED, Way.BLUEGREEN), (record.error, record.warnings)
    assert shop.value(MOVED) == shop.value("select count(*) from customer")
    with _by_hand(shop) as (session, backfill):
        assert verifying.verify(session, backfill, None).violations == 0
    back = taken_back(shop, record)
    assert back.outcome is Outcome.BROUGHT_BACK, ("what the ledger says is nothing that would be lost", back.error)
    assert shop.dump() == before


CONTRACT = """
-- migrator:requires split-name
alter table customer alter column first_name set default ''
--rollback alter table customer alter column first_name drop default"""


@pytest.mark.slow
def test_changeset_that_requires_a_backfill_is_refused_until_it_is_proven(shop: Shop) -> None:
    refused = shop.run(shop.sql(EXPAND, CONTRACT))
    assert refused.outcome is Outcome.REFUSED
    assert refused.error is not None
    assert "requires backfill split-name, which has not begun here" in refused.error.message
    _backfill(shop, capture='"trigger"')
    assert shop.run(shop.sql(EXPAND)).outcome is Outcome.MIGRATED
    trigger = "select count(*) from pg_trigger where not tgisinternal and tgrelid = 'customer'::regclass"
    assert shop.value(trigger) != 0
    shop.execute("alter table customer disable trigger user; update customer set first_name = 'x' where id = 1")
    shop.execute(
        "do $$ declare one record; begin for one in select tgname from pg_trigger where not tgisinternal and tgrelid = "
        "'customer'::regclass loop execute format('alter table customer enable always trigger %I', one.tgname); "
        "end loop; end $$"
    )
    refused = shop.run(shop.sql(EXPAND, CONTRACT))
    assert refused.outcome is Outcome.REFUSED, refused.warnings
    assert refused.error is not None
    assert "1 rows that are not as they should be" in refused.error.message
    shop.execute("update customer set first_name = split_part(name, ' ', 1) where id = 1")
    failed = shop.run(shop.sql(EXPAND, CONTRACT, BREAKS), {"way": "stepwise"})
    assert failed.outcome is Outcome.ROLLED_BACK, (failed.error, failed.warnings)
    assert shop.value(trigger) != 0, "it is put back"
    record = shop.run(shop.sql(EXPAND, CONTRACT))
    assert (record.outcome, record.way) == (Outcome.MIGRATED, Way.ATOMIC), (record.error, record.warnings)
    assert _states(record) == [("split-name", "required")]
    assert shop.value(trigger) == 0


@pytest.mark.slow
def test_rollback_of_a_run_undoes_its_backfill_first(shop: Shop) -> None:
    _backfill(shop)
    before = shop.dump()
    done = shop.run(shop.sql(EXPAND, FILLED))
    assert done.outcome is Outcome.MIGRATED, (done.error, done.warnings)
    with _by_hand(shop) as (session, backfill), transaction(session):
        another = backfill.model_copy(update={"name": "another", "after": "base::shop"})
        ledger.begin(session, None, another, table="public.product", run_id="later")
    record = shop.rollback(run_id=done.run_id)
    assert record.outcome is Outcome.MIGRATED, (record.error, record.warnings)
    assert any(one.startswith("The schema is what it was before") for one in record.proof.proven), record.proof
    shop.execute("drop table migrator_backfills, migrator_backfill_ranges")
    assert _states(record) == [("split-name", "undone")]
    assert [line for line in shop.dump() if "databasechangelog" not in line] == [
        line for line in before if "databasechangelog" not in line
    ]


EMPTY_AGAIN = """
-- migrator:requires split-name
alter table customer drop column tags
--rollback alter table customer add column tags text[]"""


@pytest.mark.slow
def test_way_back_loses_nothing_where_a_contract_is_undone_without_its_values(shop: Shop) -> None:
    """Nobody but the backup has them: the backfill is not undone."""
    before = shop.dump()
    _backfill(shop, re.sub(r"split_part\((c?\.?)name, ' ', 1\)", r"\1tags::text", BACKFILL))
    failed = shop.run(shop.sql(EXPAND, EMPTY_AGAIN, BREAKS))
    assert (failed.outcome, failed.exit_code) == (Outcome.RESTORED, 7), (failed.error, failed.warnings)
    assert any("rows differ from what was moved" in one for one in failed.warnings), failed.warnings
    assert shop.dump() == before

    expanded = shop.run(shop.sql(EXPAND))
    assert expanded.outcome is Outcome.MIGRATED, (expanded.error, expanded.warnings)
    assert shop.run(shop.sql(EXPAND, EMPTY_AGAIN)).outcome is Outcome.MIGRATED
    contracted = shop.dump()
    record = shop.rollback(count=2)
    assert (record.outcome, record.exit_code) == (Outcome.RESTORED, 7), (record.error, record.warnings)
    assert record.error is not None
    assert record.error.code == "backfill_one_way"
    assert shop.dump() == contracted
    refused = shop.rollback(run_id=expanded.run_id)
    assert refused.outcome is Outcome.REFUSED


@pytest.mark.slow
def test_backfill_while_users_write_must_say_how_they_are_caught(shop: Shop) -> None:
    _backfill(shop)
    refused = shop.run(shop.sql(EXPAND), {"maintenance.database": "none"})
    assert refused.outcome is Outcome.REFUSED
    assert refused.error is not None
    assert "capture = 'none'" in refused.error.message
    assert "capture = 'trigger'" in f"{refused.error.message} {refused.error.hint}"


@pytest.mark.slow
def test_way_atomic_is_refused_and_two_releases_are_proposed(shop: Shop) -> None:
    _backfill(shop)
    refused = shop.run(shop.sql(EXPAND, FILLED), {"way": "atomic"})
    assert refused.outcome is Outcome.REFUSED
    assert refused.error is not None
    assert "two releases" in f"{refused.error.hint}"
    plan = shop.plan("release.sql")
    assert (plan.way, "two releases" in plan.way_reason) == ("stepwise", True)
    assert [(one.name, one.after) for one in plan.backfills] == [("split-name", "release.sql::1::ann")]


@pytest.mark.slow
def test_changesets_that_always_run_do_not_take_the_turn_of_those_before_a_backfill(shop: Shop) -> None:
    second = BACKFILL.replace("split-name", "split-again").replace("1::ann", "3::ann").replace("first_name", "again")
    _backfill(shop, BACKFILL.replace("1::ann", "2::ann"))
    shop.write("split-again.backfill.toml", second)
    another = EXPAND.replace("first_name", "again")
    record = shop.run(shop.sql("runAlways:true\nselect 1\n--rollback select 1", EXPAND, another, FILLED))
    assert record.outcome is Outcome.MIGRATED, (record.error, record.warnings)
    assert _states(record) == [("split-name", "verified"), ("split-again", "verified")]
    assert shop.value("select count(*) from customer where again is distinct from first_name") == 0


@pytest.mark.slow
def test_backfill_that_came_later_is_told_where_no_changeset_is_pending(shop: Shop) -> None:
    assert shop.run(shop.sql(EXPAND)).outcome is Outcome.MIGRATED
    _backfill(shop)
    record = shop.run("release.sql")
    assert record.outcome is Outcome.NOTHING_TO_DO
    assert any("migrator backfill run split-name" in warning for warning in record.warnings)


@pytest.mark.slow
def test_rehearsal_does_what_changesets_behind_a_backfill_need(shop: Shop) -> None:
    """Also where the database knows the backfill from an earlier time: that its ledger is gone then is no loss."""
    _backfill(shop)
    _undone_before(shop)
    record = rehearse(shop, shop.sql(EXPAND, FILLED))
    assert record.passed, record.findings
    assert [leg.outcome for leg in record.legs] == ["migrated", "migrated", "migrated"]
    assert shop.value("select count(*) from pg_attribute where attname = 'first_name'") == 0


@pytest.mark.slow
def test_rehearsal_tells_of_a_backfill_that_is_wrong(shop: Shop) -> None:
    _backfill(shop, BACKFILL.replace("split_part(c.name, ' ', 1) from", "'nobody' from"))
    record = rehearse(shop, shop.sql(EXPAND, FILLED))
    assert not record.passed
    assert "backfill_wrong" in [one.code for one in record.errors]


@pytest.mark.slow
def test_changeset_that_is_only_marked_as_ran_does_not_let_a_later_one_come_too_early(shop: Shop) -> None:
    second = BACKFILL.replace("split-name", "split-again").replace("1::ann", "3::ann").replace("first_name", "again")
    _backfill(shop, BACKFILL.replace("1::ann", "2::ann"))
    shop.write("split-again.backfill.toml", second)
    marked = "\n--preconditions onFail:MARK_RAN\n--precondition-sql-check expectedResult:1 select 0\nselect 1"
    last = FILLED.replace("first_name", "again")
    record = shop.run(shop.sql(marked, EXPAND, EXPAND.replace("first_name", "again"), last))
    assert record.outcome is Outcome.MIGRATED, (record.error, record.warnings)
    assert _states(record) == [("split-name", "verified"), ("split-again", "verified")]


@pytest.mark.slow
def test_first_batch_that_fails_is_taken_back_without_a_restore(shop: Shop) -> None:
    before = shop.dump()
    _backfill(shop, BACKFILL.replace("split_part(c.name, ' ', 1) from", "(1 / (c.id - c.id))::text from"))
    record = shop.run(shop.sql(EXPAND))
    assert record.outcome is Outcome.ROLLED_BACK, (record.error, record.warnings)
    assert shop.dump() == before


@pytest.mark.slow
def test_trigger_goes_again_where_the_backfill_had_been_undone_before(shop: Shop) -> None:
    _backfill(shop)
    _undone_before(shop)
    before = shop.dump()
    wrong = BACKFILL.replace("select id from customer where first_name", "select id from customer where no_such_column")
    _backfill(shop, wrong, capture='"trigger"')
    record = shop.run(shop.sql(EXPAND, FILLED))
    assert record.outcome is Outcome.ROLLED_BACK, (record.error, record.warnings)
    assert record.error is not None
    assert "no_such_column" in record.error.message
    assert shop.dump() == before, "without the trigger, and with what the database knew of the backfill"


@pytest.mark.slow
def test_trigger_that_was_left_behind_is_to_be_removed_first(shop: Shop) -> None:
    assert shop.run(shop.sql(EXPAND)).outcome is Outcome.MIGRATED
    _backfill(shop, capture='"trigger"')
    with _by_hand(shop) as (session, backfill):
        capture.install(session, backfill, lock_timeout_s=5)
    refused = shop.run(shop.sql(EXPAND, FILLED))
    assert refused.outcome is Outcome.REFUSED
    assert refused.error is not None
    assert "The trigger of backfill split-name is on public.customer already" in refused.error.message
    assert "migrator backfill undo split-name" in f"{refused.error.hint}"


class Forgetting(SilentReporter):
    """The process is as good as killed right after the backfill was verified: the journal knows nothing of it."""

    def __init__(self) -> None:
        self.run: Run | None = None

    def backfill(self, told: BackfillRecord) -> None:
        run = self.run
        if run is not None and told.state == "verified":
            self.run = None
            told.state, told.rows, told.batches = "running", None, None
            run.record.proof.proven, run.record.kept = [], []
            moving.move(run, moving.planned(run, told.name), None)


@pytest.mark.slow
def test_backfill_that_is_found_verified_is_told_and_proven_like_another(shop: Shop) -> None:
    _backfill(shop, capture='"trigger"')
    reporter = Forgetting()
    reporter.run = run = shop.open(shop.sql(EXPAND), reporter=reporter)
    record = shop._carried_out(run)
    assert record.outcome is Outcome.MIGRATED, (record.error, record.warnings)
    assert reporter.run is None
    [told] = record.backfills
    assert (told.state, told.rows, told.violations) == ("verified", shop.value("select count(*) from customer"), 0)
    assert any(one.startswith("Backfill split-name: ") for one in record.proof.proven)
    assert any("migrator backfill finish split-name" in one for one in record.kept)


@pytest.mark.slow
def test_backfill_of_a_changeset_that_was_skipped_waits_for_it(shop: Shop) -> None:
    """Nothing but a later run executes the changeset, and that does the backfill, too."""
    waits = "\n--preconditions onFail:CONTINUE\n--precondition-sql-check expectedResult:1 select count(*) from pg_class"
    waiting = f"{waits} where relname = 'ready'{EXPAND}"
    _backfill(shop)
    other = "\ncreate table other (id int)\n--rollback drop table other"
    record = shop.run(shop.sql(waiting, other))
    assert record.outcome is Outcome.MIGRATED, (record.error, record.warnings)
    assert _states(record) == [("split-name", "pending")]
    assert any("still pending, because its changeset release.sql::1::ann was skipped" in one for one in record.warnings)
    assert shop.value("select to_regclass('migrator_backfills')") is None

    failed = shop.run(shop.sql(waiting, other, CONTRACT), {"way": "stepwise"})
    assert failed.outcome is Outcome.ROLLED_BACK, (failed.error, failed.warnings)
    assert failed.error is not None
    assert "requires backfill split-name, which was not done" in failed.error.message

    shop.execute("create table ready ()")
    record = shop.run(shop.sql(waiting, other))
    assert record.outcome is Outcome.MIGRATED, (record.error, record.warnings)
    assert _states(record) == [("split-name", "verified")]
    assert shop.value(MOVED) == shop.value("select count(*) from customer")
