"""A child process that does one thing and ends."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from migrator.errors import ToolFailed
from migrator.processes.launch import Identity, end_group, ending, last_lines, open_log, pdeathsig_setter, popen
from migrator.processes.redaction import MASK, Revealable, redact, spellings

_KEPT_BYTES = 256 * 1024


@dataclass(frozen=True, kw_only=True)
class Completed:
    """A child process that ended. Output is UTF-8 with secrets masked; of long output the end is kept."""

    argv: tuple[str, ...]
    exit_code: int  # negative: the signal that ended it
    stdout: str
    stderr: str
    duration_s: float


def run(
    argv: Sequence[str],
    *,
    timeout_s: float,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    input_text: str | None = None,
    secrets: Sequence[Revealable] = (),
    check: bool = True,
    log: Path | None = None,
    identity: Identity | None = None,
) -> Completed:
    """The program has ended by itself, or it and its whole process group are dead and reaped.

    `env` replaces the environment (default: `minimal_env()`); `log` gets both outputs appended, masked, mode 0600.
    On Linux the child dies with the thread that called this.

    Raises: ToolFailed, code `not_found` (cannot be started), `timeout`, or `tool` (exit code not 0 and `check`).
    """
    argv = tuple(argv)
    started = time.monotonic()
    log_file = open_log(log) if log else None
    process: subprocess.Popen[bytes] | None = None
    try:
        process = popen(
            argv,
            env=env,
            cwd=cwd,
            stdin=subprocess.DEVNULL if input_text is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            identity=identity,
            preexec_fn=pdeathsig_setter(),
        )
        outputs = [Tail(stream, spellings(secrets), log_file) for stream in (process.stdout, process.stderr)]
        feeder = _feed(process, input_text)
        timed_out = False
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            timed_out = True
            end_group(process)
        # A daemon that the program left behind may keep the pipe open: what it says later is not waited for.
        for reader in (*outputs, *([feeder] if feeder else [])):
            reader.join(1.0)
    except BaseException:
        if process is not None:
            end_group(process)
        raise
    finally:
        if log_file is not None:
            log_file.close()
    stdout, stderr = (output.text() for output in outputs)
    done = Completed(
        argv=tuple(redact(a, secrets) for a in argv),
        exit_code=process.returncode,
        stdout=stdout,
        stderr=stderr,
        duration_s=time.monotonic() - started,
    )
    name = Path(argv[0]).name
    said = last_lines(stderr or stdout)
    hint = f"Its output is in {log}." if log else None
    if timed_out:
        raise ToolFailed(
            f"{name} was stopped after {timeout_s:g} s{': ' + said if said else ''}", code="timeout", hint=hint
        )
    if check and done.exit_code != 0:
        raise ToolFailed(f"{name} {ending(done.exit_code)}{': ' + said if said else ''}", hint=hint)
    return done


def _feed(process: subprocess.Popen[bytes], text: str | None) -> threading.Thread | None:
    stdin = process.stdin
    if stdin is None or text is None:
        return None

    def write() -> None:
        with suppress(OSError), stdin:
            stdin.write(text.encode())

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    return thread


class Tail(threading.Thread):
    """Reads a stream to its end; keeps the last part, masked line by line, and copies it to the log."""

    def __init__(self, stream: IO[bytes] | None, spellings: Sequence[str], log: IO[bytes] | None = None) -> None:
        super().__init__(daemon=True)
        self._stream = stream
        self._spellings = [s.encode() for s in spellings]
        self._log = log
        self._kept = bytearray()
        self._lock = threading.Lock()
        self.start()

    def run(self) -> None:
        if self._stream is None:
            return
        # A line may be long and a secret may lie across the cut: its longest possible beginning is held back.
        held_back = max((len(s) for s in self._spellings), default=1) - 1
        pending = b""
        with self._stream, suppress(OSError, ValueError):
            while chunk := self._stream.read1(65536):  # type: ignore[attr-defined]
                pending = self._mask(pending + chunk)
                cut = max(pending.rfind(b"\n") + 1, len(pending) - held_back if len(pending) > 65536 else 0)
                self._keep(pending[:cut])
                pending = pending[cut:]
        self._keep(self._mask(pending))

    def text(self) -> str:
        with self._lock:
            return self._kept.decode(errors="replace")

    def _mask(self, data: bytes) -> bytes:
        for spelling in self._spellings:
            data = data.replace(spelling, MASK.encode())
        return data

    def _keep(self, data: bytes) -> None:
        with self._lock:
            self._kept += data
            del self._kept[:-_KEPT_BYTES]
        if self._log is not None and data:
            with suppress(OSError, ValueError):
                self._log.write(data)
                self._log.flush()
