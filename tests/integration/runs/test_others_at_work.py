"""What others do while a run is at work, that no fence keeps them from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import psycopg
import pytest

from migrator.runs.record import Outcome, StepName
from migrator.runs.reporter import SilentReporter
from tests.shop import Shop, conninfo

pytestmark = pytest.mark.slow

GOOD = "\nalter table customer add column nickname text;\n--rollback alter table customer drop column nickname"


class When(SilentReporter):
    """Something happens as the step begins."""

    def __init__(self, name: StepName, act: Callable[[], object]) -> None:
        self._name, self._act = name, act

    def step_started(self, name: StepName, title: str) -> None:
        if name is self._name:
            self._act()


@contextmanager
def locked(shop: Shop, table: str) -> Iterator[None]:
    with psycopg.connect(conninfo(shop.superuser)) as session, session.transaction():
        session.execute(f"lock table {table} in access exclusive mode".encode())
        yield


def test_a_table_that_somebody_locked_for_himself_ends_the_run_at_its_backup(shop: Shop) -> None:
    before = shop.dump()
    with ExitStack() as others:
        reporter = When(StepName.BACK_UP, lambda: others.enter_context(locked(shop, "product")))
        settings = {"maintenance.database": "none", "backup.kinds": ["dump"], "limits.lock_timeout_s": 1.0}
        record = shop.run(shop.sql(GOOD), settings, reporter=reporter)
        assert (record.outcome, record.exit_code) == (Outcome.FAILED_BEFORE, 5), record.error
        assert record.error is not None
        assert record.error.code == "lock_timeout", record.error
    assert shop.dump() == before
