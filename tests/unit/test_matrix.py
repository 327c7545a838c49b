"""Every row of the matrix has tests that exist, and the page on guarantees shows every row and links to real ones."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.matrix import seen
from tests.matrix.__main__ import PAGE, page
from tests.matrix.plugin import Shown, seen_of
from tests.matrix.rows import ROWS, Row

TESTS = Path(__file__).parents[1]


def test_every_evidence_is_a_test() -> None:
    missing = []
    for row in ROWS:
        for test in row.evidence:
            file, name = test.partition("::")[0], test.rpartition("::")[2]
            path = TESTS / file
            text = path.read_text(encoding="utf-8") if path.exists() else ""
            inner = "    " if test.count("::") == 2 else ""
            if not re.search(rf"^{inner}def {name}\(", text, re.MULTILINE) and not _is_in_a_harness(text, name):
                missing.append(f"{row.key}: {test}")
    assert missing == []


def _is_in_a_harness(text: str, name: str) -> bool:
    harness = (TESTS.parent / "migrator/testing/journal_harness.py").read_text(encoding="utf-8")
    return "JournalHarness" in text and f"def {name}(" in harness


def test_every_row_has_a_test_and_a_number_of_its_own() -> None:
    assert [row.key for row in ROWS if not row.evidence] == []
    keys = [row.key for row in ROWS]
    assert len(set(keys)) == len(keys)
    assert {str(number) for number in range(1, 48)} <= set(keys)


def test_the_page_shows_the_rows_of_today() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "write it anew: python -m tests.matrix --docs"


def test_every_promise_of_the_page_names_its_rows() -> None:
    text = PAGE.read_text(encoding="utf-8")
    known = {f"#row-{row.key.lower()}" for row in ROWS}
    linked = set(re.findall(r"\((#row-[^)]+)\)", text))
    assert linked <= known
    assert known - linked == set(), "rows that no sentence stands on"


def test_every_sentence_that_promises_stands_on_a_row() -> None:
    text = PAGE.read_text(encoding="utf-8")
    promised = text.partition("## What is promised\n")[2].partition("\n## ")[0]
    assert len(sentences(promised)) > 30
    assert [one for one in sentences(promised) if "](#row-" not in one] == []


def test_no_sentence_is_taken_for_a_part_of_its_neighbour() -> None:
    text = "**All is well.** It is ([1](#row-1)), after 1.5 s\ntoo, `a. b` even. Is it? So\n\nit seems ([2](#row-2))."
    assert sentences(text) == [
        "**All is well.**",
        "It is ([1](#row-1)), after 1.5 s too, `a. b` even.",
        "Is it?",
        "So",
        "it seems ([2](#row-2)).",
    ]


def sentences(text: str) -> list[str]:
    """A paragraph ends a sentence too; what stands between backticks does not."""
    code = re.compile(r"`[^`]*`")
    found = []
    for paragraph in text.strip().split("\n\n"):
        line = " ".join(paragraph.split())
        plain = code.sub(lambda match: "`" * len(match.group()), line)
        ends = [match.end() for match in re.finditer(r"[.!?](?:\*\*)?(?= (?:\*\*)?[A-Z`])", plain)]
        found += [line[begin:end].strip() for begin, end in zip([0, *ends], [*ends, len(line)], strict=True)]
    return found


ROW = Row(key="1", group="", fault="", expected="", evidence=("a.py::test_one", "a.py::test_two"))


def shown(**outcomes: str | None) -> Shown:
    """`one`, `two`: the cases of those tests, a letter each: p(assed), f(ailed), s(kipped), - for not run."""
    found = Shown()
    words = {"p": "passed", "f": "failed", "s": "skipped"}
    for name, letters in outcomes.items():
        for number, letter in enumerate(letters or ""):
            case = f"tests/a.py::test_{name}[{number}]"
            found.collected.add(case)
            if letter in words:
                found.add(case, words[letter], [("run", "6"), ("database", "what it was")])
    return found


def test_row_is_as_expected_when_every_case_ran_and_passed() -> None:
    assert seen_of(ROW, shown(one="pp", two="p")) == ("as expected (seen: run 6; database what it was)", 3)


@pytest.mark.parametrize(
    ("one", "two", "says", "ran"),
    [
        ("pp", "", "not shown: a.py::test_two not run", 2),
        ("pp", "-", "not shown: a.py::test_two not run", 2),
        ("p-", "p", "not shown: a.py::test_one not run in 1 of 2 cases", 2),
        ("p", "s", "not shown: a.py::test_two skipped", 1),
        ("ss", "s", "not shown: a.py::test_one skipped in 2 of 2 cases; a.py::test_two skipped", 0),
        ("ps", "-", "not shown: a.py::test_one skipped in 1 of 2 cases; a.py::test_two not run", 1),
        ("pf", "s", "NOT as expected: a.py::test_one", 2),
    ],
)
def test_row_of_which_a_case_did_not_run_is_not_shown(one: str, two: str, says: str, ran: int) -> None:
    saw = " (seen: run 6; database what it was)" if "NOT" not in says else ""
    assert seen_of(ROW, shown(one=one, two=two)) == (says + saw, ran)


def test_case_that_fails_as_it_is_taken_down_has_failed() -> None:
    found = shown(one="p", two="p")
    found.add("tests/a.py::test_one[0]", "failed", [])
    assert seen_of(ROW, found)[0] == "NOT as expected: a.py::test_one"


def test_what_was_seen_is_told_once_and_looking_is_not() -> None:
    seen.taken()
    seen.ended(["resume", "x"], 6)
    seen.ended(["python", "-m", "tests.acceptance.victim", "kill", "run", "good.sql"], -9)
    seen.ended(["run"], 10)
    seen.ended(["run"], 5)
    seen.ended(["status", "--json"], 0)
    seen.database("what it was")
    assert seen.told([*seen.taken(), ("resume", "6")]) == "run -9, 5, 10; resume 6; database what it was"
    assert seen.taken() == []
