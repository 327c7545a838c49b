"""Maintenance outside the database: what tells users, or a load balancer, to stay away while a run is on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from migrator.aws import Account
    from migrator.aws.waits import Wait
    from migrator.config.aws import AwsSettings
    from migrator.config.aws_maintenance import CloudFrontProvider, EcsProvider
    from migrator.config.models import OutsideProvider


@dataclass(frozen=True, kw_only=True)
class ProviderStatus:
    on: bool
    detail: str  # one line for a person
    held_by: str | None = None  # the run whose mark it bears; None also where it bears none


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


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What a provider works in, whichever it is."""

    environment: str
    folder: Path  # where commands are started
    log: Path  # gets their output
    aws: AwsSettings  # how AWS is reached, by those that are there
    progress: Callable[[str], None] = lambda _text: None  # told what is waited for


def of(settings: OutsideProvider, around: Surroundings) -> Provider:
    """The provider that these settings describe."""
    from migrator.config import aws_maintenance
    from migrator.config.models import CommandProvider, FlagProvider

    match settings:
        case FlagProvider():
            from migrator.maintenance.flag import Flag

            return Flag(path=settings.path, environment=around.environment)
        case CommandProvider():
            from migrator.maintenance.command import Command

            return Command(
                on_argv=settings.on,
                off_argv=settings.off,
                status_argv=settings.status,
                timeout_s=settings.timeout_s,
                environment=around.environment,
                folder=around.folder,
                log=around.log,
            )
        case aws_maintenance.EcsProvider():
            from migrator.maintenance.ecs import Ecs

            return Ecs(
                account=_account(around.aws),
                cluster=settings.cluster,
                service=settings.service,
                environment=around.environment,
                wait=_wait(settings, around),
            )
        case aws_maintenance.AlbProvider():
            from migrator.maintenance.alb import Alb

            return Alb(account=_account(around.aws), settings=settings, environment=around.environment)
        case aws_maintenance.CloudFrontProvider():
            from migrator.maintenance.cloudfront import CloudFront

            return CloudFront(
                account=_account(around.aws),
                distribution=settings.distribution,
                origin=settings.origin,
                behaviors=settings.behaviors,
                invalidate=settings.invalidate,
                environment=around.environment,
                wait=_wait(settings, around),
            )
        case aws_maintenance.SsmProvider():
            from migrator.maintenance.ssm import Ssm

            return Ssm(account=_account(around.aws), parameter=settings.parameter, environment=around.environment)


@lru_cache(maxsize=8)
def _account(settings: AwsSettings) -> Account:
    """One for all providers of a process: they share its clients."""
    from migrator.aws import Account

    return Account(settings)


def _wait(settings: EcsProvider | CloudFrontProvider, around: Surroundings) -> Wait:
    from migrator.aws.waits import Wait

    return Wait(limit_s=settings.timeout_s, every_s=settings.poll_s, progress=around.progress)
