"""What holds users off outside the database, for one run: asked before it begins, and looked at before it ends."""

from __future__ import annotations

from functools import partial

from migrator import maintenance
from migrator.errors import Refused, StepFailed
from migrator.maintenance import Provider, Surroundings
from migrator.runs.record import StepName
from migrator.runs.run import Run


def providers(run: Run) -> list[Provider]:
    """The environment's outside providers, in the order in which they are turned on."""
    around = Surroundings(
        environment=run.environment.name,
        folder=run.config.base,
        log=run.folder / "maintenance.log",
        aws=run.environment.aws,
        progress=partial(run.progress, StepName.MAINTAIN),
    )
    return [maintenance.of(settings, around) for settings in run.environment.maintenance.outside]


def gate(run: Run) -> str | None:
    """Every outside provider can be asked, and none is in a state in which it could not be turned on.

    Raises: Refused.
    """
    names = []
    for provider in providers(run):
        try:
            provider.standing(run.id)
        except StepFailed as error:
            raise Refused(
                f"Users could not be held off by {provider.name}: {error.message}", hint=error.hint, code=error.code
            ) from error
        names.append(provider.name)
    return f"can be turned on: {', '.join(names)}" if names else None


def notice_drift(run: Run) -> None:
    """The run has a warning for each provider that somebody else turned off while it was to be on."""
    if not any(entry.name is StepName.MAINTAIN and entry.status == "done" for entry in run.record.steps):
        return  # it may not have been turned on at all
    for provider in providers(run):
        if provider.name not in run.facts.outside:
            continue
        try:
            found = provider.status()
        except StepFailed as error:
            run.warn(f"{provider.name}: whether it was on to the end cannot be told: {error.message}")
            continue
        if not found.on:
            run.warn(f"{provider.name} was off already: somebody else ended it during the run ({found.detail}).")
