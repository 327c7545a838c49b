"""Backfills of a run while others are at work: who writes, who comes in spite of the fence, who follows too slowly."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from migrator.backfills import verifying
from migrator.backfills.definition import Backfill
from migrator.backfills.verifying import Verdict
from migrator.postgres.connect import PgSession
from migrator.postgres.session import Session
from migrator.reports.verdict import Verdict as Told
from migrator.runs.record import BackfillRecord, ChangesetRecord, Outcome, RunRecord, StepName, Way
from migrator.runs.reporter import SilentReporter
from migrator.runs.run import Run
from tests import shop as shops
from tests.acceptance.moving import Writer, writing
from tests.acceptance.stage import settled
from tests.replica import pair
from tests.shop import Shop, conninfo

pytestmark = pytest.mark.slow

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
batch_rows = 10
target_batch_s = 0.001
jobs = 1
"""


class While(SilentReporter):
    """Something happens once, between two batches."""

    def __init__(self, act: Callable[[Run], None]) -> None:
        self._act = act
        self.run: Run | None = None

    def step_progress(self, name: StepName, text: str, done: float | None) -> None:
        run = self.run
        if run is not None and text.startswith("backfill split-name: ") and "backfill split-name: 0" not in text:
            self.run = None
            self._act(run)


def carried_out(shop: Shop, act: Callable[[Run], None], settings: dict[str, object]) -> RunRecord:
    """A backfill that has no end by itself, in the middle of which something happens."""
    shop.write("split-name.backfill.toml", BACKFILL + "pause_s = 1\n")
    reporter = While(act)
    run = shop.open(shop.sql(EXPAND, FILLED), settings, reporter=reporter)
    reporter.run = run
    return shop._carried_out(run)


@pytest.mark.parametrize("mode", ["offline", "read-only"])
def test_breach_of_the_fence_ends_a_backfill(shop: Shop, mode: str) -> None:
    """Nothing is restored over what the intruder wrote, and the rows that were moved are moved back."""
    rows, oid = shop.value("select count(*) from heartbeat"), shop.oid()

    def breach(run: Run) -> None:
        with psycopg.connect(conninfo(shop.superuser)) as connection:
            connection.execute("set default_transaction_read_only = off")
            connection.commit()
            connection.execute("insert into heartbeat default values")
            settled(lambda: bool(run.facts.breaches), lambda: "nobody has seen him", within_s=60)

    record = carried_out(shop, breach, {"maintenance.database": mode})
    assert (record.outcome, record.exit_code) == (Outcome.HALTED, 9), (record.error, record.warnings)
    assert record.error is not None
    assert record.error.code == "fence_breached"
    assert [one.state for one in record.backfills] == ["undone"]
    assert not has_first_name(shop)
    assert shop.oid() == oid
    assert shop.value("select count(*) from heartbeat") == rows + 1  # type: ignore[operator]


def test_limit_of_the_downtime_ends_a_backfill(shop: Shop) -> None:
    before = shop.dump()

    def have_lasted(run: Run) -> None:
        assert run.watch is not None
        run.watch._maintained_since = float("-inf")

    record = carried_out(shop, have_lasted, {})
    assert (record.outcome, record.exit_code) == (Outcome.ROLLED_BACK, 6), (record.error, record.warnings)
    assert record.error is not None
    assert record.error.code == "downtime"
    assert shop.dump() == before


def write(connection: psycopg.Connection, dice: random.Random) -> tuple[str, int]:
    number, what = dice.randint(1, 100), dice.choice(["insert", "rename"])
    if what == "insert":
        text = """insert into customer (name, email, created_at)
            values ('Nova Insert', gen_random_uuid() || '@shop', now()) returning id"""
        [(number,)] = connection.execute(text).fetchall()
    else:
        connection.execute("update customer set name = 'Re Named' || id where id = %s", (number,))
    return what, number


INDEXED = "\ncreate index by_first_name on customer (first_name)\n--rollback drop index by_first_name"
ONLINE = {"maintenance.database": "none"}
CAUGHT = """
pause_s = 0.1
capture = "trigger"
columns = ["name"]
"""


