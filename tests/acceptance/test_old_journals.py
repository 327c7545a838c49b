"""What a released version has written down is still read, and its runs are still ended.

tests/data/formats/N holds what the first migrator with journal version N wrote for a run that was killed in this
state. Only what belongs to one run (names, OIDs, times) is that of today; every name and shape is the stored one.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from migrator.backups import manifest
from migrator.config.login import Login
from migrator.runs import reconstruction
from migrator.runs.facts import Facts
from migrator.runs.journal_tables import SCHEMA_VERSION
from tests.acceptance.stage import Stage, crash_template, staged
from tests.conftest import Server

__all__ = ["crash_template"]

FORMATS = Path(__file__).parents[1] / "data" / "formats"
COMMIT = "after:migrator.liquibase.session:Liquibase.commit"
STATES = {
    "atomic": (("good.sql", "--way", "atomic"), "changeset:4:running", 0),
    "committed": (("good.sql", "--way", "atomic"), COMMIT, 0),
    "stepwise": (("good.sql", "--way", "stepwise"), "changeset:4:running", 6),
    "restoring": (("bad-without-rollback.sql", "--way", "stepwise"), "after:migrator.backups.dump:Dump.restore", 7),
}
_NAMED_BY_DATA = {
    "schema_before",
    "tables_before",
    "sequences",
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


def test_every_version_of_the_journal_is_kept() -> None:
    assert sorted(int(folder.name) for folder in FORMATS.iterdir()) == list(range(1, SCHEMA_VERSION + 1))


@pytest.mark.slow
@pytest.mark.parametrize("version", sorted(folder.name for folder in FORMATS.iterdir()))
@pytest.mark.parametrize("state", STATES)
def test_journal_of_every_released_format_is_resumed(stage: Stage, version: str, state: str) -> None:
    arguments, moment, code = STATES[state]
    stored = json.loads((FORMATS / version / f"{state}.json").read_text(encoding="utf-8"))
    run = stage.killed(moment, "run", *arguments)
    _write_as(stored, stage.folder / ".migrator" / "journal.db")
    stage.assert_blocked(run)
    answer = stage.migrator("resume", run)
    assert answer.code == code, answer.err
    if code == 0:
        stage.assert_migrated()
    else:
        stage.assert_as_it_was(restored=code == 7)


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


@pytest.mark.parametrize("version", sorted(folder.name for folder in FORMATS.iterdir()))
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
