from __future__ import annotations

import io
import os
import pty
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from migrator.reports.console import Console
from migrator.reports.verdict import Verdict, facts
from migrator.runs.record import (
    BackupRecord,
    ChangesetRecord,
    CheckRecord,
    ErrorRecord,
    MaintenanceRecord,
    Outcome,
    Proof,
    RunRecord,
    StepName,
    StepRecord,
)
from migrator.runs.reporter import Reporter

STARTED = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
COLOUR = re.compile(r"\x1b\[[0-9;]*3[0-79][0-9;]*m")
FILES = [Path("/srv/runs/r1/report.json")]


def a_record(outcome: Outcome = Outcome.MIGRATED) -> RunRecord:
    return RunRecord(
        run_id="r1",
        environment="staging",
        database="postgresql://migrator@db:5432/shop",
        changelog="changelogs/1.sql",
        started_at=STARTED,
        ended_at=STARTED + timedelta(seconds=95),
        outcome=outcome,
        exit_code=outcome.exit_code,
        proof=Proof(proven=["41 tables are what they were."], not_proven=["Sequences do not roll back."]),
        steps=[StepRecord(name=StepName.APPLY, status="done", started_at=STARTED, duration_s=1.0)],
        changesets=[ChangesetRecord(id="1", author="kim", path="changelogs/1.sql", status="executed")],
        backups=[BackupRecord(id="b1", kind="dump", location="backups/b1", size_bytes=312_000_000)],
        maintenance=MaintenanceRecord(
            mode="offline", started_at=STARTED, ended_at=STARTED + timedelta(seconds=65), downtime_s=65
        ),
        next_command="migrator show r1 --a-very-long-option-that-does-not-fit-into-eighty-columns=" + "x" * 40,
    )


def tell(console: Reporter, record: RunRecord) -> None:
    """A whole run, from the first line to the last."""
    console.started(record.model_copy(update={"steps": []}))
    console.step_started(StepName.BACK_UP, "back up")
    console.step_progress(StepName.BACK_UP, "dumping public.orders", 0.4)
    console.step_ended(StepName.BACK_UP, "done", 5.24, "dump 312 MB, 41 tables fingerprinted")
    console.step_started(StepName.APPLY, "apply")
    one = ChangesetRecord(id="1", author="kim", path="changelogs/1.sql", status="running")
    console.changeset(one, 1, 2)
    console.changeset(one.model_copy(update={"status": "executed", "duration_s": 0.3}), 1, 2)
    console.check(CheckRecord(name="orders.total", phase="after", success=True))
    console.check(CheckRecord(name="money.sql", phase="after", success=False, detail="was 10, is 9"))
    console.warning("Statistics are old.")
    console.step_ended(StepName.APPLY, "failed", 61.0, None)
    console.step_started(StepName.APPLY, "undo: apply")
    console.step_ended(StepName.APPLY, "undone", 0.1, "rolled back")
    console.finished(record, FILES)


def in_a_log(record: RunRecord, *, encoding: str = "utf-8", environ: dict[str, str] | None = None) -> str:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding)
    tell(Console(stream, environ=environ or {}), record)
    stream.flush()
    return raw.getvalue().decode(encoding)


@contextmanager
def terminal(written: list[bytes]) -> Iterator[io.TextIOWrapper]:
    """A stream that is a terminal; what was written to it is in `written` afterwards."""
    ours, theirs = pty.openpty()

    def read() -> None:
        try:
            while chunk := os.read(ours, 65536):
                written.append(chunk)
        except OSError:
            return

    reader = threading.Thread(target=read)
    reader.start()
    try:
        with open(theirs, "w", encoding="utf-8") as stream:
            yield stream
    finally:
        reader.join(timeout=30)
        os.close(ours)


def on_a_terminal(record: RunRecord, **environ: str) -> str:
    written: list[bytes] = []
    with terminal(written) as stream:
        tell(Console(stream, environ={"TERM": "xterm-256color", "COLUMNS": "80", **environ}), record)
    return b"".join(written).decode().replace("\r\n", "\n")


def settled(shown: str) -> list[str]:
    """The lines that stay on the screen, without colours: what a terminal makes of going up and erasing."""
    lines, row = [""], 0
    for part in re.findall(r"\x1b\[[0-9;?]*[a-zA-Z]|\n|\r|[^\x1b\n\r]+", shown):
        if part == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif part == "\r" or part == "\x1b[2K":
            lines[row] = ""  # what follows is always longer, or the line was erased
        elif part.startswith("\x1b["):
            row -= int(part[2:-1] or 1) if part.endswith("A") else 0
        else:
            lines[row] += part
    return [line.rstrip() for line in lines]


