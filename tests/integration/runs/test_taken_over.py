"""Whoever ends a run that was left behind works on the run's own database, by the run's own maintenance."""

from __future__ import annotations

from contextlib import closing

import pytest

from migrator.errors import Refused
from migrator.runs import opening, resume
from migrator.runs.journal import Journal
from migrator.runs.record import Outcome, RunRecord
from migrator.runs.reporter import SilentReporter
from migrator.runs.run import Options, Run
from tests.shop import ENVIRONMENT, Shop

FAILS = "\nalter table product add constraint cheap check (price < 3)"


@pytest.fixture
def halted(shop: Shop) -> RunRecord:
    """A stepwise run that deleted rows, failed, and may not restore them by itself."""
    changelog = shop.sql("\ndelete from event", FAILS)
    record = shop.run(changelog, {"way": "stepwise", "backup.restore": "never"}, accept_no_way_back=True)
    assert record.outcome is Outcome.HALTED
    return record


def left_behind(shop: Shop, run_id: str, settings: dict[str, object]) -> Run:
    config = shop.config(settings)
    journal = Journal.open(config.journal.url, config.base)
    return opening.stored(
        config,
        config.environment(ENVIRONMENT),
        journal.get(run_id),
        Options(changelog=""),
        journal=journal,
        reporter=SilentReporter(),
    )


def test_a_run_is_not_ended_on_another_database(shop: Shop, halted: RunRecord) -> None:
    shop.login = shop.login.to("another_shop")
    with pytest.raises(Refused, match="is of the database"):
        left_behind(shop, halted.run_id, {})


def test_other_settings_do_not_change_whether_others_may_have_written(shop: Shop, halted: RunRecord) -> None:
    run = left_behind(shop, halted.run_id, {"maintenance.database": "none"})
    assert run.offline


def test_a_breach_is_remembered_by_whoever_comes_next(shop: Shop, halted: RunRecord) -> None:
    run = left_behind(shop, halted.run_id, {"backup.restore": "automatic"})
    run.facts.breaches.append("somebody (psql, pid 1)")
    resume.resume(run, back=True)
    assert run.record.outcome is Outcome.HALTED
    assert any("the fence was breached" in one for one in run.record.warnings), run.record.warnings
    with closing(Journal.open(run.config.journal.url, run.config.base)) as journal:
        assert journal.get(run.id).facts["breaches"] == ["somebody (psql, pid 1)"]


def test_a_halted_run_is_never_begun_again(shop: Shop, halted: RunRecord) -> None:
    run = left_behind(shop, halted.run_id, {"backup.restore": "automatic"})
    resume.resume(run, back=False)
    assert run.record.outcome is Outcome.RESTORED, run.record.warnings
    assert shop.value("select count(*) from event") != 0


@pytest.mark.slow
def test_rows_that_were_never_hashed_are_not_said_to_be_what_they_were(shop: Shop) -> None:
    changelog = shop.sql("\nupdate orders set status = 'cancelled' where id = 1;\n--rollback empty", FAILS)
    settings = {"way": "stepwise", "proof": "write_set", "backup.kinds": []}
    record = shop.run(changelog, settings, accept_no_way_back=True)
    assert record.outcome is Outcome.HALTED
    assert any("public.orders cannot be compared" in one for one in record.warnings), record.warnings
