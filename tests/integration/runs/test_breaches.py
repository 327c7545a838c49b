"""Somebody whom the fence does not hold writes: named, never restored over, and the run ends as its way allows."""

from __future__ import annotations

import time
from contextlib import ExitStack

import psycopg
import pytest

from migrator.config.login import Login
from migrator.runs.record import ChangesetRecord, Outcome, RunRecord, StepName
from migrator.runs.reporter import SilentReporter
from migrator.runs.run import Run
from tests.shop import Shop, conninfo

pytestmark = pytest.mark.slow

CHANGES = "\nalter table customer add column nickname text;\n--rollback alter table customer drop column nickname"
WITHIN_S = 60.0
BEFORE, AFTER = "before the change", "after the change"


class Breaching(SilentReporter):
    """At the moment, somebody writes a row and does not commit it before the run has seen him."""

    run: Run

    def __init__(self, login: Login, moment: str) -> None:
        self._login = login
        self._moment = moment
        self.pid = 0

    def step_started(self, name: StepName, title: str) -> None:
        if (self._moment, name) == (BEFORE, StepName.BACK_UP):
            self._write()

    def changeset(self, changeset: ChangesetRecord, number: int, total: int) -> None:
        if (self._moment, number, changeset.status) == (AFTER, 2, "running"):
            self._write()

    def _write(self) -> None:
        with psycopg.connect(conninfo(self._login)) as connection:
            self.pid = connection.info.backend_pid
            connection.execute("set default_transaction_read_only = off")
            connection.commit()
            connection.execute("insert into heartbeat default values")
            until = time.monotonic() + WITHIN_S
            while not self.run.facts.breaches:
                assert time.monotonic() < until, "nobody has seen him"
                time.sleep(0.01)


def breached(shop: Shop, by: Login, moment: str, settings: dict[str, object]) -> tuple[RunRecord, Breaching]:
    reporter = Breaching(by, moment)
    run = shop.open(shop.sql(CHANGES, "\nselect 1;\n--rollback empty"), settings, reporter=reporter)
    reporter.run = run
    return shop._carried_out(run), reporter


def has_changed(shop: Shop) -> bool:
    return "nickname" in str(shop.query("select attname from pg_attribute where attrelid = 'customer'::regclass"))


CASES = [
    (BEFORE, "atomic", Outcome.FAILED_BEFORE, 5),
    (BEFORE, "stepwise", Outcome.FAILED_BEFORE, 5),
    (AFTER, "atomic", Outcome.ROLLED_BACK, 6),
    (AFTER, "stepwise", Outcome.HALTED, 9),
]


@pytest.mark.parametrize(("moment", "way", "outcome", "code"), CASES)
@pytest.mark.parametrize("who", ["application", "superuser"])
def test_a_writer_that_read_only_does_not_hold_is_a_breach(
    shop: Shop, who: str, moment: str, way: str, outcome: Outcome, code: int
) -> None:
    by = shop.superuser if who == "superuser" else shop.app
    rows, oid = shop.value("select count(*) from heartbeat"), shop.oid()
    record, writer = breached(shop, by, moment, {"maintenance.database": "read-only", "way": way})
    assert (record.outcome, record.exit_code) == (outcome, code), (record.error, record.warnings)
    assert record.error is not None
    assert record.error.code == "fence_breached"
    assert by.user in record.error.message
    assert f"pid {writer.pid}" in record.error.message
    assert not has_changed(shop)
    assert shop.oid() == oid, "nothing was restored over it"
    assert shop.value("select count(*) from heartbeat") == rows + 1  # type: ignore[operator]


@pytest.mark.parametrize(("moment", "way", "outcome", "code"), CASES)
def test_a_superuser_that_comes_in_spite_of_offline_is_a_breach(
    shop: Shop, moment: str, way: str, outcome: Outcome, code: int
) -> None:
    rows, oid = shop.value("select count(*) from heartbeat"), shop.oid()
    record, writer = breached(shop, shop.superuser, moment, {"way": way})
    assert (record.outcome, record.exit_code) == (outcome, code), (record.error, record.warnings)
    assert record.error is not None
    assert record.error.code == "fence_breached"
    assert f"pid {writer.pid}" in record.error.message
    assert not has_changed(shop)
    assert shop.oid() == oid, "nothing was restored over it"
    assert shop.value("select count(*) from heartbeat") == rows + 1  # type: ignore[operator]


def test_a_superuser_that_is_there_refuses_an_offline_run(shop: Shop) -> None:
    before = shop.dump()
    with psycopg.connect(conninfo(shop.superuser)) as connection:
        connection.execute("insert into heartbeat default values")
        record = shop.run(shop.sql(CHANGES))
        assert (record.outcome, record.exit_code) == (Outcome.REFUSED, 3), record.error
        assert record.error is not None
        assert f"pid {connection.info.backend_pid}: superuser {shop.superuser.user}" in record.error.message
        connection.rollback()
    assert shop.dump() == before


def test_a_superuser_that_comes_before_the_fence_ends_an_offline_run_before_anything(shop: Shop) -> None:
    """The migrating login is none, so it cannot end his session: it names him."""
    before = shop.dump()
    with ExitStack() as stack:
        pids: list[int] = []

        class Comes(SilentReporter):
            def step_started(self, name: StepName, title: str) -> None:
                if name is StepName.MAINTAIN:
                    connection = stack.enter_context(psycopg.connect(conninfo(shop.superuser)))
                    connection.execute("insert into heartbeat default values")
                    stack.callback(connection.rollback)
                    pids.append(connection.info.backend_pid)

        record = shop.run(shop.sql(CHANGES), {"limits.drain_s": 1}, reporter=Comes())
        assert (record.outcome, record.exit_code) == (Outcome.FAILED_BEFORE, 5), record.error
        assert record.error is not None
        assert f"pid {pids[0]}: superuser {shop.superuser.user}" in record.error.message
    assert shop.dump() == before
