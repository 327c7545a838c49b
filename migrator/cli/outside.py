"""What holds users off outside the database, turned off by a person: also what a run has left behind."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from migrator.cli import output
from migrator.errors import Locked, MaintenanceFailed, MigratorError, Refused

if TYPE_CHECKING:
    from migrator.config.configuration import Config
    from migrator.config.models import Environment
    from migrator.maintenance import Provider, Surroundings
    from migrator.runs.journal_entries import StoredRun


def surroundings(config: Config, environment: Environment) -> Surroundings:
    """What the providers know of where they work."""
    from migrator.maintenance import Surroundings

    return Surroundings(
        environment=environment.name,
        folder=config.base,
        log=config.state / "maintenance.log",
        aws=environment.aws,
        progress=output.note,
    )


def providers(config: Config, environment: Environment) -> list[Provider]:
    """The environment's outside providers, in the order in which they are turned on."""
    from migrator import maintenance

    around = surroundings(config, environment)
    return [maintenance.of(one, around) for one in environment.maintenance.outside]


def off(config: Config, environment: Environment, run_id: str, *, force: bool = False) -> None:
    """Every provider is off, whether `run_id` holds it or a run that has ended or was letting users in. Safe to repeat.

    With `force`, whichever run holds it, as long as none is at work. Raises: MaintenanceFailed naming what is still on.
    """
    problems = []
    for provider in reversed(providers(config, environment)):
        try:
            provider.off(_whose(config, provider, run_id, force=force), {})
        except MigratorError as error:
            problems.append(f"{provider.name}: {error.message}")
    if problems:
        again = f"migrator maintenance off --env {environment.name}"
        raise MaintenanceFailed(
            f"still on: {'; '.join(problems)}",
            hint=f"mend it, then: {again} --force"
            if force
            else f"mend it, then: {again}; --force takes what a run holds that will not be carried on",
        )


def is_held_by_hand(config: Config, environment: Environment) -> bool:
    """Whether a person turned any of the providers on. One that cannot tell is told of."""
    from migrator.runs.run import MANUAL

    for provider in providers(config, environment):
        try:
            if provider.status().held_by == MANUAL:
                return True
        except MaintenanceFailed as error:
            output.note(f"{provider.name}: whether it is on cannot be told: {error.message}")
    return False


def _whose(config: Config, provider: Provider, run_id: str, *, force: bool) -> str:
    """Under whose name the provider is to be turned off. Raises: Refused, Locked, MaintenanceFailed."""
    from migrator.runs.run import MANUAL

    holder = provider.status().held_by
    if holder is None or holder in (run_id, MANUAL):
        return holder or run_id
    found = _recorded(config, holder)
    if found is not None and found.alive:
        raise Locked(f"run {holder} holds it and is at work")
    if force or (found is not None and (found.closed or _let_users_in(found))):
        return holder
    raise Refused(f"run {holder} holds it")


def _recorded(config: Config, run_id: str) -> StoredRun | None:
    """The run; None where the journal does not know it. Raises: Refused, Unfinished."""
    from migrator.runs.journal import Journal

    with closing(Journal.open(config.journal.url, config.base, read_only=True)) as journal:
        try:
            return journal.get(run_id)
        except Refused as error:
            if error.code == "no_such_run":
                return None
            raise


def _let_users_in(found: StoredRun) -> bool:
    """Whether the run ended while it let users in: what had to be proven before was proven."""
    from migrator.runs.record import Outcome

    error = found.record.error
    at_the_end = found.record.outcome is Outcome.UNFINISHED and error is not None and error.code == "maintenance"
    return at_the_end or found.facts.get("users_back") is True
