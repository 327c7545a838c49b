"""What a run's changesets do that a person should know: found in preflight, told as warnings, and a gate."""

from __future__ import annotations

from collections.abc import Sequence

from migrator.config.lint import FailOn
from migrator.errors import Refused
from migrator.liquibase.changelog import Screened
from migrator.liquibase.models import Changeset
from migrator.plans import findings
from migrator.plans.findings import Circumstances, Findings, Severity, Subject
from migrator.plans.words import count
from migrator.postgres.session import Session
from migrator.runs.run import Run

TOLD = 12  # in a report; `migrator lint` and `migrator plan` show them all


def look(run: Run, screened: Screened, changesets: Sequence[Changeset], target: Session) -> Findings:
    """The run knows what the rules find in its changesets, with the numbers of this database. Safe to repeat.

    Raises: StepFailed when the database cannot be asked.
    """
    from migrator.plans.findings.database import Database

    environment = run.environment
    run.findings = findings.find(
        Subject(changesets=changesets, screened=screened, root=run.config.liquibase.root, work_folder=run.folder),
        environment.lint,
        Circumstances(
            server_major=run.server.major if run.server is not None else environment.lint.server_version,
            others_work=environment.maintenance.database != "offline",
        ),
        database=Database(target, default_schema=environment.default_schema),
    )
    return run.findings


def warn(run: Run, found: Findings) -> None:
    """The errors and warnings among the findings are in the run's report, and what was switched off."""
    told = found.at_least(Severity.WARNING)
    for one in told[:TOLD]:
        run.warn(f"{one.place}: {one.message} ({one.rule}, {one.severity})")
    if len(told) > TOLD:
        run.warn(f"{count(len(told) - TOLD, 'more finding')}: migrator lint {run.record.changelog} shows them all.")
    for off in found.switched_off:
        if off.finding.severity is not Severity.INFO:
            run.warn(f"{off.finding.place}: {off.finding.rule} is switched off by the {off.by}: {off.reason}")


def gate(run: Run) -> str | None:
    """Whether the findings let the run begin, where the environment's lint.fail_on says so. Raises: Refused."""
    fail_on = run.environment.lint.fail_on
    if fail_on is None or fail_on == "never" or run.undoes:
        return None
    if run.findings is None:
        raise Refused(
            f"The rules could not look at the changesets, so nobody knows whether there is a finding at or above "
            f"lint.fail_on = {fail_on}.",
            hint="The plan names what stood in their way: migrator plan.",
            code="findings_unknown",
        )
    against = run.findings.against(fail_on)
    if not against:
        return f"no finding at or above {fail_on}"
    refuse(run.findings, fail_on, changelog=run.record.changelog)
    return None


def refuse(found: Findings, fail_on: FailOn, *, changelog: str) -> None:
    """Raises: Refused when a finding is as bad as `fail_on`, naming the first of them."""
    against = found.against(fail_on)
    if against:
        named = "; ".join(f"{one.place}: {one.message} ({one.rule})" for one in against[:3])
        more = f"; and {count(len(against) - 3, 'other')}" if len(against) > 3 else ""
        raise Refused(
            f"{count(len(against), 'finding')} at or above lint.fail_on = {fail_on}: {named}{more}.",
            hint=f"`migrator lint {changelog}` shows them all with a safer way for each; one that is wanted is allowed "
            "by a comment in its changeset: migrator:allow RULE and the reason.",
            code="findings",
        )
