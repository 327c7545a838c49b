"""pytest -p tests.matrix.plugin: prints the matrix at the end, and writes it to build/matrix.md."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

from tests.matrix.rows import ROWS, Row

FILE = Path("build/matrix.md")
_HEAD = "| row | what was done | outcome expected | outcome seen | cases |\n| --- | --- | --- | --- | --- |"
_outcomes: dict[str, list[str]] = defaultdict(list)  # test without its parameters -> passed, failed, skipped


def pytest_runtest_logreport(report: Any) -> None:
    if report.when == "call" or report.outcome != "passed":
        _outcomes[report.nodeid.partition("[")[0].removeprefix("tests/")].append(report.outcome)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if hasattr(terminalreporter.config, "workerinput"):
        return
    lines = [_line(row) for row in ROWS]
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text("\n".join([_HEAD, *lines, ""]), encoding="utf-8")
    terminalreporter.section("the matrix")
    for line in lines:
        terminalreporter.write_line(line)
    terminalreporter.write_line(f"written to {FILE}")


def _line(row: Row) -> str:
    seen, cases = seen_of(row)
    return f"| {row.key} | {row.fault} | {row.expected} | {seen} | {cases} |"


def seen_of(row: Row) -> tuple[str, int]:
    """What was seen, and in how many cases."""
    if not row.evidence:
        return "no test", 0
    found = {test: _outcomes.get(test, []) for test in row.evidence}
    cases = [outcome for outcomes in found.values() for outcome in outcomes]
    bad = [test for test, outcomes in found.items() if "failed" in outcomes]
    missing = [test for test, outcomes in found.items() if not outcomes]
    skipped = cases.count("skipped")
    if bad:
        return f"NOT as expected: {', '.join(bad)}", len(cases)
    if not cases or len(missing) == len(found):
        return "not run", 0
    notes = [f"{len(missing)} of {len(found)} tests not run"] if missing else []
    notes += [f"{skipped} cases skipped"] if skipped else []
    return "as expected" + (f" ({', '.join(notes)})" if notes else ""), len(cases)
