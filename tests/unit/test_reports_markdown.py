from __future__ import annotations

import itertools
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from migrator.reports import markdown
from migrator.reports.wording import one_line
from migrator.runs.record import (
    BackupRecord,
    ChangesetRecord,
    CheckRecord,
    ErrorRecord,
    MaintenanceRecord,
    Outcome,
    Proof,
    ProofLevel,
    RunRecord,
    StepName,
    StepRecord,
    TableRecord,
    Way,
)

STARTED = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
GITHUB = MarkdownIt("commonmark").enable(["table", "strikethrough"])
NASTY = [
    "a|b",
    "a\\|b",
    "`x`",
    "``",
    "\\",
    "<script>alert(1)</script>",
    "<!-- hidden -->",
    "&amp; &lt;",
    "*bold* _thin_ __x__ snake_case_name ~~gone~~",
    "[link](javascript:alert(1)) ![picture](x)",
    "# heading",
    "1. first",
    "- item",
    "+ item",
    "---",
    "> quoted",
    "@everybody #1 https://a.example www.a.example c.sql::id::kim",
    "line\nbreak | and\ttab",
    "\x1b[31mred\x1b[0m \u202ereversed",
    "| --- | --- |",
    "\u2028x\u0085y",
]


def a_failed_run() -> RunRecord:
    return RunRecord(
        run_id="20260301T120000-ab12",
        environment="staging",
        database="postgresql://migrator@db:5432/shop",
        changelog="changelogs/1.sql",
        started_at=STARTED,
        ended_at=STARTED + timedelta(seconds=31.4),
        outcome=Outcome.ROLLED_BACK,
        exit_code=6,
        way=Way.ATOMIC,
        way_reason="every pending changeset may run in a transaction",
        proof=Proof(level=ProofLevel.FULL, proven=["41 tables are what they were."], not_proven=["Sequences."]),
        steps=[
            StepRecord(name=StepName.LOCK, status="undone", started_at=STARTED, duration_s=0.1),
            StepRecord(
                name=StepName.BACK_UP, status="done", started_at=STARTED, duration_s=5.2, note="dump 312 MB, 41 tables"
            ),
        ],
        changesets=[
            ChangesetRecord(id="1", author="kim", path="changelogs/1.sql", status="rolled back", duration_s=0.3),
            ChangesetRecord(id="2|3", author="kim", path="changelogs/1.sql", status="failed"),
        ],
        backups=[
            BackupRecord(id="b1", kind="dump", location="backups/b1", size_bytes=312_000_000, duration_s=5.2),
        ],
        maintenance=MaintenanceRecord(
            mode="offline", started_at=STARTED, ended_at=STARTED + timedelta(seconds=12), downtime_s=12.0
        ),
        checks=[
            CheckRecord(name="orders: not null", phase="before", success=True, table="public.orders"),
            CheckRecord(name="checks/money.sql", phase="after", success=False, detail="was 10, is 9"),
        ],
        tables=[
            TableRecord(name="public.a", rows_before=1000, rows_after=1000, inserted=0, updated=0, deleted=0),
            TableRecord(name="public.z", rows_before=1000, rows_after=1200, inserted=200, updated=3, deleted=0),
        ],
        warnings=["Statistics are old."],
        error=ErrorRecord(
            code="migration",
            message="The changeset failed:\nERROR: duplicate key `x`",
            sqlstate="23505",
            changeset="changelogs/1.sql::2::kim",
            file="changelogs/1.sql",
            line=12,
            hint="Remove the duplicate first.",
        ),
        next_command="migrator run changelogs/1.sql --env staging",
    )


def cells(source: str) -> list[list[str]]:
    """What a reader sees in the rows of the only table of `source`."""
    rows: list[list[str]] = []
    for token in GITHUB.parse(source):
        if token.type == "tr_open":
            rows.append([])
        elif token.type == "inline":
            rows[-1].append(seen(token))
    return rows


def seen(token: Token) -> str:
    return "".join(child.content for child in token.children or [] if child.type in {"text", "code_inline"})


def paragraphs(source: str) -> list[str]:
    return [seen(token) for token in GITHUB.parse(source) if token.type == "inline"]


def headings(source: str) -> list[str]:
    tokens = GITHUB.parse(source)
    return [seen(after) for token, after in itertools.pairwise(tokens) if token.type == "heading_open"]


