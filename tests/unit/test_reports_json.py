from __future__ import annotations

import json
import os
import resource
import stat
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from migrator import reports
from migrator.errors import StepFailed
from migrator.reports import json_report
from migrator.runs.record import (
    BackupRecord,
    ChangesetRecord,
    CheckRecord,
    ErrorRecord,
    Outcome,
    RunRecord,
    StepName,
    StepRecord,
    TableRecord,
)

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def a_record() -> RunRecord:
    return RunRecord(
        run_id="20260301T120000-ab12",
        environment="staging",
        database="postgresql://migrator@db:5432/shop",
        changelog="changelogs/1.sql",
        started_at=NOW,
        outcome=Outcome.ROLLED_BACK,
        exit_code=6,
        steps=[StepRecord(name=StepName.APPLY, status="failed", started_at=NOW, duration_s=0.5)],
        changesets=[ChangesetRecord(id="1", author="kim", path="a.sql", status="failed")],
        backups=[BackupRecord(id="b", kind="dump", location="backups/b")],
        checks=[CheckRecord(name="c", phase="before", success=True)],
        tables=[TableRecord(name="public.orders")],
        error=ErrorRecord(code="migration", message="naïve ☃ \0 <&>"),
    )


def objects(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    yield "the report", schema
    yield from ((name, part) for name, part in schema["$defs"].items() if part.get("type") == "object")


def test_the_shipped_schema_is_that_of_the_record() -> None:
    shipped = json.loads(json_report.SCHEMA_FILE.read_text(encoding="utf-8"))
    assert shipped == json_report.schema(), (
        "report.schema.json is stale. Write it anew: python -c 'from migrator.reports import json_report as r; "
        'r.SCHEMA_FILE.write_text(r.render_schema(), encoding="utf-8")\''
    )


def test_every_field_is_documented_and_always_there() -> None:
    for name, part in objects(json_report.schema()):
        assert part["additionalProperties"] is False, name
        assert sorted(part["required"]) == sorted(part["properties"]), name
        for field, description in part["properties"].items():
            assert description.get("description"), f"{name}.{field}"


def test_the_fields_that_programs_rely_on_are_in_the_schema() -> None:
    schema = json_report.schema()
    assert set(schema["properties"]) >= {
        *("run_id", "environment", "changelog", "outcome", "exit_code", "way", "proof", "steps", "changesets"),
        *("backups", "maintenance", "checks", "write_set", "surprises", "tables", "error", "next_command"),
    }
    assert set(schema["$defs"]["Outcome"]["enum"]) == {
        *("migrated", "nothing_to_do", "refused", "locked", "failed_before", "rolled_back", "restored", "unfinished"),
        *("halted", "interrupted", "brought_back"),
    }
    assert set(schema["$defs"]["TableRecord"]["properties"]) == {
        *("name", "rows_before", "rows_after", "inserted", "updated", "deleted"),
    }


def test_a_report_has_every_field_of_its_schema_and_reads_back_as_it_was() -> None:
    record = a_record()
    found = json.loads(json_report.render(record))
    assert set(found) == set(json_report.schema()["required"])
    assert found["tables"] == [
        {
            "name": "public.orders",
            "rows_before": None,
            "rows_after": None,
            "inserted": None,
            "updated": None,
            "deleted": None,
        }
    ]
    assert RunRecord.model_validate(found) == record


def test_all_reports_are_written_private_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        paths = reports.write(a_record(), tmp_path / "runs" / "r1")
    finally:
        os.umask(before)
    assert [path.name for path in paths] == ["report.json", "report.md", "report.html", "report.junit.xml"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in paths} == {0o600}
    assert {path.name for path in paths[0].parent.iterdir()} == {path.name for path in paths}


def test_a_report_that_cannot_be_written_says_so_and_leaves_the_one_before(tmp_path: Path) -> None:
    path = json_report.write(a_record(), tmp_path / "report.json")
    before = path.read_text()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(StepFailed, match="could not be written") as caught:
            json_report.write(a_record(), path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.code == "report"
    assert str(tmp_path) in (caught.value.hint or "")
    assert path.read_text() == before
    assert [file.name for file in tmp_path.iterdir()] == ["report.json"]


def test_a_folder_that_is_a_file_is_a_readable_error(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("")
    with pytest.raises(StepFailed, match="runs"):
        reports.write(a_record(), tmp_path / "runs" / "r1")
