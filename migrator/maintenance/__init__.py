"""Maintenance outside the database: what tells users, or a load balancer, to stay away while a run is on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from migrator.config.models import OutsideProvider


@dataclass(frozen=True, kw_only=True)
class ProviderStatus:
    on: bool
    detail: str  # one line for a person


class Provider(Protocol):
    """One thing that holds users off.

    `standing`, saved, then `on`, so that a run killed in between finds again what it has to put back.
    """

    @property
    def name(self) -> str:
        """What messages call it; two providers of one environment never share it."""
        ...

    def standing(self, run_id: str) -> dict[str, str]:
        """What stood before this run, to be saved before `on`; asked again after `on`, by the same run, the same.

        Raises: MaintenanceFailed, also where `on` would find another run's maintenance.
        """
        ...

    def on(self, run_id: str) -> dict[str, str]:
        """Users are held off. Returns what stood before. Safe to repeat by the same run.

        Raises: MaintenanceFailed.
        """
        ...

    def off(self, run_id: str, saved: dict[str, str]) -> None:
        """What stood before the run stands again. Safe to repeat; `saved` may be empty if it was lost.

        Raises: MaintenanceFailed, also where what stands now is not this run's.
        """
        ...

    def status(self) -> ProviderStatus:
        """Whether it holds users off now. Raises: MaintenanceFailed when that cannot be told."""
        ...


def of(settings: OutsideProvider, *, environment: str, folder: Path, log: Path) -> Provider:
    """The provider that these settings describe. `folder` is where commands are started, `log` gets their output."""
    from migrator.config.models import FlagProvider
    from migrator.maintenance.command import Command
    from migrator.maintenance.flag import Flag

    if isinstance(settings, FlagProvider):
        return Flag(path=settings.path, environment=environment)
    return Command(
        on_argv=settings.on,
        off_argv=settings.off,
        status_argv=settings.status,
        timeout_s=settings.timeout_s,
        environment=environment,
        folder=folder,
        log=log,
    )