@pytest.mark.parametrize("breaks", [False, True])
def test_rows_that_an_application_writes_meanwhile_are_caught_or_kept(shop: Shop, breaks: bool) -> None:
    shop.write("split-name.backfill.toml", BACKFILL.replace("0.001", "0.2") + CAUGHT)
    writer = Writer(login=shop.app, deed=write)
    rows = shop.value("select count(*) from customer")
    with writing(writer):
        record = shop.run(shop.sql(EXPAND, INDEXED, *([BREAKS] if breaks else [])), ONLINE)
        seen = len(writer.did)
        settled(lambda: len(writer.did) > seen + 50, lambda: "the application cannot write any more")
    assert writer.refused == []
    inserted = [number for what, number in writer.did if what == "insert"]
    renamed = {number for what, number in writer.did if what == "rename"}
    assert shop.value("select count(*) from customer") == rows + len(inserted)  # type: ignore[operator]
    assert shop.value("select count(*) from customer where name = 'Re Named' || id") == len(renamed)
    triggers = shop.value("select count(*) from pg_trigger where tgname like 'migrator_backfill%'")
    if breaks:
        assert (record.outcome, record.exit_code) == (Outcome.ROLLED_BACK, 6), (record.error, record.warnings)
        assert (has_first_name(shop), triggers) == (False, 0)
        assert any("public.customer" in one for one in record.proof.not_proven), "its rows could not be compared"
        return
    assert (record.outcome, record.way) == (Outcome.MIGRATED, Way.STEPWISE), (record.error, record.warnings)
    assert record.surprises == []
    assert triggers != 0
    assert shop.value("select count(*) from customer where first_name is distinct from split_part(name, ' ', 1)") == 0


@pytest.mark.timeout(180)
def test_replica_that_stands_still_does_not_hold_up_the_way_back(tmp_path: Path) -> None:
    with pair() as replicated, shops.database(replicated.server) as login:
        shop = Shop(server=replicated.server, login=login, folder=tmp_path)
        shop.execute("create table customer (id bigint primary key, name text)")
        shop.execute("insert into customer select n, 'first' || n || ' last' from generate_series(1, 200) n")
        before = shop.dump()
        shop.write("split-name.backfill.toml", BACKFILL + "max_lag_bytes = 1_000_000\n")

        class Stands(SilentReporter):
            def backfill(self, backfill: BackfillRecord) -> None:
                if backfill.state == "verified":
                    replicated.stand_still()
                    filled = "create table filled as select n, repeat('x', 100) from generate_series(1, 30000) n"
                    shop.execute(filled, replicated.server.admin)

        record = shop.run(shop.sql(EXPAND, FILLED, BREAKS), reporter=Stands())
        assert (record.outcome, record.exit_code) == (Outcome.ROLLED_BACK, 6), (record.error, record.warnings)
        assert record.backfills[0].max_lag_bytes is not None, "it was held to the limit on its way"
        assert shop.dump() == before


KEPT_BY_NOBODY = """
name = "fill-name"
after = "1::ann"
table = "customer"
key = ["id"]
where = "first_name is null"
statement = "update customer c set first_name = split_part(c.name, ' ', 1) from batch b where c.id = b.id"
verify = "select id from customer where first_name is null"
undo = "update customer c set first_name = null from batch b where c.id = b.id"
undo_where = "true"
capture = "application"
"""


@pytest.mark.parametrize(("mode", "outcome"), [("none", Outcome.ROLLED_BACK), ("read-only", Outcome.HALTED)])
def test_rows_that_an_undo_did_not_bring_back_are_not_called_proven(shop: Shop, mode: str, outcome: Outcome) -> None:
    """Its undo takes more than the backfill gave. Under read-only nobody else can have changed the rows."""
    shop.execute("alter table customer add first_name text; update customer set first_name = 'KEEP' where id <= 7")
    shop.write("fill-name.backfill.toml", KEPT_BY_NOBODY)
    nothing = "\nselect 1\n--rollback select 1"
    record = shop.run(shop.sql(nothing, BREAKS), {"maintenance.database": mode})
    assert record.outcome is outcome, (record.error, record.warnings)
    assert shop.value("select count(*) from customer where first_name = 'KEEP'") == 0
    said = Told.of(record).database
    if outcome is Outcome.HALTED:
        assert any("public.customer has other values" in warning for warning in record.warnings), record.warnings
        return
    assert record.proof.others_wrote == ["public.customer"]
    assert "what it was before the run, but for the rows of public.customer, which others were free to write" in said
    assert any("what they were" in one and "but for the rows of public.customer" in one for one in record.proof.proven)


REQUIRED = BACKFILL.replace("batch_rows = 10\ntarget_batch_s = 0.001\n", "")
CONTRACT = """
-- migrator:requires split-name
alter table customer drop column name
--rollback alter table customer add column name text not null default '';"""
KEPT_IN_PARTS = """
-- migrator:requires split-name
alter table customer alter column first_name set default ''
--rollback alter table customer alter column first_name drop default"""


