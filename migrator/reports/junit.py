"""`report.junit.xml`: changesets and checks as the test results that Jenkins, GitLab and others show."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from migrator.reports import files, verdict
from migrator.reports.wording import visible
from migrator.runs.record import RunRecord

_NOT_RUN = {"pending", "skipped", "running"}


def render(record: RunRecord) -> str:
    """One suite of changesets and one of checks for each phase; what was taken back or never ran counts as skipped."""
    suites = ElementTree.Element("testsuites", {"name": _text(f"{record.environment}: {record.changelog}")})
    _suite(suites, "changesets", _changesets(record))
    for phase in ("before", "after"):
        _suite(suites, f"checks {phase}", _checks(record, phase))
    ElementTree.indent(suites)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(suites, encoding="unicode") + "\n"


def write(record: RunRecord, path: Path) -> Path:
    """The file holds the results, mode 0600. Safe to repeat.

    Raises: StepFailed.
    """
    return files.write(path, render(record))


def _suite(suites: ElementTree.Element, name: str, cases: Iterator[ElementTree.Element]) -> None:
    found = list(cases)
    if not found:
        return
    numbers = {
        "tests": len(found),
        "failures": sum(case.find("failure") is not None for case in found),
        "skipped": sum(case.find("skipped") is not None for case in found),
    }
    suite = ElementTree.SubElement(suites, "testsuite", {"name": name, **{k: str(v) for k, v in numbers.items()}})
    suite.extend(found)


def _changesets(record: RunRecord) -> Iterator[ElementTree.Element]:
    for one in record.changesets:
        case = _case(f"{one.id} ({one.author})", one.path, one.duration_s)
        if one.status == "failed":
            message = " ".join(verdict.error_lines(record)) or "failed"
            ElementTree.SubElement(case, "failure", {"message": _text(message)}).text = _text(message)
        elif one.status in _NOT_RUN or one.status == "rolled_back":
            ElementTree.SubElement(case, "skipped", {"message": verdict.changeset_status(one)})
        yield case


def _checks(record: RunRecord, phase: str) -> Iterator[ElementTree.Element]:
    for one in record.checks:
        if one.phase != phase:
            continue
        case = _case(one.name, one.table or "database", one.duration_s)
        if not one.success and one.severity == "critical":
            seen = _text(one.detail or "does not hold")
            ElementTree.SubElement(case, "failure", {"message": seen}).text = seen
        elif not one.success:
            ElementTree.SubElement(case, "system-out").text = _text(f"{one.severity}: {one.detail or 'does not hold'}")
        yield case


def _case(name: str, place: str, duration_s: float | None) -> ElementTree.Element:
    case = ElementTree.Element("testcase", {"name": _text(name), "classname": _text(place)})
    if duration_s is not None:
        case.set("time", f"{duration_s:.3f}")
    return case


def _text(value: str) -> str:
    """What XML can hold, and a person can see."""
    return visible(value)
