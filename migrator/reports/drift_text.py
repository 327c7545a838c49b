"""Drift as people and programs read it."""

from __future__ import annotations

from migrator.plans.drift import Change, Difference, Drift
from migrator.reports import wording

_SIGNS = {Change.ADDED: "+", Change.MISSING: "-", Change.CHANGED: "~"}
_INDENT = "    "


def render(drift: Drift, *, of: str, against: str) -> str:
    """One paragraph an object: its sign and name, and the statements of both sides; a summary at the end."""
    lines: list[str] = []
    for one in drift.differences:
        lines += [f"{_SIGNS[one.change]} {wording.one_line(one.identity)}", *_statements(one), ""]
    return "\n".join([*lines, *_summary(drift, of, against)])


def as_json(drift: Drift) -> dict[str, object]:
    """`added`, `missing` and `changed`, each a list, and what was left out."""
    return {
        "drift": bool(drift),
        **{change.value: [_one(difference) for difference in drift.of(change)] for change in Change},
        "left_out": {"partitions": list(drift.partitions), "ignored": list(drift.ignored)},
    }


def _statements(one: Difference) -> list[str]:
    if one.change is Change.CHANGED:
        return [f"  {wording.visible(line[0])} {wording.visible(line[2:])}".rstrip() for line in one.diff]
    text = one.found if one.change is Change.ADDED else one.expected
    return [f"{_INDENT}{wording.visible(line)}".rstrip() for line in (text or "").splitlines()]


def _one(one: Difference) -> dict[str, object]:
    return {
        "object": one.identity,
        "table": one.table,
        "expected": one.expected,
        "found": one.found,
        "with": list(one.parts),
    }


def _summary(drift: Drift, of: str, against: str) -> list[str]:
    counts = [f"{len(drift.of(change))} {change.value}" for change in Change if drift.of(change)]
    verdict = f"drift: {', '.join(counts)}" if drift else "no drift"
    lines = [f"{of} compared with {against}", verdict]
    left_out = []
    if drift.partitions:
        left_out.append(f"{wording.count(len(drift.partitions), 'partition')} that one side alone has")
    if drift.ignored:
        left_out.append(f"{wording.count(len(drift.ignored), 'object')} by drift.ignore")
    if left_out:
        lines.append(f"left out: {', '.join(left_out)}")
    return lines
