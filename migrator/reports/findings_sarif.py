"""Findings as SARIF 2.1.0 (OASIS), as code scanning reads it: relative paths, stable fingerprints."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any
from urllib.parse import quote

from migrator import __version__
from migrator.plans.findings import Finding, Findings, Severity
from migrator.plans.findings.finder import KNOWN
from migrator.reports.wording import visible

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_LEVELS: Mapping[Severity, str] = MappingProxyType(
    {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "note"}
)
_PROBLEMS: Mapping[Severity, str] = MappingProxyType(
    {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "recommendation"}
)


def document(found: Findings, *, prefix: str = "") -> dict[str, Any]:
    """One SARIF log; `prefix` is what stands before a changelog's path in the repository."""
    switched_off = [(off.finding, (off.reason, off.by)) for off in found.switched_off]
    every = [*((one, None) for one in found.found), *switched_off]
    rules = list(dict.fromkeys(one.rule for one, _ in every))
    samples = {one.rule: one for one, _ in every}
    seen: Counter[str] = Counter()
    return {
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "migrator",
                        "semanticVersion": __version__,
                        "rules": [_rule(samples[rule]) for rule in rules],
                    }
                },
                "columnKind": "unicodeCodePoints",
                "results": [_result(one, off, rules, seen, prefix) for one, off in every],
            }
        ],
    }


def _rule(sample: Finding) -> dict[str, Any]:
    known = KNOWN.get(sample.rule)
    severity = known.severity if known is not None else sample.severity
    why, safer = (known.why, known.safer) if known is not None else (sample.why, sample.safer)
    short = known.finds if known is not None else sample.rule
    return {
        "id": sample.rule,
        "name": sample.rule.rpartition("/")[2],
        "shortDescription": {"text": visible(short)},
        "fullDescription": {"text": visible(why)},
        "help": {"text": visible(f"{why}\n\nSafer: {safer}"), "markdown": visible(f"{why}\n\n**Safer:** {safer}")},
        "defaultConfiguration": {"level": _LEVELS[severity]},
        "properties": {"tags": ["database", "migration"], "problem.severity": _PROBLEMS[severity]},
    }


def _result(
    one: Finding, off: tuple[str, str] | None, rules: Sequence[str], seen: Counter[str], prefix: str
) -> dict[str, Any]:
    result: dict[str, Any] = {
        "ruleId": one.rule,
        "ruleIndex": rules.index(one.rule),
        "level": _LEVELS[one.severity],
        "message": {"text": visible(f"{one.message}. {one.safer}")},
        "partialFingerprints": {"migratorFinding/v1": _fingerprint(one, seen)},
    }
    if one.rows_at_stake is not None:
        result["properties"] = {"rowsAtStake": one.rows_at_stake}
    location = _location(one, prefix)
    if location:
        result["locations"] = [location]
    if off is not None:
        reason, by = off
        kind = "inSource" if by == "changeset" else "external"
        result["suppressions"] = [{"kind": kind, "status": "accepted", "justification": visible(reason)}]
    return result


def _location(one: Finding, prefix: str) -> dict[str, Any]:
    location: dict[str, Any] = {}
    if one.file is not None:
        # Code scanning wants a line; the first stands for a whole file.
        location["physicalLocation"] = {
            "artifactLocation": {"uri": quote(f"{prefix}{one.file}"), "uriBaseId": "%SRCROOT%"},
            "region": {"startLine": one.line or 1},
        }
    if one.changeset is not None:
        location["logicalLocations"] = [{"fullyQualifiedName": visible(one.changeset), "kind": "changeset"}]
    return location


def _fingerprint(one: Finding, seen: Counter[str]) -> str:
    """The same as long as the changeset says the same, wherever in its file it stands."""
    key = "\0".join(one.identity)
    seen[key] += 1
    return hashlib.sha256(f"{key}\0{seen[key]}".encode()).hexdigest()
