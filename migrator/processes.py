"""The one place that runs child processes: argv and never a shell, always a time limit, the whole process group."""

from __future__ import annotations

import ctypes
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol, Self, cast

from migrator.errors import ToolFailed

_INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TMPDIR", "TZ", "SSL_CERT_FILE", "SSL_CERT_DIR")
_PARENT = "MIGRATOR_PARENT_PID"
_KEPT_BYTES = 256 * 1024
_TERM_GRACE_S = 5.0
_PR_SET_PDEATHSIG = 1
_MASK = "********"


class Revealable(Protocol):
    """A secret; `migrator.config.login.Secret` is one. Named here because configuration lies above processes."""

    def reveal(self) -> str: ...


@dataclass(frozen=True, kw_only=True)
class Completed:
    """A child process that ended. Output is UTF-8 with secrets masked; of long output the end is kept."""

    argv: tuple[str, ...]
    exit_code: int  # negative: the signal that ended it
    stdout: str
    stderr: str
    duration_s: float


@dataclass(frozen=True, kw_only=True)
class Identity:
    """The operating-system user that a child runs as; only root can choose another than its own."""

    uid: int
    gid: int


def minimal_env(**extra: str) -> dict[str, str]:
    """The environment that every child gets: search path, home, locale, time zone, trusted certificates, and `extra`.

    Nothing else of our own environment is handed on: it may hold passwords and PG* variables that redirect a client.
    """
    kept = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    return {**kept, **extra}


def redact(text: str, secrets: Iterable[Revealable]) -> str:
    """The text without the secrets, in whichever of the usual spellings they occur (plain, URL, JSON, PGPASSFILE)."""
    for spelling in _spellings(secrets):
        text = text.replace(spelling, _MASK)
    return text


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
    log_file = _open_log(log) if log else None
    process: subprocess.Popen[bytes] | None = None
    try:
        process = _popen(
            argv,
            env=env,
            cwd=cwd,
            stdin=subprocess.DEVNULL if input_text is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            identity=identity,
            preexec_fn=_pdeathsig_setter(),
        )
        outputs = [_Tail(stream, _spellings(secrets), log_file) for stream in (process.stdout, process.stderr)]
        feeder = _feed(process, input_text)
        timed_out = False
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            timed_out = True
            _end_group(process)
        # A daemon that the program left behind may keep the pipe open: what it says later is not waited for.
        for reader in (*outputs, *([feeder] if feeder else [])):
            reader.join(1.0)
    except BaseException:
        if process is not None:
            _end_group(process)
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
    said = _last_lines(stderr or stdout)
    hint = f"Its output is in {log}." if log else None
    if timed_out:
        raise ToolFailed(
            f"{name} was stopped after {timeout_s:g} s{': ' + said if said else ''}", code="timeout", hint=hint
        )
    if check and done.exit_code != 0:
        raise ToolFailed(f"{name} {_ending(done.exit_code)}{': ' + said if said else ''}", hint=hint)
    return done


def detach(
    argv: Sequence[str], *, log: Path, env: Mapping[str, str] | None = None, identity: Identity | None = None
) -> subprocess.Popen[bytes]:
    """A server runs that outlives this process: own session, working folder `/`, output appended to `log`.

    Raises: ToolFailed, code `not_found`.
    """
    with _open_log(log) as stderr:
        return _popen(
            tuple(argv),
            env=env,
            cwd=Path("/"),
            stdin=subprocess.DEVNULL,
            stdout=stderr,
            stderr=stderr,
            identity=identity,
        )


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
        env = {**(minimal_env() if env is None else env), _PARENT: str(os.getpid())}
        with _open_log(log) as stderr:
            process = _popen(
                tuple(argv), env=env, cwd=cwd, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr
            )
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
        except ValueError as error:
            raise self._not_understood(line) from error
        if not isinstance(message, dict):
            raise self._not_understood(line)
        return message

    def kill(self) -> None:
        """The child and its process group are dead and reaped. Safe to repeat."""
        with self._killing:
            _signal_group(self._process, signal.SIGKILL)
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
            ending = _ending(self._process.wait(1.0))
        except subprocess.TimeoutExpired:
            ending = "closed its output"
        said = _last_lines(redact(_log_tail(self._log), self._secrets))
        return ToolFailed(
            f"{self._name} {ending}{': ' + said if said else ''}", code="gone", hint=f"Its log is {self._log}."
        )

    def _not_understood(self, line: bytes) -> ToolFailed:
        said = redact(line[:200].decode(errors="replace").strip(), self._secrets)
        return ToolFailed(
            f"{self._name} said something that is no message: {said}", code="protocol", hint=f"Its log is {self._log}."
        )


