"""How a child process is started and ended, and what it gets from us."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from migrator.errors import ToolFailed
from migrator.failpoints import Effect, effect

PARENT = "MIGRATORPARENT_PID"

_INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TMPDIR", "TZ", "SSL_CERT_FILE", "SSL_CERT_DIR")
_TERM_GRACE_S = 5.0
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, kw_only=True)
class Identity:
    """The operating-system user that a child runs as; only root can choose another than its own."""

    uid: int
    gid: int


Detached = subprocess.Popen[bytes]  # a server that outlives us, while we look whether it comes up


def minimal_env(**extra: str) -> dict[str, str]:
    """The environment that every child gets: search path, home, locale, time zone, trusted certificates, and `extra`.

    Nothing else of our own environment is handed on: it may hold passwords and PG* variables that redirect a client.
    """
    kept = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    return {**kept, **extra}


def detach(
    argv: Sequence[str], *, log: Path, env: Mapping[str, str] | None = None, identity: Identity | None = None
) -> Detached:
    """A server runs that outlives this process: own session, working folder `/`, output appended to `log`.

    Raises: ToolFailed, code `not_found`.
    """
    with open_log(log) as stderr:
        return popen(
            tuple(argv),
            env=env,
            cwd=Path("/"),
            stdin=subprocess.DEVNULL,
            stdout=stderr,
            stderr=stderr,
            identity=identity,
        )


def is_running(pid: int) -> bool:
    """Whether there is such a process and it still does something: one that only waits to be reaped does not."""
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)  # a child of ours that nobody waits for is reaped
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except (OSError, IndexError):  # no Linux
        return True


def die_with_parent() -> None:
    """This process is killed when the thread that started it ends (Linux; elsewhere nothing changes).

    For our own children, called first thing. Safe to repeat.
    """
    setter = pdeathsig_setter(parent=int(os.environ.get(PARENT, "0")))
    if setter is not None:
        setter()


def pdeathsig_setter(parent: int | None = None) -> Callable[[], None] | None:
    """What a child calls between fork and exec to die with us; None where the platform has no such thing."""
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


@effect(Effect.PROCESS_START)
def popen(
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
    """The program runs in a session of its own. Raises: ToolFailed, code `not_found`."""
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


def end_group(process: subprocess.Popen[bytes]) -> None:
    """The process and its group are dead, by SIGTERM or after a while by SIGKILL, and it is reaped. Safe to repeat."""
    signal_group(process, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(_TERM_GRACE_S)
    signal_group(process, signal.SIGKILL)
    process.wait()


def signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """The group got the signal, if it still exists."""
    # macOS answers EPERM for a group of which only zombies are left.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


@effect(Effect.LOG)
def open_log(path: Path) -> IO[bytes]:
    """The log is open to append to, mode 0600; its folder exists."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600), "ab")


def last_lines(text: str, count: int = 5) -> str:
    """The end of what a program said, on one line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " | ".join(lines[-count:])[-2000:]


def ending(exit_code: int) -> str:
    """How a process ended, in words."""
    if exit_code >= 0:
        return f"ended with exit code {exit_code}"
    try:
        return f"was ended by {signal.Signals(-exit_code).name}"
    except ValueError:
        return f"was ended by signal {-exit_code}"
