"""A rehearsal that is killed leaves the target untouched, and nothing that `clean` does not find."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from migrator.config.login import Login
from tests.acceptance.stage import Stage, crash_template, staged
from tests.conftest import Server

__all__ = ["crash_template"]


@pytest.fixture
def stage(server: Server, crash_template: Login, tmp_path: Path) -> Iterator[Stage]:
    with staged(server, crash_template, tmp_path) as made:
        yield made


@pytest.mark.slow
@pytest.mark.parametrize(
    "moment",
    ["ended:copy", "title:look", "progress:applying", "progress:undoing", "progress:apply", "progress:roll"],
)
def test_killed_rehearsal_leaves_only_what_clean_drops(stage: Stage, moment: str) -> None:
    answer = stage.victim(moment, "kill", "rehearse", "good.sql")
    assert answer.code == -signal.SIGKILL, answer.err
    assert [name.rsplit("_", 1)[1] for name in stage.databases()] == ["scratch"]
    cleaned = stage.migrator("clean", "--yes")
    assert cleaned.code == 0, cleaned.err
    assert stage.databases() == []
    stage.assert_as_it_was()


@pytest.mark.slow
@pytest.mark.parametrize("deed", ["int", "term"])
def test_interrupted_rehearsal_leaves_nothing(stage: Stage, deed: str) -> None:
    answer = stage.victim("progress:applying", deed, "rehearse", "good.sql")
    assert answer.code == 130, answer.err
    stage.assert_as_it_was()


@pytest.mark.slow
def test_rehearsal_tells_its_verdict_as_json(stage: Stage) -> None:
    answer = stage.migrator("rehearse", "good.sql", "--json")
    found = answer.json
    assert (answer.code, found["passed"], found["exit_code"]) == (3, False, 3), answer.err
    lost = {one["id"]: one["losses"] for one in found["changesets"]}
    assert "fill" in lost  # its rollback leaves the notes that it wrote; undoing `note` drops them
    assert [one["column"] for one in lost["fill"]] == ["note"]
    stage.assert_as_it_was()
