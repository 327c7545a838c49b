"""Calls of one service: tried again where that is safe, and their errors our own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from migrator.aws.refusals import is_expired, is_transient, translated
from migrator.errors import StepFailed
from migrator.failpoints import Effect, effect

T = TypeVar("T")

_FIRST_PAUSE_S = 0.5


@dataclass(frozen=True, kw_only=True)
class Pauses:
    """How often and how far apart a call is tried."""

    attempts: int
    longest_s: float
    sleep: Callable[[float], None]


class Clients(Protocol):
    """Whence a service has its client of boto3, with whose credentials."""

    def client(self, name: str) -> Any:
        """A client that tries nothing again by itself. Raises: AwsFailed."""
        ...

    def renew(self) -> None:
        """The next client has credentials that were looked for anew."""
        ...


@dataclass(frozen=True, kw_only=True)
class Service:
    """One service of AWS. A call is a function of boto3's client."""

    name: str
    kind: type[StepFailed]  # what its refusals become
    clients: Clients
    pauses: Pauses

    def idempotent(self, call: Callable[[Any], T], *, doing: str) -> T:
        """The call's answer; one that is the same however often it is made. `doing` begins the message of an error.

        Throttling, errors of the service and of the network are tried again, with pauses that double and have chance
        in them, up to `aws.attempts`. Raises: `kind`, naming the IAM action where one is missing.
        """
        from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

        retrying = Retrying(
            retry=retry_if_exception(is_transient),
            stop=stop_after_attempt(self.pauses.attempts),
            wait=wait_random_exponential(multiplier=_FIRST_PAUSE_S, max=self.pauses.longest_s),
            reraise=True,
            sleep=self.pauses.sleep,
        )
        with translated(doing, service=self.name, kind=self.kind):
            answer: T = retrying(self._with_fresh_credentials, call)
            return answer

    def once(self, call: Callable[[Any], T], *, doing: str) -> T:
        """The call's answer; it is made once, because to repeat it would do something twice. Raises: `kind`."""
        with translated(doing, service=self.name, kind=self.kind):
            return self._with_fresh_credentials(call)

    @effect(Effect.PROVIDER_CALL)
    def _with_fresh_credentials(self, call: Callable[[Any], T]) -> T:
        try:
            return call(self.clients.client(self.name))
        except Exception as error:
            if not is_expired(error):
                raise
            # Nothing was carried out: AWS looks at the signature first.
            self.clients.renew()
            return call(self.clients.client(self.name))
