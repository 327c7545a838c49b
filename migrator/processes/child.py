"""A child process that answers as long as the run lasts."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Self, cast

from migrator.errors import ToolFailed
from migrator.processes.launch import PARENT, ending, last_lines, minimal_env, open_log, popen, signal_group
from migrator.processes.redaction import Revealable, redact


class Child:
    """A long-lived child that speaks JSON, one message a line, on its standard input and output.

    Start it from the main thread: where the child asks to die with its parent, "parent" is the thread that started it.
    `send` and `receive` may be called from different threads, each from one.
    """

    def __init__(
        self, process: subprocess.Popen[bytes], *, name: str, log: Path, secrets: Sequence[Revealable]
    ) -> None:
        self._process = process
        self._name = name
        self._log = log
        self._secrets = secrets
        self._lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._gone = False
        self._killing = threading.Lock()
        self._stdin = cast("IO[bytes]", process.stdin)
        self._stdout = cast("IO[bytes]", process.stdout)
        threading.Thread(target=self._read, name=f"{name} reader", daemon=True).start()

    @classmethod
    def start(
        cls,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        log: Path,
        secrets: Sequence[Revealable] = (),
    ) -> Child:
        """The child runs in a session of its own; its standard error is appended to `log` (mode 0600).

        Raises: ToolFailed, code `not_found`.
        """
        env = {**(minimal_env() if env is None else env), PARENT: str(os.getpid())}
        with open_log(log) as stderr:
            process = popen(tuple(argv), env=env, cwd=cwd, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr)
        return cls(process, name=_child_name(argv), log=log, secrets=secrets)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def send(self, message: dict[str, Any]) -> None:
        """The message is on its way. Raises: ToolFailed, code `gone`, with the end of its log: the child is dead."""
        line = json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode()
        try:
            self._stdin.write(line + b"\n")
            self._stdin.flush()
        except (OSError, ValueError) as error:
            raise self._failure() from error

    def receive(self, timeout_s: float) -> dict[str, Any]:
        """The next message. Raises: ToolFailed, code `gone` (the child is dead), `timeout`, or `protocol` (no JSON)."""
        if self._gone:
            raise self._failure()
        try:
            line = self._lines.get(timeout=timeout_s)
        except queue.Empty:
            raise ToolFailed(
                f"{self._name} gave no answer within {timeout_s:g} s", code="timeout", hint=f"Its log is {self._log}."
            ) from None
        if line is None:
            self._gone = True
            raise self._failure()
        try:
            message = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise self._not_understood(line) from error
        if not isinstance(message, dict):
            raise self._not_understood(line)
        return message

    def kill(self) -> None:
        """The child and its process group are dead and reaped. Safe to repeat."""
        with self._killing:
            signal_group(self._process, signal.SIGKILL)
            self._process.wait()
            with suppress(OSError):
                self._stdin.close()

    def close(self, timeout_s: float = 5.0) -> None:
        """The child saw the end of its input and ended, or was killed after `timeout_s`. Safe to repeat."""
        with suppress(OSError):
            self._stdin.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout_s)
        self.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read(self) -> None:
        with suppress(OSError, ValueError), self._stdout:
            for line in self._stdout:
                self._lines.put(line)
        self._lines.put(None)

    def _failure(self) -> ToolFailed:
        try:
            how = ending(self._process.wait(1.0))
        except subprocess.TimeoutExpired:
            how = "closed its output"
        said = last_lines(redact(_log_tail(self._log), self._secrets))
        return ToolFailed(
            f"{self._name} {how}{': ' + said if said else ''}", code="gone", hint=f"Its log is {self._log}."
        )

    def _not_understood(self, line: bytes) -> ToolFailed:
        said = redact(line[:200].decode(errors="replace").strip(), self._secrets)
        return ToolFailed(
            f"{self._name} said something that is no message: {said}", code="protocol", hint=f"Its log is {self._log}."
        )


def _log_tail(path: Path) -> str:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 8192))
            return file.read().decode(errors="replace")
    except OSError:
        return ""


def _child_name(argv: Sequence[str]) -> str:
    # "python -m package.worker" is known by its module
    return argv[2] if len(argv) > 2 and argv[1] == "-m" else Path(argv[0]).name
