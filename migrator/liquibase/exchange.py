"""One request after the other to the worker, and its answer to each."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from migrator.errors import MigratorError, ToolFailed
from migrator.liquibase.models import ChangesetEvent
from migrator.processes import Child


class Exchange:
    """JSON lines with one child. Not for several threads at once."""

    def __init__(self, child: Child, error_of: Callable[[dict[str, Any]], MigratorError]) -> None:
        self._child = child
        self._error_of = error_of
        self._sent = 0

    def call(
        self,
        operation: str,
        *,
        timeout_s: float,
        on_event: Callable[[ChangesetEvent], None] = lambda _: None,
        **fields: Any,
    ) -> dict[str, Any]:
        """The worker's answer; what it tells meanwhile goes to `on_event`.

        Raises: what `error_of` makes of an answer that is an error; ToolFailed, code `timeout`, `gone`, `protocol` or
        `java`. The worker is dead past `timeout_s` and after an answer that is none.
        """
        self._sent += 1
        deadline = time.monotonic() + timeout_s
        self._child.send({"id": self._sent, "op": operation, **fields})
        while True:
            try:
                message = self._child.receive(max(0.0, deadline - time.monotonic()))
            except ToolFailed as error:
                if error.code == "timeout":
                    self._child.kill()  # its answer would be taken for that of a later call
                raise
            with self.understanding():
                java = str(message["error"]["message"]) if message["id"] == 0 else None
                is_ours = message["id"] == self._sent
                event = ChangesetEvent(**message["event"]) if is_ours and "event" in message else None
            if java is not None:
                raise ToolFailed(java, code="java")
            if event is not None:
                on_event(event)
            elif is_ours:
                with self.understanding():
                    return self._answer(message)

    def _answer(self, message: dict[str, Any]) -> dict[str, Any]:
        if "error" in message:
            raise self._error_of(message["error"])
        answer = message["ok"]
        if not isinstance(answer, dict):
            raise TypeError("it is no object")
        return answer

    @contextmanager
    def understanding(self) -> Iterator[None]:
        """Raises: ToolFailed, code `protocol`, for an answer that is none; the worker is dead then."""
        try:
            yield
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            self._child.kill()
            raise ToolFailed(
                f"Liquibase's worker gave an answer that is none ({type(error).__name__}: {error})", code="protocol"
            ) from error