class Writes(SilentReporter):
    """An application of the old kind writes one name, and not its part, at one moment of the run."""

    def __init__(self, shop: Shop, step: StepName | None = None, changeset: int | None = None) -> None:
        self._shop, self._step, self._changeset = shop, step, changeset
        self._is_done = False

    def step_started(self, name: StepName, title: str) -> None:
        if name is self._step:
            self._write()

    def changeset(self, changeset: ChangesetRecord, number: int, total: int) -> None:
        if (number, changeset.status) == (self._changeset, "running"):
            self._write()

    def _write(self) -> None:
        if not self._is_done:
            self._is_done = True
            text = "set lock_timeout = '10s'; update customer set name = 'Written Meanwhile' where id = 1"
            self._shop.execute(text, self._shop.app)


def test_what_is_written_after_the_snapshot_is_looked_at_before_the_contract(shop: Shop) -> None:
    shop.write("split-name.backfill.toml", REQUIRED + 'capture = "application"\n')
    assert shop.run(shop.sql(EXPAND)).outcome is Outcome.MIGRATED
    record = shop.run(shop.sql(EXPAND, CONTRACT), ONLINE, reporter=Writes(shop, step=StepName.APPLY))
    assert (record.outcome, record.way) == (Outcome.ROLLED_BACK, Way.ATOMIC), (record.error, record.warnings)
    assert record.error is not None
    assert record.error.code == "backfill_wrong"
    assert shop.value("select name from customer where id = 1") == "Written Meanwhile"


def test_nobody_writes_while_the_contract_is_proven_and_the_trigger_goes(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.write("split-name.backfill.toml", REQUIRED + CAUGHT)
    assert shop.run(shop.sql(EXPAND)).outcome is Outcome.MIGRATED
    ask, refused = verifying.ask, []

    def asked_by_session(session: Session, backfill: Backfill) -> Verdict:
        if isinstance(session, PgSession) and "backfill-capture" in str(session.rows("show application_name")):
            with pytest.raises(psycopg.errors.LockNotAvailable):
                shop.execute("set lock_timeout = 100; update customer set name = 'Too Late' where id = 1", shop.app)
            refused.append(backfill.name)
        return ask(session, backfill)

    monkeypatch.setattr(verifying, "ask", asked_by_session)
    record = shop.run(shop.sql(EXPAND, KEPT_IN_PARTS), {**ONLINE, "way": "stepwise"})
    assert record.outcome is Outcome.MIGRATED, (record.error, record.warnings)
    assert refused == ["split-name"]
    assert any("between the proof of backfill split-name and the lock" in one for one in record.proof.not_proven)


def test_backfill_that_nothing_kept_right_while_its_trigger_was_away_is_not_verified_any_more(shop: Shop) -> None:
    shop.write("split-name.backfill.toml", REQUIRED + CAUGHT)
    assert shop.run(shop.sql(EXPAND)).outcome is Outcome.MIGRATED
    record = shop.run(
        shop.sql(EXPAND, KEPT_IN_PARTS, BREAKS), {**ONLINE, "way": "stepwise"}, reporter=Writes(shop, changeset=2)
    )
    assert record.outcome is Outcome.HALTED, (record.error, record.warnings)  # a row of an altered table differs
    assert shop.value("select count(*) from pg_trigger where tgname like 'migrator_backfill%'") != 0
    assert shop.value("select state from migrator_backfills") == "moved"
    assert any("Backfill split-name is not verified any more" in warning for warning in record.warnings)
    assert any("migrator backfill verify split-name" in warning for warning in record.warnings)


def test_contract_of_a_backfill_inside_wants_a_release_of_its_own_where_others_write(shop: Shop) -> None:
    shop.write("split-name.backfill.toml", REQUIRED + 'capture = "application"\ninside = true\n')
    refused = shop.run(shop.sql(EXPAND, KEPT_IN_PARTS), ONLINE)
    assert refused.outcome is Outcome.REFUSED, refused.warnings
    assert refused.error is not None
    assert "requires backfill split-name of the same transaction" in refused.error.message
    record = shop.run(shop.sql(EXPAND, KEPT_IN_PARTS))
    assert record.outcome is Outcome.MIGRATED, (record.error, record.warnings)


def has_first_name(shop: Shop) -> bool:
    return "first_name" in str(shop.query("select attname from pg_attribute where attrelid = 'customer'::regclass"))
