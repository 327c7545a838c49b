"""A restore that the run cannot prove, or cannot finish, never gets the database's name: it halts, and says why."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import psycopg
import pytest

from migrator.postgres import fence
from migrator.runs import state
from migrator.runs.record import ChangesetRecord, Outcome, StepName
from migrator.runs.reporter import SilentReporter
from migrator.runs.run import Run
from tests.shop import Shop, conninfo

pytestmark = pytest.mark.slow

LOSES = "\ndelete from event where id % 2 = 0"
FAILS = "\nalter table product add constraint cheap check (price < 3)"


class At(SilentReporter):
    """Something is done once, when the changes are being made, or when the backup is being restored."""

    def __init__(self, moment: str, deed: Callable[[], object]) -> None:
        self._moment = moment
        self._deed = deed
        self._done = False

    def changeset(self, changeset: ChangesetRecord, number: int, total: int) -> None:
        self._reached("changing")

    def step_progress(self, name: StepName, text: str, done: float | None) -> None:
        self._reached(text.split(maxsplit=1)[0])

    def _reached(self, moment: str) -> None:
        if moment == self._moment and not self._done:
            self._done = True
            self._deed()


@pytest.fixture
def others() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def _damage(shop: Shop) -> None:
    [backup] = (shop.folder / "backups").iterdir()
    victim = max((backup / "dump").glob("*.dat*"), key=lambda path: path.stat().st_size)
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.write_bytes(data)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("a byte of the backup is flipped", "its content differs"),
        ("the copy differs", "public.orders has 1 row, had 2"),
        ("a superuser stays in the database", "pid {}"),
    ],
)
def test_a_restore_that_is_not_proven_halts_the_run(
    shop: Shop, others: ExitStack, monkeypatch: pytest.MonkeyPatch, how: str, said: str
) -> None:
    pids: list[int] = []

    def stays() -> None:
        pids.append(others.enter_context(psycopg.connect(conninfo(shop.superuser))).info.backend_pid)

    reporter = At("never", lambda: None)
    if how == "the copy differs":
        found = state.differences

        def differences(run: Run, database: str | None = None) -> list[str]:
            return found(run) if database is None else ["public.orders has 1 row, had 2"]

        monkeypatch.setattr(state, "differences", differences)
    elif how == "a byte of the backup is flipped":
        reporter = At("changing", lambda: _damage(shop))
    else:
        reporter = At("restoring", stays)
    oid, events = shop.oid(), shop.value("select count(*) from event")
    settings = {"way": "stepwise", "limits.drain_s": 3}
    record = shop.run(shop.sql(LOSES, FAILS), settings, reporter=reporter)
    others.close()
    assert (record.outcome, record.exit_code) == (Outcome.HALTED, 9), (record.error, record.warnings)
    told = record.model_dump_json()
    assert said.format(*pids) in told, record.warnings
    assert record.backups[0].id in told
    assert record.next_command is not None
    assert shop.oid() == oid, "nothing was swapped in"
    assert shop.value("select count(*) from event") == events // 2  # type: ignore[operator]
    assert shop.value("select count(*) from pg_database where datname = current_database()") == 1
    with shop.server.session() as admin:
        standing = fence.read(admin, shop.login.database)
    assert standing is not None, "maintenance stays on"
    assert standing.run_id == record.run_id
