"""Changesets and checks as test results: what failed fails, and what was taken back did not pass."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from migrator.reports import junit
from migrator.reports.wording import visible
from migrator.runs.record import ChangesetRecord, CheckRecord
from tests.unit.test_reports_markdown import NASTY, a_failed_run


def test_results_of_a_failed_run() -> None:
    record = a_failed_run()
    record.changesets = [
        ChangesetRecord(id="1", author="kim", path="a.sql", status="rolled_back", duration_s=0.25),
        ChangesetRecord(id="2", author="kim", path="a.sql", status="failed"),
        ChangesetRecord(id="3", author="kim", path="a.sql", status="pending"),
        ChangesetRecord(id="0", author="kim", path="a.sql", status="executed", duration_s=1.0),
    ]
    record.checks.append(CheckRecord(name="b", phase="after", success=False, severity="warning", detail="1 row"))
    suites = ElementTree.fromstring(junit.render(record))
    numbers = [(s.get("name"), s.get("tests"), s.get("failures"), s.get("skipped")) for s in suites]
    assert numbers == [("changesets", "4", "1", "2"), ("checks before", "1", "0", "0"), ("checks after", "2", "1", "0")]
    failure = suites.find(".//failure")
    assert failure is not None
    assert "duplicate key" in (failure.text or "")
    times = [case.get("time") for case in suites.iter("testcase")]
    assert times[0] == "0.250"


@pytest.mark.parametrize("value", [*NASTY, "\x00 \ud800 \x1b ]]> & <"])
def test_any_value_is_valid_xml(value: str) -> None:
    record = a_failed_run()
    record.changesets = [ChangesetRecord(id=value, author=value, path=value, status="failed")]
    record.checks = [CheckRecord(name=value, phase="after", success=False, detail=value, table=value)]
    suites = ElementTree.fromstring(junit.render(record))
    expected = " ".join(visible(value).split())
    assert expected in {" ".join((case.get("classname") or "").split()) for case in suites.iter("testcase")}
