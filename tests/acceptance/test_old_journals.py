"""What a released version has written down is still read, and its runs are still ended.

tests/data/formats/N holds what a migrator with journal version N wrote for a run that was killed in this state; how
such samples are made, and what to do when a test here fails, is told in tests/formats.py. Only what belongs to one run
(names, OIDs, times) is that of today; every name and shape is the stored one.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, Field

from migrator.backups import manifest
from migrator.config.login import Login
from migrator.runs import reconstruction
from migrator.runs.facts import Facts
from migrator.runs.journal_tables import SCHEMA_VERSION
from migrator.runs.record import RunRecord
from tests.acceptance.stage import Stage, crash_template, staged
from tests.conftest import Server
from tests.formats import CHANGES, FORMATS, SHAPE, STATES, bare, digest, journal_of, set_up, shape
from tests.sweep import moving

__all__ = ["crash_template"]

VERSIONS = sorted((folder.name for folder in FORMATS.iterdir() if folder.is_dir()), key=int)

_NAMED_BY_DATA = {
    "schema_before",
    "schema_after",
    "tables_before",
    "tables_after",
    "sequences",
    "sequences_after",
    "tables",  # of the server's counters
    "requires",
    "changelog_files",
    "versions",
    "outside",
    "columns",
    "changelog_parameters",
}


@pytest.fixture
def stage(server: Server, crash_template: Login, tmp_path: Path) -> Iterator[Stage]:
    with staged(server, crash_template, tmp_path) as made:
        yield made


def as_stored(stored: Any, now: Any, name: str = "") -> Any:
    """Today's values in the stored shape."""
    if isinstance(stored, dict) and isinstance(now, dict):
        if name in _NAMED_BY_DATA:
            shape = next(iter(stored.values()), None)
            return {key: as_stored(shape, value) for key, value in now.items()}
        return {key: as_stored(value, now[key], key) if key in now else value for key, value in stored.items()}
    if isinstance(stored, list) and isinstance(now, list) and stored:
        return [as_stored(stored[0], value) for value in now]
    return now


def samples() -> list[str]:
    return sorted(f"{file.parent.name}/{file.stem}" for file in FORMATS.glob("*/*.json") if file.stem != "manifest")


def stored_in(sample: str) -> dict[str, Any]:
    found = json.loads((FORMATS / f"{sample}.json").read_text(encoding="utf-8"))
    assert isinstance(found, dict)
    return found


def test_every_version_of_the_journal_is_kept() -> None:
    assert [str(number) for number in range(1, SCHEMA_VERSION + 1)] == VERSIONS
    assert samples() == sorted(f"{version}/{state}" for version in VERSIONS for state in STATES)


def test_no_shape_is_changed_without_a_word() -> None:
    """Fails when a field of the journal or of the manifest is added, dropped or becomes another."""
    now, noted = shape(), json.loads(SHAPE.read_text(encoding="utf-8"))
    last = json.loads(CHANGES.read_text(encoding="utf-8"))[-1]
    assert now == noted, "the shape has changed: see tests/formats.py for what to store and to say"
    assert last["shape"] == digest(now), "say why in changes.json, by python -m tests.formats --shape WHY"
    assert last["why"].strip()


def test_a_field_more_is_another_shape_and_another_description_is_not() -> None:
    class One(BaseModel):
        title: int = Field(default=0, description="one thing")

    class Reworded(BaseModel):
        title: int = Field(default=0, description="a thing")

    class More(One):
        other: int = 0

    one, reworded, more = (bare(model.model_json_schema()) for model in (One, Reworded, More))
    assert one == reworded
    assert one["properties"] == {"title": {"default": 0, "type": "integer"}}
    assert more["properties"].keys() == {"title", "other"}


@pytest.mark.parametrize("sample", samples())
def test_every_sample_is_read_as_it_is_stored(sample: str) -> None:
    stored = stored_in(sample)
    facts = Facts.model_validate(stored["facts"]).model_dump(mode="json")
    record = RunRecord.model_validate(stored["record"]).model_dump(mode="json")
    assert facts.keys() >= stored["facts"].keys(), "a field that was written is not known any more"
    assert record.keys() >= stored["record"].keys(), "a field that was written is not known any more"


@pytest.mark.slow
@pytest.mark.parametrize("sample", samples())
def test_journal_of_every_released_format_is_resumed(stage: Stage, sample: str) -> None:
    state = STATES[sample.partition("/")[2]]
    set_up(stage, state)
    run = stage.killed(state.moment, "run", *state.arguments)
    _write_as(stored_in(sample), journal_of(stage))
    stage.assert_blocked(run)
    answer = stage.migrator("resume", run)
    assert answer.code == state.code, answer.err
    if state.moves:
        moving.assert_moved(stage, mode="offline")
    if state.code == 0:
        stage.assert_migrated(kept=state.kept)
    else:
        stage.assert_as_it_was(restored="old" in state.kept)


def _write_as(stored: dict[str, Any], file: Path) -> None:
    """The journal is one that the version which wrote `stored` could have written."""
    with closing(sqlite3.connect(file)) as old:
        old.row_factory = sqlite3.Row
        tables = {
            name: [dict(row) for row in old.execute(f"select * from {name}")]
            for name in ("migrator_journal", "migrator_run", "migrator_step")
        }
        application_id = old.execute("pragma application_id").fetchone()[0]
    for left in file.parent.glob("journal.db*"):
        left.unlink()
    for row in tables["migrator_run"]:
        row["version"] = stored["written_by"]
        for column in ("record", "facts"):
            row[column] = json.dumps(as_stored(stored[column], json.loads(row[column])))
    tables["migrator_journal"] = [{"version": stored["journal_version"]}]
    with closing(sqlite3.connect(file)) as new, new:
        new.execute(f"pragma application_id = {application_id}")
        for statement in stored["tables"]:
            new.execute(statement)
        for name, rows in tables.items():
            known = [column[1] for column in new.execute(f"pragma table_info({name})")]
            for row in rows:
                values = [row[column] for column in known]
                new.execute(f"insert into {name} ({', '.join(known)}) values ({', '.join('?' * len(known))})", values)


@pytest.mark.parametrize("version", VERSIONS)
def test_manifest_of_every_released_format_is_read(version: str, tmp_path: Path) -> None:
    [stored] = json.loads((FORMATS / version / "manifest.json").read_text(encoding="utf-8"))
    folder = tmp_path / stored["id"]
    for file in stored["files"]:
        path = folder / file["path"]
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as out:
            out.truncate(file["size_bytes"])  # what is in it is for `verify`
    (folder / manifest.FILE_NAME).write_text(json.dumps(stored), encoding="utf-8")
    found = manifest.read(folder)
    facts = Facts()
    reconstruction.add_state(facts, found)
    assert found.id == stored["id"]
    assert facts.tables_before is not None
    assert facts.schema_before is not None