def test_a_log_has_one_whole_line_an_event_and_nothing_that_a_terminal_obeys() -> None:
    shown = in_a_log(a_record())
    lines = shown.splitlines()
    assert "\x1b" not in shown
    assert "\r" not in shown
    assert "✓ back up                     5.2 s  dump 312 MB, 41 tables fingerprinted" in lines
    assert "✗ apply                  1 min 01 s  failed" in lines
    assert "↶ undo: apply                 0.1 s  rolled back" in lines
    assert "  ✓ 1/2 changelogs/1.sql::1::kim  0.3 s" in lines
    assert "  ✗ check money.sql (after, critical): was 10, is 9" in lines
    assert "  ! Statistics are old." in lines
    assert not any("orders.total" in line for line in lines)


def test_the_story_is_told_in_the_order_of_its_steps_and_the_verdict_comes_last() -> None:
    shown = in_a_log(a_record())
    places = [shown.index(word) for word in ("run r1", "back up", "apply", "undo", "Migrated and verified", "next")]
    assert places == sorted(places)


def test_the_next_command_is_the_last_line_and_is_not_broken() -> None:
    record = a_record()
    for shown in (in_a_log(record), "\n".join(settled(on_a_terminal(record)))):
        assert shown.rstrip().splitlines()[-1].endswith(f" {record.next_command}")
        assert f" {FILES[0]}" in shown


def test_what_does_not_fit_an_encoding_is_written_in_ascii() -> None:
    record = a_record()
    record.warnings = ["naïve ☃"]
    shown = in_a_log(record, encoding="ascii")
    assert "+ back up" in shown
    assert "x apply" in shown
    assert "na?ve ?" in shown
    shown.encode("ascii")


def test_a_terminal_shows_the_running_step_and_leaves_its_end_only() -> None:
    shown = on_a_terminal(a_record())
    assert re.search(r"[⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏]", shown)
    assert "40%" in shown or "dumping public.orders" in shown
    lines = settled(shown)
    assert "✓ back up                     5.2 s  dump 312 MB, 41 tables fingerprinted" in lines
    assert not any("dumping" in line for line in lines)
    assert shown.rindex("\x1b[?25h") > shown.rfind("\x1b[?25l")  # the cursor is there at the end


def test_nothing_is_wider_than_eighty_columns_on_a_terminal_but_what_is_to_be_copied() -> None:
    record = a_record(Outcome.HALTED)
    record.proof.not_proven = ["Every word of this long sentence has to fit between the borders of the panel. " * 3]
    record.error = ErrorRecord(code="x", message="y" * 200, hint="z " * 100)
    lines = settled(on_a_terminal(record))
    assert max(len(line) for line in lines if record.next_command not in line) <= 80
    assert "y" * 200 in "".join(re.sub(r"[│ ]|error", "", line) for line in lines)


@pytest.mark.parametrize(
    ("outcome", "code"),
    [(Outcome.MIGRATED, "32"), (Outcome.ROLLED_BACK, "33"), (Outcome.RESTORED, "33"), (Outcome.HALTED, "31")],
)
def test_colour_is_for_the_verdict_only(outcome: Outcome, code: str) -> None:
    shown = on_a_terminal(a_record(outcome))
    story, verdict = shown.split("╭", 1)[0], shown.split("╭", 1)[1]
    assert COLOUR.findall(story.removesuffix(f"\x1b[{code}m")) == []
    assert {re.sub(r"\x1b\[(?:1;)?(\d+)m", r"\1", found) for found in COLOUR.findall(verdict)} == {code}


def test_no_color_is_honoured() -> None:
    assert COLOUR.findall(on_a_terminal(a_record(), NO_COLOR="1")) == []


def test_a_path_longer_than_the_line_stays_whole_and_behind_its_label() -> None:
    path = f"changelogs/{'deeper/' * 10}changelog.sql::1::kim"
    record = a_record(Outcome.REFUSED).model_copy(update={"error": ErrorRecord(code="x", message=f"{path} is not so")})
    assert f"  error          {path}\n" in in_a_log(record)


def test_a_dumb_terminal_gets_plain_lines() -> None:
    shown = on_a_terminal(a_record(), TERM="dumb")
    assert "╭" not in shown
    assert "\x1b[2K" not in shown
    assert "Migrated and verified" in shown


def test_a_stream_that_is_gone_does_not_end_the_run() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    broken = open(writing, "w", encoding="utf-8")  # noqa: SIM115 - closing it fails, which is the point
    tell(Console(broken, environ={}), a_record())
    with pytest.raises(BrokenPipeError):
        broken.close()
    closed = io.StringIO()
    closed.close()
    tell(Console(closed, environ={}), a_record())


