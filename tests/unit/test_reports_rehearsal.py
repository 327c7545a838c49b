from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from migrator.plans.attestation import Loss
from migrator.rehearsals.record import LegRecord, RehearsalRecord, RehearsedRecord
from migrator.reports import rehearsal

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def a_record(**changes: object) -> RehearsalRecord:
    record = RehearsalRecord(
        id="20261123t120000_ab12",
        environment="staging",
        database="postgresql://migrator@db:5432/shop",
        changelog="db/" + "a-very-long-name/" * 6 + "release.sql",
        source="clone",
        with_data=True,
        place="the target's own server (db:5432, PostgreSQL 18.4)",
        started_at=NOW,
        way="atomic",
        fallback="stepwise",
        copy_bytes=24_000_000,
        target_bytes=2_400_000_000,
        estimate_s=125.0,
        changesets=[
            RehearsedRecord(path="db/release.sql", id="1", author="kim", apply_s=1.25, rollback="restores"),
            RehearsedRecord(
                path="db/release.sql",
                id="2",
                author="kim",
                rollback="loses",
                losses=[Loss(what="public.orders", column="note", rows=7, how="is empty in 7 rows that had a value")],
            ),
        ],
        legs=[
            LegRecord(name="apply", run_id="r1", outcome="migrated", duration_s=3.0),
            LegRecord(name="roll back", run_id="r2", outcome="migrated", proven=["After it the copy is what it was."]),
            LegRecord(name="apply again", outcome="left out", note="| <b>`why`</b> \x1b[31m"),
        ],
        attestation_note="none was written: the rehearsal did not pass",
    )
    record.find("rollback_loses", "The rollback of 2 loses.", severity="error", hint="Keep the data.")
    return record.model_copy(update=changes)


def test_changesets_of_one_long_path_are_told_by_id_and_author() -> None:
    path = "changelogs/backfills/split-name/2-expand/changelog.sql"
    one = RehearsedRecord(path=path, id="parts-of-a-name", author="shop", apply_s=1.25, rollback="restores")
    other = one.model_copy(update={"id": "another-name"})
    shown = rehearsal.as_text(a_record(changesets=[one, other])).splitlines()
    assert [line.split()[0] for line in shown if "restores" in line] == ["parts-of-a-name::shop", "another-name::shop"]


def test_it_reads_at_80_columns_and_hides_nothing() -> None:
    text = rehearsal.as_text(a_record())
    assert max(map(len, text.splitlines())) <= 80
    assert text.startswith("Rehearsal failed: ")
    flat = " ".join(text.split())
    for words in (
        "public.orders.note: is empty in 7 rows that had a value",
        "atomic, or stepwise where that cannot be",
        "rolled back and verified",
        "about 2 min 05 s for all changesets, by the size of the tables of 2.4 GB",
        "none was written: the rehearsal did not pass",
    ):
        assert words in flat, words
    assert "\x1b" not in text


def test_what_is_to_be_copied_stands_on_one_line() -> None:
    path = "/srv/" + "deep/" * 30 + "attestation.json"
    assert any(line.endswith(path) for line in rehearsal.as_text(a_record(attestation=path)).splitlines())


def test_markdown_escapes_what_comes_from_outside() -> None:
    text = rehearsal.as_markdown(a_record())
    assert "<b>" not in text
    assert "| `2` |" not in text
    assert "\x1b" not in text
    assert "| `db/release.sql::2::kim` | `public.orders` | `note` | 7 |" in text


@pytest.mark.parametrize(
    ("changes", "headline"),
    [
        ({"passed": True}, "Rehearsal passed"),
        ({"passed": True, "changesets": []}, "Nothing to rehearse"),
        ({"passed": False}, "Rehearsal failed"),
    ],
)
def test_the_headline_says_what_it_came_to(changes: dict[str, object], headline: str) -> None:
    assert rehearsal.headline(a_record(**changes)) == headline


def test_both_files_are_written_and_the_json_reads_back(tmp_path: Path) -> None:
    record = a_record()
    paths = rehearsal.write(record, tmp_path)
    assert [path.name for path in paths] == ["rehearsal.json", "rehearsal.md"]
    assert RehearsalRecord.model_validate_json(paths[0].read_text()) == record