@pytest.mark.parametrize("value", NASTY)
@pytest.mark.parametrize("render", [markdown.text, markdown.code])
def test_any_value_is_read_as_it_is_in_a_table_and_in_a_list(value: str, render: type[str]) -> None:
    expected = one_line(value)
    assert cells(f"| a | b |\n| --- | --- |\n| {render(value)} | end |\n")[1] == [expected, "end"]
    tokens = GITHUB.parse(f"- {render(value)}\n")
    assert [token.type for token in tokens][:3] == ["bullet_list_open", "list_item_open", "paragraph_open"]
    assert paragraphs(f"- {render(value)}\n") == [expected]


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="ab1 \\|`*_[]()<>&#@:!~$-+=.\n", min_size=1, max_size=24).filter(lambda s: one_line(s) != ""))
@example("\\`|`\\")
def test_no_value_escapes_its_cell(value: str) -> None:
    for render in (markdown.text, markdown.code):
        found = cells(f"| a | b |\n| --- | --- |\n| {render(value)} | end |\n")
        assert found[1] == [one_line(value), "end"]


def test_nothing_that_github_would_link_or_notify_stands_in_the_text() -> None:
    shown = markdown.text("ask @everybody in #1, https://a.example, see c.sql::id::kim")
    assert "@everybody" not in shown
    assert "#1" not in shown
    assert "https://" not in shown
    assert ":id:" not in shown


def test_what_a_terminal_would_obey_is_not_in_the_report() -> None:
    record = a_failed_run()
    record.warnings = ["\x1b[2Jgone \u202eturned"]
    shown = markdown.render(record)
    assert "\x1b" not in shown
    assert "\u202e" not in shown


def test_a_block_of_code_holds_any_text() -> None:
    shown = markdown.block("one\n```\n````x\n# two")
    (token,) = GITHUB.parse("\n".join(shown))
    assert token.content == "one\n```\n````x\n# two\n"


def test_the_outcome_comes_first_and_everything_else_in_order() -> None:
    assert headings(markdown.render(a_failed_run())) == [
        "Failed, and rolled back",
        "What was proven (proof: full)",
        "What was not proven",
        "Next",
        "Steps",
        "Changesets: 1 rolled back, 1 failed",
        "Tables: 200 inserted, 3 updated, 0 deleted in 1 table, taken back",
        "Checks: 1 of 2 checks failed",
        "Backup",
        "Warnings",
        "Error",
    ]


def test_the_first_lines_say_what_became_of_the_database_and_why() -> None:
    shown = markdown.render(a_failed_run()).split("## ")[0]
    assert "**The database is proven to be what it was before the run.**" in shown
    assert "duplicate key" in shown
    assert "exit code 6" in shown
    assert "12.0 s (offline)" in shown


def test_failed_checks_and_written_tables_come_first() -> None:
    lines = markdown.render(a_failed_run()).splitlines()
    assert lines.index(next(line for line in lines if "checks/money.sql" in line)) < lines.index(
        next(line for line in lines if "orders: not null" in line)
    )
    assert lines.index(next(line for line in lines if "public.z" in line)) < lines.index(
        next(line for line in lines if "public.a" in line)
    )


def test_a_long_table_ends_and_says_where_the_rest_is() -> None:
    record = a_failed_run()
    record.tables = [TableRecord(name=f"public.t{number}") for number in range(5000)]
    shown = markdown.render(record)
    assert "4,800 more are in report.json." in shown
    assert shown.count("public.t") == 200


def test_a_run_that_did_nothing_is_a_short_report() -> None:
    record = RunRecord(
        run_id="r", environment="dev", database="d", changelog="c", started_at=STARTED, outcome=Outcome.NOTHING_TO_DO
    )
    shown = markdown.render(record)
    assert shown.startswith("# Nothing to do\n")
    assert "- Nothing." in shown
    assert "None was made." in shown


def test_every_outcome_has_its_words(tmp_path: Path) -> None:
    titles = set()
    for outcome in Outcome:
        record = a_failed_run()
        record.outcome = outcome
        titles.add(headings(markdown.render(record))[0])
    assert len(titles) == len(Outcome)


def test_the_file_is_private(tmp_path: Path) -> None:
    path = markdown.write(a_failed_run(), tmp_path / "run" / "report.md")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text() == markdown.render(a_failed_run())
