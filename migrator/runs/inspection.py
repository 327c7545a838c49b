"""The data-integrity checks of a run: suites and invariants, before and after."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import closing
from importlib import metadata
from typing import Literal

from migrator.checks import invariants, rules
from migrator.checks import suites as gx_suites
from migrator.checks.invariants import Measured
from migrator.checks.results import CheckResult, failures
from migrator.checks.runner import SuiteRunner, TypedSession
from migrator.errors import VerificationFailed
from migrator.plans import impact
from migrator.postgres.session import Session
from migrator.runs import undo_checks
from migrator.runs.record import CheckRecord, Way
from migrator.runs.run import Run
from migrator.runs.words import count

Phase = Literal["before", "after"]


def start(run: Run) -> SuiteRunner:
    """The process that runs the suites is starting, so that its import is over when it is needed. Safe to repeat."""
    if run.suites is None:
        run.suites = SuiteRunner.start(run.folder / "checks.log")
        run.record.versions["great_expectations"] = metadata.version("great_expectations")  # without its import
    return run.suites


def before(run: Run) -> None:
    """The suites and invariants hold before anything is touched; the invariants' values are in the facts.

    Raises: VerificationFailed: a migration of data that is wrong already would be blamed for it.
    """
    with closing(run.session("checks", read_only=True)) as session:
        session.execute("begin isolation level repeatable read read only")
        loaded = _rules(run)
        measured = invariants.measure(session, loaded, phase="before", timeout_s=run.environment.limits.check_timeout_s)
    run.facts.invariants_before = [one.to_json() for one in measured]
    results = invariants.judge_before(measured)
    for result in results:
        _report(run, result)
    suites = _gx_suites(run)
    if suites:
        start(run).validate(suites)  # also those that only look afterwards: too late to find that they cannot
    results += _suites(run, "before", [suite for suite in suites if "before" in suite.when], None)
    problems = [_sentence(result) for result in failures(results)]
    if run.undoes:  # what is wrong may be the very reason to go back
        for problem in problems:
            run.warn(f"Before the rollback: {problem}")
        return
    if problems:
        raise VerificationFailed("; ".join(problems[:3]) + (f" (and {len(problems) - 3} more)" if problems[3:] else ""))


def measure_again(run: Run, session: Session) -> None:
    """What is to stay unchanged has the values of the session's snapshot: users wrote after preflight had looked.

    Raises: StepFailed when the session is lost.
    """
    if not run.facts.existing:
        return
    due = [rule for rule in _rules(run) if rule.kind is rules.Kind.UNCHANGED]
    measured = invariants.measure(session, due, phase="before", timeout_s=run.environment.limits.check_timeout_s)
    new = {one.name: one.to_json() for one in measured}
    old = {Measured.from_json(text).name: text for text in run.facts.invariants_before}
    run.facts.invariants_before = list({**old, **new}.values())


def after(run: Run, session: Session) -> list[str]:
    """Every critical check that does not hold, as a sentence; `session` sees the migrated data.

    Where the configuration says so, only the checks that are marked `inside` run in the held transaction; see
    `after_commit` for the others.
    """
    run.record.checks = [check for check in run.record.checks if check.phase != "after"]  # of an earlier attempt
    held = run.liquibase if run.record.way is Way.ATOMIC else None
    where = "inside the transaction, before its commit" if held is not None else "on the migrated database"
    return _after(run, session, held, where, marked_only=held is not None and run.environment.checks.inside == "marked")


def after_commit(run: Run) -> list[str]:
    """The checks that the held transaction was spared: every critical one that does not hold, as a sentence."""
    if run.record.way is not Way.ATOMIC or run.environment.checks.inside == "all":
        return []
    # One that failed when the run was here before is looked at again: a person was asked to correct the data.
    run.record.checks = [check for check in run.record.checks if check.phase != "after" or check.success]
    with closing(run.session("checks", read_only=True)) as session:
        session.execute("begin isolation level repeatable read read only")
        return _after(run, session, None, "after the commit", marked_only=False)


def _after(run: Run, session: Session, held: TypedSession | None, where: str, *, marked_only: bool) -> list[str]:
    settings = run.environment.checks
    done = {check.name for check in run.record.checks if check.phase == "after"}
    due = [
        rule
        for rule in _rules(run)
        if "after" in rule.when and rule.name not in done and _is_due(run, rule, marked_only=marked_only)
    ]
    measured = invariants.measure(session, due, phase="after", timeout_s=_timeout_s(run, held is not None))
    known = {rule.name for rule in due}
    earlier = [Measured.from_json(text) for text in run.facts.invariants_before]
    results = invariants.judge([one for one in earlier if one.name in known], measured)
    for result in results:
        _report(run, result)
    suites = [
        suite
        for suite in _gx_suites(run)
        if "after" in suite.when and not done & set(suite.labels) and _is_due(run, suite, marked_only=marked_only)
    ]
    results += _suites(run, "after", suites, held)
    failed = (
        undo_checks.decisive(run, session, results, invariants=due, suites=suites) if run.undoes else failures(results)
    )
    if results and not failed:
        run.prove(f"{count(len(results), 'check')} looked at {where}; every critical one holds.")
    if not (settings.invariants or settings.suites):
        run.not_proven("No check looked at the data: checks.suites and checks.invariants name none.")
    return [_sentence(result) for result in failed]


def _rules(run: Run) -> list[rules.Invariant]:
    found = rules.load(run.environment.checks.invariants, redact=run.environment.checks.redact)
    return undo_checks.of_rules(found) if run.undoes else found


def _gx_suites(run: Run) -> list[gx_suites.Suite]:
    found = gx_suites.load(run.environment.checks.suites, redact=run.environment.checks.redact)
    return undo_checks.of_suites(found) if run.undoes else found


def _is_due(run: Run, rule: rules.Invariant | gx_suites.Suite, *, marked_only: bool) -> bool:
    if isinstance(rule, rules.Invariant) and rule.kind is rules.Kind.UNCHANGED and not run.facts.existing:
        return False  # there was nothing yet that could stay as it was
    return rule.inside or not marked_only


def _timeout_s(run: Run, inside: bool) -> float:
    return run.environment.checks.inside_timeout_s if inside else run.environment.limits.check_timeout_s


def _sentence(result: CheckResult) -> str:
    return f"check {result.name}: {result.detail or 'does not hold'}"


def _report(run: Run, result: CheckResult) -> None:
    record = CheckRecord(
        name=result.name,
        phase=result.phase,
        success=result.success,
        severity=result.severity,
        table=result.table,
        detail=result.detail,
        duration_s=result.duration_s,
    )
    run.record.checks.append(record)
    run.reporter.check(record)


def is_named(identity: str, words: Iterable[str]) -> bool:
    """Whether one of the identifiers in a schema object's identity stands in the changelog, or is made from one.

    PostgreSQL makes names of its own (`customer_id_seq`, `customer_pkey`) from those that the changelog gives.
    """
    known = set(words)
    if identity.startswith("large object"):
        return any(word.startswith("lo_") for word in known)
    found = impact.identifiers(identity) - {"public"}
    return bool(found & known) or any(word.startswith(f"{one}_") for word in found for one in known)


def _suites(run: Run, phase: Phase, suites: Sequence[gx_suites.Suite], held: TypedSession | None) -> list[CheckResult]:
    if not suites:
        return []
    return start(run).run(
        suites,
        phase=phase,
        via=held or run.work_login,
        run_id=run.id,
        statement_timeout_s=_timeout_s(run, held is not None),
        on_result=lambda result: _report(run, result),
    )
