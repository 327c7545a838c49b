"""What GitHub Actions is told of a run: within its limits, and nothing in a value that it would obey."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrator.reports import github, workflow_commands
from migrator.reports.github import GitHub
from migrator.reports.workflow_commands import Annotation
from migrator.runs.record import CheckRecord, Outcome, StepName
from migrator.runs.reporter import SilentReporter
from tests.unit.test_plan_view import a_full_plan
from tests.unit.test_reports_markdown import a_failed_run


def told(tmp_path: Path, **secrets: str) -> tuple[list[str], dict[str, str], str]:
    """The log's lines, the outputs and the summary of a failed run."""
    environ = {"GITHUB_OUTPUT": str(tmp_path / "output"), "GITHUB_STEP_SUMMARY": str(tmp_path / "summary")}
    stream = io.StringIO()
    reporter = GitHub(SilentReporter(), environ, secrets=secrets.values(), stream=stream)
    record = a_failed_run()
    reporter.started(record)
    reporter.step_started(StepName.LOCK, "lock")
    reporter.step_ended(StepName.LOCK, "done", 0.1, None)
    reporter.step_started(StepName.APPLY, "apply")
    reporter.finished(record, [tmp_path / "report.json", tmp_path / "report.html"])
    return stream.getvalue().splitlines(), read_outputs(tmp_path / "output"), (tmp_path / "summary").read_text()


def read_outputs(path: Path) -> dict[str, str]:
    """As the runner reads them."""
    found: dict[str, str] = {}
    lines = iter(path.read_text().splitlines())
    for line in lines:
        plain, sign, value_here = line.partition("=")
        if sign and "<<" not in plain:
            found[plain] = value_here
            continue
        name, _, end = line.partition("<<")
        value = []
        for text in lines:
            if text == end:
                break
            value.append(text)
        found[name] = "\n".join(value)
    return found


def test_secrets_are_masked_before_anything_else(tmp_path: Path) -> None:
    lines, _, _ = told(tmp_path, password="50%\nsecond line")
    assert lines[:2] == ["::add-mask::50%25", "::add-mask::second line"]


def test_every_group_is_closed(tmp_path: Path) -> None:
    lines, _, _ = told(tmp_path)
    groups = [line for line in lines if line.startswith(("::group", "::endgroup"))]
    assert groups == ["::group::lock", "::endgroup::", "::group::apply", "::endgroup::"]


def test_the_error_stands_at_its_file_and_line(tmp_path: Path) -> None:
    lines, _, _ = told(tmp_path)
    error = next(line for line in lines if line.startswith("::error"))
    assert error.startswith("::error file=changelogs/1.sql,line=12,title=Failed%2C and rolled back::")
    assert "%0AWhat to do: Remove the duplicate first.%0ANext: migrator run" in error


def test_outputs_and_summary(tmp_path: Path) -> None:
    _, outputs, summary = told(tmp_path)
    assert outputs == {
        "run-id": "20260301T120000-ab12",
        "outcome": "rolled_back",
        "exit-code": "6",
        "changesets-applied": "0",
        "backup": "b1",
        "rolled-back": "true",
        "maintenance": "off",
        "report": str(tmp_path / "report.html"),
        "next-command": "migrator run changelogs/1.sql --env staging",
    }
    assert "Failed, and rolled back" in summary.splitlines()[0] + summary.splitlines()[1] + summary.splitlines()[2]


def test_an_output_of_several_lines_sets_no_other_output(tmp_path: Path) -> None:
    path = tmp_path / "output"
    path.write_text(github.output("a", "one\nb=2\nb<<EOF\n3\nEOF") + github.output("c", "4"))
    assert read_outputs(path) == {"a": "one\nb=2\nb<<EOF\n3\nEOF", "c": "4"}


def test_the_ten_most_severe_are_shown_and_the_rest_counted() -> None:
    many = [Annotation(level="warning", title=str(n), message=str(n)) for n in range(25)]
    many += [Annotation(level="error", title=str(n), message=str(n)) for n in range(10)]
    lines = list(workflow_commands.commands(many))
    assert [line.startswith("::error") for line in lines] == [True] * 10 + [False] * 10
    assert lines[-1].endswith("::16 more warnings: see the report")


def test_failed_checks_are_seen_by_their_severity() -> None:
    record = a_failed_run()
    record.outcome, record.error = Outcome.MIGRATED, None
    record.checks = [
        CheckRecord(name="a", phase="after", success=False, severity="warning", detail="1 row"),
        CheckRecord(name="b", phase="after", success=False, detail="2 rows"),
        CheckRecord(name="c", phase="after", success=True),
    ]
    record.warnings = []
    found = [(one.level, one.title, one.message) for one in github.of_run(record)]
    assert found == [("warning", "a (after)", "1 row"), ("error", "b (after)", "2 rows")]


def test_a_plan_says_first_what_it_comes_to_and_folds_its_sql() -> None:
    plan = a_full_plan()
    told = github.of_plan(plan, 0)
    head, _, folded = told.summary.partition("<details>")
    assert head.startswith("# A run would be refused just now\n")
    assert "create table" not in head
    assert "create table a" in folded
    assert folded.rstrip().endswith("</details>")
    assert github.of_plan(plan, 2).summary.startswith("# 2 findings against this plan\n")
    clear = github.of_plan(plan.model_copy(update={"obstacles": ()}), 0)
    assert clear.summary.startswith("# 4 changesets would run\n")
    assert clear.outputs["changesets"] == "4"


@given(st.text(), st.text(), st.text())
def test_no_value_begins_another_command(title: str, message: str, file: str) -> None:
    line = workflow_commands.command(Annotation(level="error", title=title, message=message, file=file, line=3))
    assert "\n" not in line
    assert "\r" not in line
    properties, _, rest = line.removeprefix("::error ").partition("::")
    assert all(part.partition("=")[0] in {"file", "line", "title"} for part in properties.split(","))
    assert "%0A" in rest or "\n" not in message.strip("\n")


@pytest.mark.parametrize("size", [100, 3000, 20_000])
def test_a_summary_is_cut_at_a_line(size: int) -> None:
    text = "ä line of text\n" * 500
    found = github.cut(text, limit_bytes=size)
    assert len(found.encode()) <= max(size, 0)
    assert found == text or found.endswith("_The rest is in the report._\n")
    assert set(found.splitlines()) <= {"ä line of text", "", "_The rest is in the report._"}
