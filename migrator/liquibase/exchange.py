"""One request after the other to the worker, and its answer to each."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from migrator.errors import MigratorError, ToolFailed
from migrator.liquibase.models import ChangesetEvent, Failed
from migrator.processes import Child, NotUnderstood, decode

_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True)
class _Message:
    """One line of the worker; the answer to request `id`, or an event on the way to it. 0: the JVM did not start."""

    id: int
    ok: Mapping[str, Any] | None = None
    error: Failed | None = None
    event: ChangesetEvent | None = None

    def __post_init__(self) -> None:
        if [self.ok, self.error, self.event].count(None) != 2 or (self.id == 0 and self.error is None):
            raise ValueError("it is not one of an answer, an error and an event")


class Exchange:
    """JSON lines with one child. Not for several threads at once."""

    def __init__(self, child: Child, error_of: Callable[[Failed], MigratorError]) -> None:
        self._child = child
        self._error_of = error_of
        self._sent = 0

    def call(
        self,
        operation: str,
        kind: type[_T],
        *,
        timeout_s: float,
        on_event: Callable[[ChangesetEvent], None] = lambda _: None,
        **fields: Any,
    ) -> _T:
        """The worker's answer, of that kind; what it tells meanwhile goes to `on_event`.

        Raises: what `error_of` makes of an answer that is an error; ToolFailed, code `timeout`, `gone`, `protocol` (it
        was not understood) or `java`. The worker is dead then.
        """
        self._sent += 1
        deadline = time.monotonic() + timeout_s
        self._child.send({"id": self._sent, "op": operation, **fields})
        while True:
            message = self._next(max(0.0, deadline - time.monotonic()))
            if message.id == self._sent:
                if message.error is not None:
                    raise self._error_of(message.error)
                if message.ok is not None:
                    return self._understood(kind, message.ok)
                if message.event is not None:
                    on_event(message.event)
            # else it belongs to a call that was interrupted
            if time.monotonic() > deadline:  # whatever else it has to tell, it could do so for ever
                self._child.kill()
                raise ToolFailed(f"Liquibase's worker gave no answer within {timeout_s:g} s", code="timeout")

    def _next(self, timeout_s: float) -> _Message:
        try:
            said = self._child.receive(timeout_s)
        except ToolFailed:
            self._child.kill()  # its answer would be taken for that of a later call
            raise
        message = self._understood(_Message, said)
        if not 0 <= message.id <= self._sent:
            raise self._not_understood("it answers what was not asked")
        if message.id == 0:
            self._child.kill()
            raise ToolFailed(message.error.message if message.error else "", code="java")
        return message

    def _understood(self, kind: type[_T], said: object) -> _T:
        try:
            return decode(kind, said)
        except NotUnderstood as error:
            raise self._not_understood(str(error)) from error

    def _not_understood(self, why: str) -> ToolFailed:
        self._child.kill()
        return ToolFailed(f"Liquibase's worker said something that is no answer: {why}", code="protocol")
