"""A child process whose output, or whose input, is too long for memory and disk: it passes by in pieces."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, cast

from migrator.errors import ToolFailed
from migrator.processes.launch import end_group, pdeathsig_setter, popen
from migrator.processes.redaction import Revealable, redact, spellings
from migrator.processes.run import Completed, Tail


def output_of(
    argv: Sequence[str],
    *,
    size_bytes: Callable[[int], int],
    ended: Callable[[Completed], None],
    timeout_s: float,
    env: Mapping[str, str] | None = None,
    secrets: Sequence[Revealable] = (),
) -> Iterator[bytes]:
    """What the program writes, in pieces; the Nth, from 0, has `size_bytes(N)`, the last one less.

    `ended` sees how the program ended before the iterator does, and raises where its output is not to be used.
    Whoever stops iterating ends the program. Raises: ToolFailed, code `not_found` or `timeout`; what `ended` raises.
    """
    with _started(argv, timeout_s=timeout_s, env=env, secrets=secrets, stdin=subprocess.DEVNULL) as child:
        out = cast("IO[bytes]", child.process.stdout)
        number = 0
        while piece := out.read(size_bytes(number)):
            number += 1
            yield piece
        ended(child.completed())


def input_to(
    argv: Sequence[str],
    pieces: Iterable[bytes],
    *,
    timeout_s: float,
    env: Mapping[str, str] | None = None,
    secrets: Sequence[Revealable] = (),
) -> Completed:
    """The program has read what it wanted of the pieces, and has ended; what is left of them is not asked for.

    An error of the pieces ends the program and is raised. Raises: ToolFailed, code `not_found` or `timeout`.
    """
    with _started(argv, timeout_s=timeout_s, env=env, secrets=secrets, stdin=subprocess.PIPE) as child:
        stdin = cast("IO[bytes]", child.process.stdin)
        with suppress(BrokenPipeError):  # it has read enough; whether that is well its exit code says
            for piece in pieces:
                stdin.write(piece)
        with suppress(BrokenPipeError):
            stdin.close()
        return child.completed()


class _Running:
    """A child that is killed at its time, whatever its parent waits for."""

    def __init__(
        self, process: subprocess.Popen[bytes], argv: Sequence[str], timeout_s: float, secrets: Sequence[Revealable]
    ) -> None:
        self.process = process
        self._argv = argv
        self._timeout_s = timeout_s
        self._secrets = secrets
        self._began_at = time.monotonic()
        self._timed_out = False
        self._tails = [Tail(process.stderr, spellings(secrets))]
        if process.stdin is not None:
            self._tails.append(Tail(process.stdout, spellings(secrets)))
        self._timer = threading.Timer(timeout_s, self._time_out)
        self._timer.daemon = True
        self._timer.start()

    def completed(self) -> Completed:
        """It has ended. Raises: ToolFailed, code `timeout`."""
        self.process.wait()
        for tail in self._tails:
            tail.join(1.0)
        if self._timed_out:
            raise ToolFailed(f"{Path(self._argv[0]).name} was stopped after {self._timeout_s:g} s", code="timeout")
        return Completed(
            argv=tuple(redact(word, self._secrets) for word in self._argv),
            exit_code=self.process.returncode,
            stdout=self._tails[1].text() if len(self._tails) > 1 else "",
            stderr=self._tails[0].text(),
            duration_s=time.monotonic() - self._began_at,
        )

    def close(self) -> None:
        self._timer.cancel()
        if self.process.poll() is None:
            end_group(self.process)
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                with suppress(OSError, ValueError):
                    stream.close()

    def _time_out(self) -> None:
        if self.process.poll() is None:
            self._timed_out = True
            end_group(self.process)


@contextmanager
def _started(
    argv: Sequence[str],
    *,
    timeout_s: float,
    env: Mapping[str, str] | None,
    secrets: Sequence[Revealable],
    stdin: int,
) -> Iterator[_Running]:
    process = popen(
        tuple(argv),
        env=env,
        cwd=None,
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=pdeathsig_setter(),
    )
    running = _Running(process, argv, timeout_s, secrets)
    try:
        yield running
    finally:
        running.close()