def die_with_parent() -> None:
    """This process is killed when the thread that started it ends (Linux; elsewhere nothing changes).

    For our own children, called first thing. Safe to repeat.
    """
    setter = _pdeathsig_setter(parent=int(os.environ.get(_PARENT, "0")))
    if setter is not None:
        setter()


def _pdeathsig_setter(parent: int | None = None) -> Callable[[], None] | None:
    # Prepared before the fork: between fork and exec nothing may be imported or looked up.
    if not sys.platform.startswith("linux"):
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    expected = os.getpid() if parent is None else parent
    getppid, leave, kill = os.getppid, os._exit, int(signal.SIGKILL)

    def set_pdeathsig() -> None:
        prctl(_PR_SET_PDEATHSIG, kill, 0, 0, 0)
        if expected and getppid() != expected:  # the parent died before the call
            leave(125)

    return set_pdeathsig


def _popen(
    argv: tuple[str, ...],
    *,
    env: Mapping[str, str] | None,
    cwd: Path | None,
    stdin: int,
    stdout: int | IO[bytes],
    stderr: int | IO[bytes],
    identity: Identity | None = None,
    preexec_fn: Callable[[], None] | None = None,
) -> subprocess.Popen[bytes]:
    other_user = identity is not None and identity.uid != os.geteuid()
    try:
        return subprocess.Popen(
            argv,
            env=dict(minimal_env() if env is None else env),
            cwd=cwd,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
            user=identity.uid if identity and other_user else None,
            group=identity.gid if identity and other_user else None,
            extra_groups=[] if other_user else None,
            preexec_fn=preexec_fn,  # noqa: PLW1509  a prepared system call and nothing else
        )
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ToolFailed(f"{argv[0]} cannot be started: {reason}", code="not_found") from error


def _end_group(process: subprocess.Popen[bytes]) -> None:
    _signal_group(process, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(_TERM_GRACE_S)
    _signal_group(process, signal.SIGKILL)
    process.wait()


def _signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    # macOS answers EPERM for a group of which only zombies are left.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


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


class _Tail(threading.Thread):
    """Reads a stream to its end; keeps the last part, masked line by line, and copies it to the log."""

    def __init__(self, stream: IO[bytes] | None, spellings: Sequence[str], log: IO[bytes] | None) -> None:
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
            data = data.replace(spelling, _MASK.encode())
        return data

    def _keep(self, data: bytes) -> None:
        with self._lock:
            self._kept += data
            del self._kept[:-_KEPT_BYTES]
        if self._log is not None and data:
            with suppress(OSError, ValueError):
                self._log.write(data)
                self._log.flush()


def _spellings(secrets: Iterable[Revealable]) -> list[str]:
    found: set[str] = set()
    for secret in secrets:
        value = secret.reveal()
        found |= {
            value,
            urllib.parse.quote(value, safe=""),
            urllib.parse.quote_plus(value),
            json.dumps(value)[1:-1],
            json.dumps(value, ensure_ascii=False)[1:-1],
            value.replace("\\", "\\\\").replace(":", "\\:"),
            *(line for line in value.splitlines() if len(line) > 3),
        }
    return sorted(found - {""}, key=len, reverse=True)


def _open_log(path: Path) -> IO[bytes]:
    path.parent.mkdir(parents=True, exist_ok=True)
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600), "ab")


def _log_tail(path: Path) -> str:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 8192))
            return file.read().decode(errors="replace")
    except OSError:
        return ""


def _last_lines(text: str, count: int = 5) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " | ".join(lines[-count:])[-2000:]


def _ending(exit_code: int) -> str:
    if exit_code >= 0:
        return f"ended with exit code {exit_code}"
    try:
        return f"was ended by {signal.Signals(-exit_code).name}"
    except ValueError:
        return f"was ended by signal {-exit_code}"


def _child_name(argv: Sequence[str]) -> str:
    # "python -m package.worker" is known by its module
    return argv[2] if len(argv) > 2 and argv[1] == "-m" else Path(argv[0]).name
