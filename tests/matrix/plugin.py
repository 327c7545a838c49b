"""pytest -p tests.matrix.plugin: prints the matrix at the end, and writes it to build/matrix.md.

A row is as expected when every case of every test of it ran and passed, and only then.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.matrix import seen
from tests.matrix.rows import ROWS, Row

FILE = Path("build/matrix.md")
_HEAD = "| row | what was done | outcome expected | outcome seen | cases |\n| --- | --- | --- | --- | --- |"
_EVIDENCE = {test for row in ROWS for test in row.evidence}
_PROPERTY, _COLLECTED = "seen by the matrix", "collected for the matrix"


def _test(case: str) -> str:
    """The test as the rows name it, without its parameters."""
    return case.partition("[")[0].removeprefix("tests/")


@dataclass(kw_only=True)
class Shown:
    """All that pytest has told of cases, which are tests with their parameters."""

    collected: set[str] = field(default_factory=set)  # also those that were then left out
    outcomes: dict[str, str] = field(default_factory=dict)  # case -> passed, failed, skipped
    noted: dict[str, list[Sequence[str]]] = field(default_factory=dict)  # case -> what it saw

    def add(self, case: str, outcome: str, noted: list[Sequence[str]]) -> None:
        """Of setup, call and teardown the worst counts."""
        worst = max(self.outcomes.get(case, "passed"), outcome, key=("passed", "skipped", "failed").index)
        self.outcomes[case] = worst
        self.noted[case] = noted

    def cases(self, test: str) -> Mapping[str, str | None]:
        """Every case of the test, and None where it did not run."""
        known = sorted(case for case in self.collected | self.outcomes.keys() if _test(case) == test)
        return {case: self.outcomes.get(case) for case in known}


_shown = Shown()


def pytest_itemcollected(item: pytest.Item) -> None:
    if _test(item.nodeid) in _EVIDENCE:
        _shown.collected.add(item.nodeid)


def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput[_COLLECTED] = sorted(_shown.collected)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    _shown.collected.update(getattr(node, "workeroutput", {}).get(_COLLECTED, ()))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    seen.taken()  # what fixtures did is not what the test saw
    try:
        return (yield)
    finally:
        item.user_properties.append((_PROPERTY, seen.taken()))


def pytest_runtest_logreport(report: Any) -> None:
    if report.when == "call" or report.outcome != "passed":
        noted = [one for name, some in report.user_properties if name == _PROPERTY for one in some]
        _shown.add(report.nodeid, report.outcome, noted)


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
    outcome, cases = seen_of(row, _shown)
    return f"| {row.key} | {row.fault} | {row.expected} | {outcome} | {cases} |"


def seen_of(row: Row, shown: Shown) -> tuple[str, int]:
    """What was seen, and in how many cases that ran."""
    found = {test: shown.cases(test) for test in row.evidence}
    outcomes = [outcome for cases in found.values() for outcome in cases.values()]
    ran = outcomes.count("passed") + outcomes.count("failed")
    bad = [test for test, cases in found.items() if "failed" in cases.values()]
    if bad:
        return f"NOT as expected: {', '.join(bad)}", ran
    missing = [what for test, cases in found.items() for what in _not_shown(test, list(cases.values()))]
    told = seen.told(one for cases in found.values() for case in cases for one in shown.noted.get(case, ()))
    verdict = f"not shown: {'; '.join(missing) or 'no test'}" if missing or not found else "as expected"
    return verdict + (f" (seen: {told})" if told else ""), ran


def _not_shown(test: str, outcomes: list[str | None]) -> Iterator[str]:
    if not outcomes or None in outcomes:
        yield f"{test} not run" + (f" in {outcomes.count(None)} of {len(outcomes)} cases" if any(outcomes) else "")
    if "skipped" in outcomes:
        yield f"{test} skipped" + (
            f" in {outcomes.count('skipped')} of {len(outcomes)} cases" if len(outcomes) > 1 else ""
        )
