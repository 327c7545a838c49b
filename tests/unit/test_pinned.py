"""What a run was planned from is compared with what is there when it is executed."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest

from migrator.config.configuration import Config
from migrator.config.load import load
from migrator.config.models import Environment
from migrator.errors import StepFailed
from migrator.runs import pinned
from migrator.runs.facts import Facts
from migrator.runs.run import Run

MASTER = '<databaseChangeLog><includeAll path="parts"/></databaseChangeLog>'
PART = "--liquibase formatted sql\n--changeset ann:1\nselect 1;\n"


@dataclass
class Record:
    changelog: str = "master.xml"


@dataclass
class Asked:
    """As much of a run as is asked of it here."""

    config: Config
    environment: Environment
    parameters: dict[str, str] = field(default_factory=lambda: {"tenant": "one"})
    facts: Facts = field(default_factory=Facts)
    record: Record = field(default_factory=Record)
    id: str = "20261123t175103_4f1c"


@pytest.fixture
def asked(tmp_path: Path) -> Asked:
    (tmp_path / "master.xml").write_text(MASTER)
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "a.sql").write_text(PART)
    (tmp_path / "migrator.toml").write_text('[environments.shop]\nurl = "postgresql://migrator@db.internal/shop"\n')
    config = load(tmp_path / "migrator.toml", {})
    return Asked(config=config, environment=config.environment("shop"))


def remembered(asked: Asked) -> Run:
    run = cast("Run", asked)
    pinned.remember(run)
    return run


def test_what_did_not_change_passes_and_so_does_a_run_that_knows_no_digests(asked: Asked) -> None:
    pinned.require_unchanged(cast("Run", asked))
    pinned.require_unchanged(remembered(asked))


@pytest.mark.parametrize("edit", ["a.sql", "b.sql", None])
def test_a_file_that_changed_came_or_went_is_named(asked: Asked, tmp_path: Path, edit: str | None) -> None:
    run = remembered(asked)
    part = tmp_path / "parts" / (edit or "a.sql")
    if edit is None:
        part.unlink()
    else:
        part.write_text(PART.replace("select 1", "select 2").replace("ann:1", "ann:2"))
    with pytest.raises(StepFailed, match="parts" if edit is None else f"parts/{edit}") as failed:
        pinned.require_unchanged(run)
    assert failed.value.code == "changelog_changed"


def test_a_parameter_or_a_context_that_changed_is_named_without_its_value(asked: Asked) -> None:
    run = remembered(asked)
    asked.parameters = {"tenant": "secretive"}
    asked.environment = asked.environment.model_copy(update={"contexts": "all"})
    with pytest.raises(StepFailed, match=r"setting contexts, setting parameters\.tenant") as failed:
        pinned.require_unchanged(run)
    assert "secretive" not in f"{failed.value.message}{failed.value.hint}{asked.facts}"
