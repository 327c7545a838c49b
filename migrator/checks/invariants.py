"""What the invariants say of the data now, and what that means beside what they said before."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from decimal import Decimal, InvalidOperation

from migrator.checks.readonly import read_only, sqlstate
from migrator.checks.redaction import row_as_json
from migrator.checks.results import CheckResult, Phase, Severity
from migrator.checks.rules import RULE_WORDS, Invariant, Kind, load
from migrator.errors import ConnectionFailed, StepFailed, TransactionLost
from migrator.postgres.session import Row, Session
from migrator.postgres.statement import NotOneStatement, single

__all__ = ["Invariant", "Kind", "Measured", "judge", "judge_before", "load", "measure"]

_SAVEPOINT = "migrator_rule"
_COUNTED_ROWS = 1000
_SHOWN_ROWS = 5
_SHOWN_CHARACTERS = 300
_LONGEST_VALUE = 1000
# In a subquery PostgreSQL itself refuses a WITH that writes and SELECT INTO; the limits keep a wrong rule small.
_VALUE = """
SELECT pg_catalog.pg_typeof(migrator_value)::pg_catalog.text, migrator_rule.*
FROM (
{}
) AS migrator_rule (migrator_value) LIMIT 2
"""
_ROWS = """
SELECT pg_catalog.left({}::pg_catalog.text, {})
FROM (
{}
) AS migrator_rule LIMIT {}
"""
_NUMBERS = frozenset({"smallint", "integer", "bigint", "numeric"})
_TEXTS = frozenset({"text", "character varying", "character", "name"})
# type -> why two values of it cannot be compared
_UNFIT = {
    "real": "its sums depend on the order of the rows; cast to numeric before adding up",
    "double precision": "its sums depend on the order of the rows; cast to numeric before adding up",
    "void": "it has no value",
    "record": "it is a row; select one column of it",
    "refcursor": "it is a cursor",
}
_WHY = {
    "57014": "was stopped: it took longer than {timeout_s:g} s, or somebody cancelled it",
    "25006": "writes, or calls a function that does: {said}",
}


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What one invariant said. With an `error` it has said nothing."""

    name: str
    kind: Kind
    severity: Severity = "critical"
    phase: Phase
    value: str | None = None  # unchanged: as PostgreSQL prints it, a long one as its SHA-256
    type: str | None = None  # unchanged: the value's type
    rows: int = 0  # violations: how many, or one more than were counted
    samples: tuple[str, ...] = ()  # violations: the first rows as JSON, cut off
    error: str | None = None
    duration_s: float | None = None

    def to_json(self) -> str:
        """One line that `from_json` reads; for the journal."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Measured:
        """Raises: ValueError, KeyError or TypeError when the text is none of ours."""
        fields = json.loads(text)
        return cls(**{**fields, "kind": Kind(fields["kind"]), "samples": tuple(fields["samples"])})


def measure(session: Session, invariants: Sequence[Invariant], *, phase: Phase, timeout_s: float) -> list[Measured]:
    """Every invariant of the phase was asked; one that could not be answered has an error, the others go on.

    In a transaction all happens behind a savepoint, which is rolled back; otherwise in a transaction of its own, at
    one snapshot. Nothing can be written. Each has `timeout_s`. Safe to repeat.

    Raises: ConnectionFailed, TransactionLost, or StepFailed when the session does not let itself be fenced.
    """
    due = [invariant for invariant in invariants if phase in invariant.when]
    if not due:
        return []
    with read_only(session, timeout_s=timeout_s):
        return [_measure(session, invariant, phase, timeout_s) for invariant in due]


def judge_before(before: Sequence[Measured]) -> list[CheckResult]:
    """What is wrong already: rules that cannot be asked, and violations."""
    return [_alone(measured) for measured in before]


def judge(before: Sequence[Measured], after: Sequence[Measured]) -> list[CheckResult]:
    """The results of the phase `after`: a value that is not what it was, violations, and what was not measured."""
    earlier = {measured.name: measured for measured in before}
    results = []
    for measured in after:
        result = _alone(measured)
        if measured.kind is Kind.UNCHANGED and result.success:
            result = _compare(earlier.get(measured.name), measured, result)
        results.append(result)
    known = {measured.name for measured in after}
    results.extend(
        CheckResult(
            name=name,
            phase="after",
            success=False,
            severity=measured.severity,
            detail="was measured before, and not after",
        )
        for name, measured in earlier.items()
        if measured.kind is Kind.UNCHANGED and name not in known
    )
    return results


def _measure(session: Session, invariant: Invariant, phase: Phase, timeout_s: float) -> Measured:
    blank = Measured(name=invariant.name, kind=invariant.kind, severity=invariant.severity, phase=phase)
    started = time.monotonic()
    try:
        rule = single(invariant.sql, first_words=RULE_WORDS)
    except NotOneStatement as error:
        return replace(blank, error=str(error))
    session.execute(f"SAVEPOINT {_SAVEPOINT}")
    try:
        if invariant.kind is Kind.UNCHANGED:
            measured = _value(blank, session.rows(_VALUE.format(rule)))
        else:
            row = row_as_json("migrator_rule", invariant.redact)
            found = session.rows(_ROWS.format(row, _SHOWN_CHARACTERS, rule, _COUNTED_ROWS + 1))
            measured = _violations(blank, found)
    except (TransactionLost, ConnectionFailed):
        raise  # not the rule's fault, or the end of everything
    except StepFailed as error:
        said = error.message
        why = _WHY.get(sqlstate(error) or "", "{said}")
        measured = replace(blank, error=why.format(timeout_s=timeout_s, said=said))
    # Also after a success: what a function has SET is not to reach the next rule.
    session.execute(f"ROLLBACK TO SAVEPOINT {_SAVEPOINT}; RELEASE SAVEPOINT {_SAVEPOINT}")
    return replace(measured, duration_s=time.monotonic() - started)


def _value(blank: Measured, rows: Sequence[Row]) -> Measured:
    if not rows:
        return replace(blank, error="returns no row; it must return one value")
    if len(rows) > 1:
        return replace(blank, error="returns more than one row; it must return one value")
    kind, *values = rows[0]
    if len(values) != 1:
        return replace(blank, error=f"returns {len(values)} columns; it must return one value")
    value = values[0]
    if kind in _UNFIT:
        return replace(blank, error=f"returns {kind}: {_UNFIT[kind]}")
    if value is None:
        return replace(blank, error="returns NULL, which is equal to nothing; use coalesce")
    if len(value) > _LONGEST_VALUE:
        value = f"sha256:{hashlib.sha256(value.encode(errors='surrogatepass')).hexdigest()}"
    return replace(blank, value=value, type=kind)


def _violations(blank: Measured, rows: Sequence[Row]) -> Measured:
    return replace(blank, rows=len(rows), samples=tuple(row[0] or "" for row in rows[:_SHOWN_ROWS]))


def _alone(measured: Measured) -> CheckResult:
    detail: str | None
    if measured.error is not None:
        success, detail = False, measured.error
    elif measured.kind is Kind.UNCHANGED:
        success, detail = measured.value is not None, measured.value or "has no value"
    else:
        success, detail = measured.rows == 0, _rows(measured)
    return CheckResult(
        name=measured.name,
        phase=measured.phase,
        success=success,
        severity=measured.severity,
        detail=detail,
        duration_s=measured.duration_s,
    )


def _rows(measured: Measured) -> str | None:
    if not measured.rows:
        return None
    count = f"more than {_COUNTED_ROWS}" if measured.rows > _COUNTED_ROWS else str(measured.rows)
    noun = "violation" if measured.rows == 1 else "violations"
    return f"{count} {noun}, such as {'; '.join(measured.samples)}"


def _compare(before: Measured | None, after: Measured, result: CheckResult) -> CheckResult:
    if before is None or before.value is None:
        return replace(result, success=False, detail=f"is {after.value}, and was not measured before")
    if _equal(before, after):
        return result
    told = f"was {before.value}, is {after.value}"
    if before.value == after.value:
        told = f"was {before.type}, is {after.type}, both {after.value}"
    return replace(result, success=False, detail=told)


def _equal(before: Measured, after: Measured) -> bool:
    types = {before.type or "", after.type or ""}
    if before.value == after.value:
        return len(types) == 1 or types <= _NUMBERS or types <= _TEXTS
    if types <= _NUMBERS and before.value is not None and after.value is not None:
        try:
            return Decimal(before.value) == Decimal(after.value)
        except InvalidOperation:
            return False
    return False
