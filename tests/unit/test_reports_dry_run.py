"""A dry run as a person reads it: at 80 columns, with the numbers, whatever stands in the names."""

from __future__ import annotations

from datetime import UTC, datetime

from migrator.rehearsals.dry_run_record import (
    ChangedRows,
    DryRunRecord,
    RewrittenTable,
    TakenLock,
    TriedChangeset,
)
from migrator.reports import dry_run as report


def record(**fields: object) -> DryRunRecord:
    return DryRunRecord.model_validate(
        {
            "id": "20261123t175103_4f1c",
            "environment": "staging",
            "database": "postgresql://migrator@db:5432/shop",
            "changelog": "db/release.sql",
            "on": "clone",
            "place": "the target's own server (db:5432, PostgreSQL 18.4)",
            "durations_known": True,
            "started_at": datetime(2026, 11, 23, tzinfo=UTC),
            "way": "atomic",
            "way_reason": "every changeset may run in a transaction",
            "passed": True,
            "exit_code": 0,
            **fields,
        }
    )


def changeset(number: int, **fields: object) -> TriedChangeset:
    return TriedChangeset.model_validate(
        {"path": "db/release.sql", "id": str(number), "author": "ann", "status": "executed", **fields}
    )


def test_text_has_the_numbers_of_what_hurts() -> None:
    one = changeset(
        1,
        duration_s=62.0,
        locks=[
            TakenLock(relation="public.orders", mode="AccessExclusiveLock", keeps_out="everybody", held_s=75.0),
            TakenLock(relation="public.orders", mode="ShareLock", keeps_out="writers, DDL", held_s=75.0),
        ],
        rewritten=[
            RewrittenTable(
                table="public.orders", before_bytes=10, after_bytes=20, target_rows=1_000_000, target_bytes=65_000_000
            )
        ],
        rows=[ChangedRows(table="public.item", deleted=300, named=False)],
    )
    text = report.as_text(record(changesets=[one], apply_s=62.0, checks_s=13.0))
    told = " ".join(text.split())
    assert "public.orders: about 1,000,000 rows, 65 MB on the target" in told
    assert "public.orders ACCESS EXCLUSIVE: keeps out everybody, for 1 min 15 s" in told
    assert "SHARE:" not in told, "the stronger lock says it all"
    assert "public.item: 300 deleted (the changeset does not name it: a cascade or a trigger)" in told
    assert max(map(len, text.splitlines())) <= 80


def test_copy_without_rows_claims_no_seconds() -> None:
    told = record(on="schema", durations_known=False, changesets=[changeset(1)], wal_bytes=100, apply_s=None)
    text = report.as_text(told)
    assert "unknown" in text
    assert "WAL" not in text


def test_a_thousand_quiet_changesets_are_counted() -> None:
    text = report.as_text(record(changesets=[changeset(number) for number in range(1000)]))
    assert len(text.splitlines()) < 100
    assert "and 940 more" in text


def test_finding_says_its_place_once() -> None:
    told = record(passed=False, exit_code=3, changesets=[changeset(1, status="failed")])
    told.find("migration", "it failed (a.sql:3)", severity="error", hint="mend it").file = "a.sql"
    told.findings[0].line, told.findings[0].sqlstate = 3, "42P01"
    text = " ".join(report.as_text(told).split())
    assert "it failed (a.sql:3) [SQLSTATE 42P01] mend it" in text


def test_hostile_names_stay_on_their_line() -> None:
    one = changeset(1, id="x\x1b[31m\nforged", dropped=["public.a\nb"])
    for text in (report.as_text(record(changesets=[one])), report.as_markdown(record(changesets=[one]))):
        assert "\x1b" not in text
        assert "\nforged" not in text
        assert "\nb" not in text
