"""What a run was planned from is what it executes: no file of the changelog, and nothing that goes into it, is another.

Time passes between preflight and the changes: a backup, retries, days until somebody resumes. Checksums do not tell:
they cover neither preconditions nor rollbacks.
"""

from __future__ import annotations

from collections.abc import Mapping

from migrator.errors import Refused, StepFailed
from migrator.plans import parameters
from migrator.runs import attested
from migrator.runs.run import Run

_SHOWN = 5
_SETTINGS = ("contexts", "labels", "default_schema", "liquibase_schema")


def remember(run: Run) -> None:
    """The facts know what the run is planned from. Raises: Refused for a file that cannot be read."""
    run.facts.changelog_files = _files(run)
    run.facts.changelog_settings = _settings(run)


def require_unchanged(run: Run) -> None:
    """What would be executed now is what was planned. A run of an older version, which knows no digests, passes.

    Raises: StepFailed naming the files and settings that are others.
    """
    if not run.facts.changelog_files:
        return
    changed = [f"setting {name}" for name in _others(run.facts.changelog_settings, _settings(run))]
    try:
        changed += _others(run.facts.changelog_files, _files(run))
    except Refused as error:
        changed.append(error.message)
    if changed:
        more = f" and {len(changed) - _SHOWN} more" if changed[_SHOWN:] else ""
        raise StepFailed(
            f"The changelog is not what this run was planned from; changed since: {', '.join(changed[:_SHOWN])}{more}.",
            hint="Nothing of it was executed. Put it back as it was, or look at it anew (migrator plan), and start a "
            "new run.",
            code="changelog_changed",
        )


def _files(run: Run) -> dict[str, str]:
    """Raises: Refused."""
    try:
        return attested.files(run)
    except OSError as error:
        raise Refused(f"{error.filename} cannot be read: {error.strerror}.", code="missing") from error


def _settings(run: Run) -> dict[str, str]:
    found = {name: str(getattr(run.environment, name) or "") for name in _SETTINGS}
    of_parameters = parameters.digests(run.parameters, salt=run.id)
    return found | {f"parameters.{name}": digest for name, digest in of_parameters.items()}


def _others(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    return sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