def test_text_from_outside_cannot_steer_the_terminal_or_be_taken_for_markup() -> None:
    record = a_record(Outcome.ROLLED_BACK)
    record.error = ErrorRecord(code="x", message="\x1b]0;title\x07\x1b[2J [bold]not markup[/bold] :smile: \u202e")
    record.changelog = "a\x1b[31m.sql"
    record.next_command = "migrator \x1b[31mrun"
    shown = in_a_log(record)
    assert "\x1b" not in shown
    assert "\x07" not in shown
    assert "\u202e" not in shown
    assert "[bold]not markup[/bold] :smile:" in shown


def test_a_long_changelog_keeps_its_failures_on_the_screen_only() -> None:
    stream = io.StringIO()
    console = Console(stream, environ={})
    console.step_started(StepName.APPLY, "apply")
    for number in range(1, 501):
        status = "failed" if number == 500 else "executed"
        console.changeset(ChangesetRecord(id=str(number), author="kim", path="a.sql", status=status), number, 500)
    lines = [line for line in stream.getvalue().splitlines() if "a.sql" in line]
    assert lines == ["  ✗ 500/500 a.sql::500::kim  failed"]


def test_a_log_hears_of_progress_now_and_then() -> None:
    now = [0.0]
    stream = io.StringIO()
    console = Console(stream, environ={}, clock=lambda: now[0])
    console.step_started(StepName.BACK_UP, "back up")
    for second in range(60):
        now[0] = float(second)
        console.step_progress(StepName.BACK_UP, f"table {second}", second / 60)
        console.step_progress(StepName.VERIFY, "another step", None)
    lines = [line.strip() for line in stream.getvalue().splitlines()[1:]]
    assert lines == [f"… {second / 60:.0%} table {second}" for second in (10, 20, 30, 40, 50)]


def test_events_from_several_threads_do_not_mix_their_lines() -> None:
    written: list[bytes] = []
    with terminal(written) as stream, Console(stream, environ={"TERM": "xterm", "COLUMNS": "80"}) as console:
        console.step_started(StepName.APPLY, "apply")

        def warn(name: str) -> None:
            for number in range(20):
                console.warning(f"{name} {number} says this whole sentence")
                console.step_progress(StepName.APPLY, name, number / 20)

        threads = [threading.Thread(target=warn, args=(name,)) for name in ("one", "two", "three")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=30)
    lines = settled(b"".join(written).decode().replace("\r\n", "\n"))
    assert sum(bool(re.fullmatch(r"  ! (one|two|three) \d+ says this whole sentence", line)) for line in lines) == 60


@pytest.mark.parametrize("outcome", list(Outcome))
def test_every_outcome_says_first_what_became_of_the_database(outcome: Outcome) -> None:
    found = Verdict.of(a_record(outcome))
    assert found.headline
    assert "database" in found.database
    assert "still on" not in found.database
    lines = in_a_log(a_record(outcome)).splitlines()
    assert lines[lines.index(found.headline) + 1].split()[0] == found.database.split()[0]


@pytest.mark.parametrize("outcome", [Outcome.HALTED, Outcome.INTERRUPTED, Outcome.UNFINISHED])
def test_maintenance_that_is_still_on_is_said(outcome: Outcome) -> None:
    record = a_record(outcome)
    record.maintenance = MaintenanceRecord(mode="offline", started_at=STARTED)
    assert Verdict.of(record).database.endswith("Maintenance (offline) is still on.")
    assert dict(facts(record))["downtime"] == ["since 2026-03-01 12:00:00 UTC (offline), still on"]


def test_a_run_that_another_unfinished_one_stopped_says_that_it_did_nothing() -> None:
    record = a_record(Outcome.INTERRUPTED)
    record.steps = [StepRecord(name=StepName.LOCK, status="failed", started_at=STARTED)]
    record.maintenance = MaintenanceRecord(mode="none")
    record.error = ErrorRecord(code="unfinished", message="Run r0 has not ended.")
    found = Verdict.of(record)
    assert found.headline == "An earlier run has not ended"
    assert found.database == "This run did not touch the database."


def test_a_run_without_a_backup_says_so() -> None:
    record = a_record()
    record.backups = []
    assert dict(facts(record))["backup"] == ["none was made"]


def test_an_error_that_names_its_place_names_it_once() -> None:
    record = a_record(Outcome.ROLLED_BACK)
    record.error = ErrorRecord(
        code="migration",
        message="changeset a.sql::1::kim (a.sql:7): ERROR: no (SQLSTATE 23514)",
        sqlstate="23514",
        changeset="a.sql::1::kim",
        file="a.sql",
        line=7,
    )
    assert dict(facts(record))["error"] == [record.error.message]
    record.error.message = "no"
    assert dict(facts(record))["error"] == ["no", "at changeset a.sql::1::kim, a.sql:7, SQLSTATE 23514"]
