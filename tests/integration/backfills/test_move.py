"""Rows are moved in batches, whatever their keys are."""

from __future__ import annotations

import pytest

from migrator.backfills.ledger import State
from migrator.config.login import Login
from tests.integration.backfills.stage import CUSTOMERS, Stage, backfill


@pytest.fixture
def stage(database: Login) -> Stage:
    return Stage(login=database)


def test_every_row_is_moved_once_and_proven(stage: Stage) -> None:
    stage.execute(CUSTOMERS.format(rows=1000))
    split = backfill()
    moved = stage.move(split)
    assert (moved.rows, moved.written) == (1000, frozenset({"public.customer"}))
    assert stage.entry().state is State.MOVED
    verdict = stage.verify(split)
    assert (verdict.violations, verdict.sample) == (0, ())
    assert stage.entry().state is State.VERIFIED
    assert stage.move(split).rows == 0
    assert (stage.entry().rows_done, stage.entry().state) == (1000, State.VERIFIED)
    assert stage.undo(split).rows == 1000
    assert stage.entry().state is State.UNDONE
    assert stage.value("select count(first_name) from customer") == "0"
    assert stage.move(split).rows == 1000
