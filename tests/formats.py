"""The stored samples of what runs write down, in tests/data/formats, and the shape that they are samples of.

python -m tests.formats --sample STATE ...    kills a run in each state, and stores its journal beside the samples
python -m tests.formats --shape 'WHY'         notes today's shape, and why older migrators' journals are still read

When a field of the journal or the manifest changes, a test fails until the shape is noted anew. Say in WHY which sample
was stored for it, or why none is needed: a new field with a default reads as that in every stored sample. Never replace
a sample that a release has written: name another one (STATES), or another version (SCHEMA_VERSION).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

import migrator
from migrator.backups.records import Manifest
from migrator.runs.facts import Facts
from migrator.runs.journal_tables import SCHEMA_VERSION, metadata
from migrator.runs.record import RunRecord
from tests.acceptance.stage import Stage, staged
from tests.sweep import moving
from tests.sweep.__main__ import grounds

FORMATS = Path(__file__).parent / "data" / "formats"
SHAPE, CHANGES = FORMATS / "shape.json", FORMATS / "changes.json"


@dataclass(frozen=True, kw_only=True)
class State:
    """A run that was killed at a moment, and how its resume ends."""

    arguments: tuple[str, ...]
    moment: str
    code: int
    kept: tuple[str, ...] = ()  # which other database of the run is there in the end

    @property
    def moves(self) -> bool:
        return moving.CHANGELOG in self.arguments


_GOOD, _BAD = "good.sql", "bad-without-rollback.sql"
STATES = {
    "atomic": State(arguments=(_GOOD, "--way", "atomic"), moment="changeset:4:running", code=0),
    "committed": State(
        arguments=(_GOOD, "--way", "atomic"), moment="after:migrator.liquibase.session:Liquibase.commit", code=0
    ),
    "stepwise": State(arguments=(_GOOD, "--way", "stepwise"), moment="changeset:4:running", code=6),
    "restoring": State(
        arguments=(_BAD, "--way", "stepwise"), moment="after:migrator.backups.dump:Dump.restore", code=7, kept=("old",)
    ),
    "restored": State(
        arguments=(_BAD, "--way", "stepwise"),
        moment="after:migrator.runs.restore:databases.swap",
        code=7,
        kept=("old",),
    ),
    "bluegreen": State(arguments=(_GOOD, "--way", "bluegreen"), moment="changeset:4:running", code=0, kept=("old",)),
    "swapped": State(
        arguments=(_GOOD, "--way", "bluegreen"),
        moment="after:migrator.runs.bluegreen:databases.swap",
        code=0,
        kept=("old",),
    ),
    "moving": State(arguments=(moving.CHANGELOG, "--way", "stepwise"), moment="progress:backfill", code=0),
}


def set_up(stage: Stage, state: State) -> None:
    if state.moves:
        moving.set_up(stage, outcome="moved", mode="offline")


def journal_of(stage: Stage) -> Path:
    return stage.folder / ".migrator" / "journal.db"


def shape() -> dict[str, Any]:
    """Names, types and defaults of all that is written down; what they mean is left out."""
    found = {
        "journal": {
            table.name: {column.name: str(column.type) for column in table.columns} for table in metadata.sorted_tables
        }
    }
    models: dict[str, type[BaseModel]] = {"facts": Facts, "record": RunRecord, "manifest": Manifest}
    return found | {name: bare(model.model_json_schema()) for name, model in models.items()}


def digest(of: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(of, sort_keys=True).encode()).hexdigest()


def bare(schema: Any) -> Any:
    if isinstance(schema, list):
        return [bare(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        name: {key: bare(one) for key, one in value.items()} if name in {"properties", "$defs"} else bare(value)
        for name, value in schema.items()
        if name in {"properties", "$defs"} or not (name in {"title", "description"} and isinstance(value, str))
    }


def note_shape(why: str) -> None:
    now = shape()
    changes = json.loads(CHANGES.read_text(encoding="utf-8")) if CHANGES.exists() else []
    changes.append({"shape": digest(now), "why": why})
    SHAPE.write_text(json.dumps(now, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    CHANGES.write_text(json.dumps(changes, indent=1) + "\n", encoding="utf-8")


def store(names: list[str]) -> None:
    folder = FORMATS / str(SCHEMA_VERSION)
    folder.mkdir(exist_ok=True)
    with grounds() as ground:
        for name in names:
            state, place = STATES[name], ground.folder / name
            place.mkdir()
            with staged(ground.server, ground.template, place) as stage:
                set_up(stage, state)
                stage.killed(state.moment, "run", *state.arguments)
                text = json.dumps(_journal(journal_of(stage)), indent=1).replace(str(stage.folder), "/srv/shop")
            with (folder / f"{name}.json").open("x", encoding="utf-8") as out:  # a stored one is never replaced
                out.write(text + "\n")
            print(f"{name}: {folder / name}.json")


def _journal(file: Path) -> dict[str, Any]:
    with closing(sqlite3.connect(file)) as journal:
        [(version,)] = journal.execute("select version from migrator_journal").fetchall()
        [(record, facts)] = journal.execute("select record, facts from migrator_run").fetchall()
        tables = [text for (text,) in journal.execute("select sql from sqlite_master where sql is not null")]
    return {
        "written_by": migrator.__version__,
        "journal_version": version,
        "tables": tables,
        "record": json.loads(record),
        "facts": json.loads(facts),
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.formats", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sample", nargs="+", choices=list(STATES), default=[], metavar="STATE")
    parser.add_argument("--shape", metavar="WHY", default="")
    asked = parser.parse_args()
    if asked.sample:
        store(asked.sample)
    if asked.shape:
        note_shape(asked.shape)


if __name__ == "__main__":
    main()
