"""Suites and invariants alone: what they say of the data as it is now. Nothing is written."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import closing
from dataclasses import replace

from migrator.checks import invariants, rules
from migrator.checks import suites as gx_suites
from migrator.checks.results import CheckResult, Phase
from migrator.checks.rules import Invariant
from migrator.checks.suites import Suite
from migrator.errors import UsageError
from migrator.runs import inspection
from migrator.runs.byhand import refuse_if_at_work
from migrator.runs.run import Run


def check(run: Run, names: Collection[str], on_result: Callable[[CheckResult], None]) -> list[CheckResult]:
    """Every suite and every invariant of the environment, or those that `names` name, was looked at now.

    A rule that belongs after a migration is looked at as one, and so is one that belongs before: there is neither now.
    Of an invariant that must stay as it was, only that it has a value is seen.
    Raises: UsageError for a name that there is not; ConfigError; Locked, Refused while a run is at work.
    """
    settings = run.environment.checks
    suites = gx_suites.load(settings.suites, redact=settings.redact)
    loaded = rules.load(settings.invariants, redact=settings.redact)
    suites, loaded = _chosen(suites, loaded, names)
    if suites:
        inspection.start(run)  # its import takes seconds
    refuse_if_at_work(run)
    if suites:
        inspection.start(run).validate(suites)
    results = _invariants(run, loaded)
    for result in results:
        on_result(result)
    for phase in ("after", "before"):
        results += _of_phase(run, [suite for suite in suites if _phase(suite) == phase], phase, on_result)
    return results


def _invariants(run: Run, loaded: Sequence[Invariant]) -> list[CheckResult]:
    every = [replace(rule, when=frozenset({"after"})) for rule in loaded]
    with closing(run.session("checks", read_only=True)) as session:
        session.execute("begin isolation level repeatable read read only")
        timeout_s = run.environment.limits.check_timeout_s
        return invariants.judge_before(invariants.measure(session, every, phase="after", timeout_s=timeout_s))


def _of_phase(
    run: Run, suites: Sequence[Suite], phase: Phase, on_result: Callable[[CheckResult], None]
) -> list[CheckResult]:
    if not suites:
        return []
    return inspection.start(run).run(
        suites,
        phase=phase,
        via=run.login,
        run_id=run.id,
        statement_timeout_s=run.environment.limits.check_timeout_s,
        on_result=on_result,
    )


def _phase(suite: Suite) -> Phase:
    return "after" if "after" in suite.when else "before"


def _chosen(
    suites: Sequence[Suite], loaded: Sequence[Invariant], names: Collection[str]
) -> tuple[list[Suite], list[Invariant]]:
    known = {suite.name for suite in suites} | {rule.name for rule in loaded}
    for name in names:
        if name not in known:
            raise UsageError(
                f"there is no suite or invariant {name!r}", hint=f"there is: {', '.join(sorted(known)) or 'none'}"
            )
    return (
        [one for one in suites if not names or one.name in names],
        [one for one in loaded if not names or one.name in names],
    )
