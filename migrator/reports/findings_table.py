"""Findings for a person: the worst first, why and the safer way once for each rule, what was switched off, the sum."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from migrator.plans.findings import Finding, Findings, Severity
from migrator.reports.wording import count, one_line

WIDTH = 80
_INDENT = " " * 9


def render(found: Findings, *, width: int = WIDTH, prefix: str = "") -> str:
    """The text; `prefix` is what stands before a changelog's path where the reader is."""
    return "\n".join(_lines(found, width, prefix))


def _lines(found: Findings, width: int, prefix: str) -> Iterator[str]:
    for one in found.found:
        yield f"{one.severity:<8} {_place(one, prefix)}  {one.rule}"
        yield from _wrapped(one.message, width)
    rules = {one.rule: one for one in found.found}
    if rules:
        yield ""
    for rule, one in rules.items():
        yield rule
        yield from _wrapped(f"why: {one.why}", width)
        yield from _wrapped(f"safer: {one.safer}", width)
    if found.switched_off:
        yield ""
        yield "switched off"
    for off in found.switched_off:
        yield f"{_INDENT}{_place(off.finding, prefix)}  {off.finding.rule}"
        yield from _wrapped(f"{off.reason} (by the {off.by})", width, indent=_INDENT + "  ")
    if found.found or found.switched_off:
        yield ""
    yield summary(found)


def summary(found: Findings) -> str:
    """`2 errors, 1 warning, 3 notes; 1 switched off; 14 old`, or `no findings`."""
    counts = [
        (found.count(Severity.ERROR), "error"),
        (found.count(Severity.WARNING), "warning"),
        (found.count(Severity.INFO), "note"),
    ]
    told = ", ".join(count(number, noun) for number, noun in counts if number) or "no findings"
    told += f"; {len(found.switched_off)} switched off" if found.switched_off else ""
    return told + (f"; {len(found.old)} old" if found.old else "")


def _place(one: Finding, prefix: str) -> str:
    return one_line(f"{prefix}{one.place}") if one.place else "migrator.toml"


def _wrapped(text: str, width: int, *, indent: str = _INDENT) -> list[str]:
    return textwrap.wrap(
        one_line(text), width, initial_indent=indent, subsequent_indent=indent, break_long_words=False
    ) or [indent.rstrip()]
