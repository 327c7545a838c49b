"""A run executes what it was planned from, or nothing: whatever became of the changelog's files meanwhile."""

from __future__ import annotations

import pytest

from migrator.runs.record import Outcome, StepName
from migrator.runs.reporter import SilentReporter
from tests.shop import Shop

GOOD = "\nalter table customer add column nickname text\n--rollback alter table customer drop column nickname"


class Edits(SilentReporter):
    """Somebody who edits the changelog after preflight."""

    def __init__(self, shop: Shop, text: str) -> None:
        self.shop, self.text = shop, text

    def step_ended(self, name: StepName, status: str, duration_s: float, note: str | None) -> None:
        if name is StepName.PREFLIGHT:
            self.shop.sql(self.text)


@pytest.mark.parametrize(
    "edited",
    [
        pytest.param("\ndelete from event", id="changeset"),
        pytest.param(GOOD.replace("drop column nickname", "drop column email"), id="rollback"),
    ],
)
@pytest.mark.parametrize("way", ["atomic", "stepwise"])
@pytest.mark.slow
def test_changelog_that_was_edited_after_preflight_is_not_executed(shop: Shop, way: str, edited: str) -> None:
    before = shop.dump()
    record = shop.run(shop.sql(GOOD), {"way": way}, reporter=Edits(shop, edited))
    assert (record.outcome, record.exit_code) == (Outcome.ROLLED_BACK, 6), record.warnings
    assert record.error is not None
    assert record.error.code == "changelog_changed"
    assert "release.sql" in record.error.message
    assert shop.dump() == before


@pytest.mark.slow
def test_ledger_that_holds_another_checksum_than_was_planned_is_refused(shop: Shop) -> None:
    before = shop.dump()
    record = shop.run(shop.sql(GOOD, "\nupdate databasechangelog set md5sum = '9:0' where id = '1' and author = 'ann'"))
    assert record.outcome is Outcome.ROLLED_BACK, record.warnings
    assert record.error is not None
    assert "another checksum" in record.error.message
    assert shop.dump() == before


@pytest.mark.slow
def test_changesets_that_run_again_bring_their_new_checksum(shop: Shop) -> None:
    def changelog(number: int) -> str:
        once = "\n--preconditions onFail:MARK_RAN\n--precondition-sql-check expectedResult:0 select 1\nselect 1"
        return shop.sql(f"runAlways:true\nselect {number}", f"runOnChange:true\nselect {number}", once)

    for number in (1, 2):
        record = shop.run(changelog(number))
        assert record.outcome is Outcome.MIGRATED, record.error
