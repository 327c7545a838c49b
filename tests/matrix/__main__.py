"""python -m tests.matrix: the tests that are evidence, for pytest; with --docs the table of docs/guarantees.md."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.matrix.rows import ROWS

PAGE = Path(__file__).parents[2] / "docs" / "guarantees.md"
BEGIN, END = "<!-- rows -->", "<!-- end of rows -->"


def table() -> str:
    """The rows as the page shows them, each with a place to link to."""
    lines = [
        "| row | what is done | what comes of it | shown by | and what that does not show |",
        "| --- | --- | --- | --- | --- |",
    ]
    for row in ROWS:
        files = ", ".join(f"`{file}`" for file in dict.fromkeys(one.partition("::")[0] for one in row.evidence))
        anchor = f'<a id="row-{row.key.lower()}"></a>{row.key}'
        lines.append(f"| {anchor} | {row.fault} | {row.expected} | {files or 'no test'} | {row.but} |")
    return "\n".join(lines)


def page() -> str:
    """The page with the table of today."""
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}\n\n{table()}\n\n{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    if sys.argv[1:] == ["--docs"]:
        PAGE.write_text(page(), encoding="utf-8")
    else:
        print("\n".join(sorted({f"tests/{test}" for row in ROWS for test in row.evidence})))
