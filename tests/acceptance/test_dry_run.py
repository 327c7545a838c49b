"""A dry run as its reader has it, and what is left when it is stopped or killed."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from migrator.config.login import Login
from tests.acceptance.stage import Stage, crash_template, settled, staged
from tests.conftest import Server

__all__ = ["crash_template"]

slow = pytest.mark.slow
LONG_S = 60.0
THIRD = "progress:3/4"  # the changeset `pause` is about to run


@pytest.fixture
def stage(server: Server, crash_template: Login, tmp_path: Path) -> Iterator[Stage]:
    with staged(server, crash_template, tmp_path) as made:
        yield made


def test_dry_run_reads_well_as_text_and_as_json(stage: Stage) -> None:
    answer = stage.migrator("dry-run", "good.sql", "--on", "clone", "--json")
    assert answer.code == 0, answer.err + answer.out
    told = answer.json
    assert [one["status"] for one in told["changesets"]] == ["executed"] * 4
    assert {check["name"] for check in told["checks"] if check["phase"] == "after"} == {"orders.sql", "orphans.sql"}
    folder = stage.folder / ".migrator" / "runs" / told["id"]
    assert (folder / "dry-run.json").exists()
    assert "What it did" not in (folder / "dry-run.md").read_text()
    stage.assert_as_it_was()


@slow
def test_failing_release_is_refused_with_its_place(stage: Stage) -> None:
    answer = stage.migrator("dry-run", "bad.sql", "--on", "target")
    assert answer.code == 3
    assert "bad.sql:" in answer.out
    assert "23514" in answer.out
    assert max(map(len, answer.out.splitlines())) <= 80
    stage.assert_as_it_was(drawn_from=True)


@slow
@pytest.mark.parametrize("on", ["schema", "clone", "target"])
@pytest.mark.parametrize("deed", ["int", "term-soon"])
def test_signal_leaves_nothing(stage: Stage, on: str, deed: str) -> None:
    stage.pause(LONG_S if deed == "term-soon" else 0)
    answer = stage.victim(THIRD, deed, "dry-run", "good.sql", "--on", on)
    assert answer.code == 130, answer.err
    stage.assert_as_it_was(drawn_from=on == "target")


@slow
@pytest.mark.parametrize("moment", ["started:copy", "ended:copy", THIRD])
def test_killed_dry_run_leaves_a_copy_that_the_next_one_drops(stage: Stage, moment: str) -> None:
    answer = stage.victim(moment, "kill", "dry-run", "good.sql", "--on", "clone")
    assert answer.code == -signal.SIGKILL, answer.err
    settled(lambda: not stage.sessions(), lambda: f"sessions of the dry run are left: {stage.sessions()}")
    cleaned = stage.migrator("clean", "--yes")
    assert cleaned.code == 0, cleaned.err
    stage.assert_as_it_was()


@slow
def test_dry_run_that_was_killed_on_the_target_has_changed_nothing_but_sequences(stage: Stage) -> None:
    answer = stage.victim(THIRD, "kill", "dry-run", "good.sql", "--on", "target")
    assert answer.code == -signal.SIGKILL, answer.err
    settled(lambda: not stage.sessions(), lambda: f"sessions of the dry run are left: {stage.sessions()}")
    now = stage.picture()
    assert (now.schema, now.rows) == (stage.pictured.schema, stage.pictured.rows)
    assert stage.databases() == []
