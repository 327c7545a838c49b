"""Who holds a run: a process of a machine, told apart from a later process with the same number.

A holder is `host:pid:place:start:nonce`. `place` names the boot of the kernel and the namespace of process numbers,
`start` is the process's start time in clock ticks since that boot (proc(5), field 22 of /proc/pid/stat). Both are empty
where the operating system does not tell.
"""

from __future__ import annotations

import os
import socket
import uuid
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")


@dataclass(frozen=True, kw_only=True)
class Holder:
    """The parts of a holder's name."""

    host: str
    pid: int
    place: str  # empty: not known
    start: str  # clock ticks; empty: not known
    nonce: str

    def __str__(self) -> str:
        return f"{self.host}:{self.pid}:{self.place}:{self.start}:{self.nonce}"

    @classmethod
    def parse(cls, text: str) -> Holder:
        """The parts of `text`.

        Raises: ValueError when it is not a holder's name.
        """
        host, pid, place, start, nonce = text.rsplit(":", 4)
        return cls(host=host, pid=int(pid), place=place, start=start, nonce=nonce)


def this_process(host: str | None = None, pid: int | None = None) -> str:
    """The name under which process `pid` of `host` (default: the caller) holds a run; another one with each call."""
    here = socket.gethostname()
    host = here if host is None else host
    pid = os.getpid() if pid is None else pid
    local = host == here
    return str(
        Holder(
            host=host,
            pid=pid,
            place=_place() if local else "",
            start=(_start(pid) or "") if local else "",
            nonce=uuid.uuid4().hex[:12],
        )
    )


def is_gone(holder: str) -> bool:
    """True only when the process certainly ran here and certainly runs no more.

    A process of another machine, of another container or from before a reboot is never called gone: its lease decides.
    """
    try:
        named = Holder.parse(holder)
    except ValueError:
        return False
    if not named.place or not named.start or named.host != socket.gethostname() or named.place != _place():
        return False
    return _start(named.pid) != named.start


def describe(holder: str) -> str:
    """The holder in words: "process 4711 on build-7"."""
    try:
        named = Holder.parse(holder)
    except ValueError:
        return holder
    return f"process {named.pid} on {named.host}"


def _place() -> str:
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        namespace = (_PROC / "self/ns/pid").stat().st_ino
    except OSError:
        return ""
    return f"{boot[:13]}-{namespace}"


def _start(pid: int) -> str | None:
    """Start time of a process that runs; None when there is none or it is a zombie."""
    try:
        stat = (_PROC / str(pid) / "stat").read_bytes().decode("ascii", "replace")
    except OSError:
        return None
    # The command's name, in parentheses, may itself hold spaces and parentheses.
    fields = stat.rpartition(")")[2].split()
    return None if len(fields) < 20 or fields[0] in "ZX" else fields[19]
