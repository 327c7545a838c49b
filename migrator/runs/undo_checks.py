"""The checks of a rollback: the same rules, asked of a database that is taken back.

A rule that only looks after a migration speaks of what is taken away: it is not asked. Every other rule is asked at
both ends. What is wrong already is often why somebody rolls back, so it is told and refuses nothing. What held before
and does not hold afterwards fails the rollback, save where undoing changesets may rightly do that:
- a rule that names a table or column which is gone with them does not apply any more;
- an `unchanged` value of a table that they name may change with them.
Both are told. A rule that stands in the way all the same can be left out with --set checks.invariants=[] or suites=[].
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from migrator.checks import rules
from migrator.checks.results import CheckResult, failures
from migrator.checks.suites import PHASES, Suite
from migrator.plans import impact
from migrator.postgres import schema_fingerprint
from migrator.postgres.schema_fingerprint import SchemaFingerprint
from migrator.postgres.session import Session
from migrator.runs.run import Run


def of_rules(found: Iterable[rules.Invariant]) -> list[rules.Invariant]:
    """The invariants that are asked at both ends of a rollback."""
    return [replace(rule, when=frozenset(PHASES)) for rule in found if "before" in rule.when]


def of_suites(found: Iterable[Suite]) -> list[Suite]:
    """The suites that are asked at both ends of a rollback."""
    return [replace(suite, when=frozenset(PHASES)) for suite in found if "before" in suite.when]


def decisive(
    run: Run,
    session: Session,
    results: Sequence[CheckResult],
    *,
    invariants: Sequence[rules.Invariant],
    suites: Sequence[Suite],
) -> list[CheckResult]:
    """The failures that undoing the changesets does not excuse; of the others the report tells why they count not.

    `results` are those of the phase after, `session` sees the database without the changesets.
    """
    failed = failures(results)
    if not failed:
        return []
    held = {check.name for check in run.record.checks if check.phase == "before" and check.success}
    words = {rule.name: impact.identifiers(rule.sql) for rule in invariants}
    words |= {label: _words(suite) for suite in suites for label in suite.labels}
    unchanged = {rule.name for rule in invariants if rule.kind is rules.Kind.UNCHANGED}
    gone = _gone(run, session)
    counts = []
    for result in failed:
        excuse = _excuse(run, result, held=result.name in held, words=words, gone=gone, unchanged=unchanged)
        if excuse is None:
            counts.append(result)
        else:
            run.warn(
                f"Check {result.name} does not hold after the rollback ({result.detail or 'no detail'}): {excuse}."
            )
    return counts


def _excuse(
    run: Run,
    result: CheckResult,
    *,
    held: bool,
    words: Mapping[str, set[str]],
    gone: frozenset[str],
    unchanged: frozenset[str] | set[str],
) -> str | None:
    if not held:
        return "it did not hold before either"
    named = words.get(result.name, set())
    if named & gone:
        return f"it speaks of {min(named & gone)}, which is gone with the changesets"
    if result.name in unchanged and impact.named_in(named, run.relations) & set(run.facts.named):
        return "it reads a table that the undone changesets name"
    return None


def _gone(run: Run, session: Session) -> frozenset[str]:
    """The bare names of the tables, views and columns that are there no more."""
    before = SchemaFingerprint(objects=run.facts.schema_before or {})
    removed = before.diff(schema_fingerprint.of_schema(session)).removed
    return frozenset(impact.bare(identity.partition(" ")[2]) for identity in removed if _is_nameable(identity, removed))


def _is_nameable(identity: str, removed: Iterable[str]) -> bool:
    kind, _, name = identity.partition(" ")
    if kind != "column":
        return kind in {"table", "view", "materialized", "function", "foreign"}
    # A column of a table that is gone too may have any name, such as id.
    return f"table {name.rpartition('.')[0]}" not in set(removed)


def _words(suite: Suite) -> set[str]:
    found = impact.identifiers(suite.query or "")
    if suite.table is not None:
        found.add(suite.table.name)
    for expectation in suite.expectations:
        for value in expectation.kwargs.values():
            found |= {text for text in (value if isinstance(value, list) else [value]) if isinstance(text, str)}
    return found
