"""Every row of the matrix has tests that exist, and the page on guarantees shows every row and links to real ones."""

from __future__ import annotations

import re
from pathlib import Path

from tests.matrix.__main__ import PAGE, page
from tests.matrix.rows import ROWS

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
