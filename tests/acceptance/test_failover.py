"""The server fails over to its replica while a run is at work: what was lost is never called a success."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from migrator.cli.boundary import FAIL_AT, FAIL_POINTS
from tests.acceptance.stage import Stage, ended, living_children, settled, staged, template
from tests.replica import Pair, pair
from tests.sweep.proof import PROGRAM

_COMES_SO_FAR_S = 120.0


@pytest.fixture
def made(tmp_path: Path) -> Iterator[tuple[Pair, Stage]]:
    (tmp_path / "template").mkdir()
    (tmp_path / "project").mkdir()
    with (
        pair() as servers,
        template(servers.server, tmp_path / "template") as copied,
        staged(servers.server, copied, tmp_path / "project") as stage,
    ):
        yield servers, stage


class Stalled:
    """A run that waits at these fail points, one after the other."""

    def __init__(self, stage: Stage, way: str, *places: str) -> None:
        self._stage, self._places = stage, list(places)
        fates = [f"stall={self._file(place)}@{place}" for place in places]
        self.process = subprocess.Popen(
            [str(PROGRAM), "run", "good.sql", "--way", way, *stage._common(("run",))],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, FAIL_POINTS: "enabled", FAIL_AT: ";".join(fates)},
        )

    def waits(self) -> None:
        reached = self._file(self._places[0]).with_name(self._file(self._places[0]).name + ".reached")
        settled(
            lambda: reached.exists() or self.process.poll() is not None,
            lambda: "it never came so far",
            within_s=_COMES_SO_FAR_S,
        )
        assert self.process.poll() is None, ended(self.process).err

    def go_on(self) -> None:
        place = self._file(self._places.pop(0))
        place.with_name(place.name + ".go").touch()

    def ended(self) -> tuple[int, str]:
        answer = ended(self.process, within_s=_COMES_SO_FAR_S)
        return answer.code, answer.err

    def _file(self, place: str) -> Path:
        return self._stage.folder / place.partition("#")[0].replace(".", "-")


def _end(stage: Stage) -> int:
    """The run that was left is resumed; the exit code of its end."""
    stage.children = living_children()
    status = stage.status()
    assert status["next_command"] == f"migrator resume {status['open_run']}"
    answer = stage.migrator("resume", status["open_run"])
    print(answer.err)
    return answer.code


@pytest.mark.slow
@pytest.mark.parametrize("way", ["atomic", "stepwise"])
def test_failover_before_the_commit_loses_nothing(made: tuple[Pair, Stage], way: str) -> None:
    servers, stage = made
    run = Stalled(stage, way, "update.before")
    run.waits()
    servers.catch_up()
    servers.fail_over()
    run.go_on()
    code, said = run.ended()
    assert code == 10, said
    code = _end(stage)
    if code == 0:
        stage.assert_migrated()
    else:
        assert code in {5, 6}
        stage.assert_as_it_was()


@pytest.mark.slow
@pytest.mark.parametrize("place", ["commit.after", "fence_down.before"])
def test_commit_that_the_replica_has_stays_a_success(made: tuple[Pair, Stage], place: str) -> None:
    servers, stage = made
    run = Stalled(stage, "atomic", place)
    run.waits()
    servers.catch_up()
    servers.fail_over()
    run.go_on()
    code, said = run.ended()
    assert code == 10, said
    assert _end(stage) == 0
    stage.assert_migrated()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("way", "since", "place"),
    [
        ("atomic", "commit.before", "commit.after"),
        ("atomic", "commit.before", "fence_down.before"),
        ("atomic", "commit.before", "fence_down.after"),
        ("stepwise", "update.before", "update.after"),
        ("stepwise", "update.before", "fence_down.after"),
    ],
)
def test_commit_that_is_lost_is_no_success(made: tuple[Pair, Stage], way: str, since: str, place: str) -> None:
    servers, stage = made
    run = Stalled(stage, way, since, place)
    run.waits()
    servers.catch_up()
    servers.cut_off()
    run.go_on()
    run.waits()
    servers.fail_over()
    run.go_on()
    code, said = run.ended()
    assert code == 10, said
    code = _end(stage)
    assert code in {5, 6}
    stage.assert_as_it_was()


@pytest.mark.slow
def test_lifted_fence_that_is_lost_is_lifted_again(made: tuple[Pair, Stage]) -> None:
    servers, stage = made
    run = Stalled(stage, "atomic", "fence_down.before", "fence_down.after")
    run.waits()
    servers.catch_up()
    servers.cut_off()
    run.go_on()
    run.waits()
    servers.fail_over()
    run.go_on()
    code, said = run.ended()
    assert code == 10, said
    assert _end(stage) == 0
    stage.assert_migrated()
