"""How much memory a process and all its descendants have at once: their PSS, in which shared pages count once."""

from __future__ import annotations

import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

_PROC = Path("/proc")
_EVERY_S = 0.25


class PeakMemory:
    """Samples the tree below `root_pid` for the length of a `with` block; `peak_bytes` is None where there is no /proc.

    What is alive for less than a quarter of a second may be missed. Processes that leave the tree are missed too.
    """

    def __init__(self, root_pid: int) -> None:
        self._root = root_pid
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="memory", daemon=True)
        self.peak_bytes: int | None = None
        self.at_peak: list[tuple[str, int]] = []  # what each process had then, the largest first

    def __enter__(self) -> Self:
        if sys.platform == "linux":
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while True:
            started = time.monotonic()
            found = [(_name(pid), _pss_bytes(pid)) for pid in tree(self._root)]
            total = sum(size for _, size in found)
            if total > (self.peak_bytes or 0):
                self.peak_bytes = total
                self.at_peak = sorted(found, key=lambda one: -one[1])
            # A sample is never more than a fifth of the time: it must not slow down what it looks at.
            if self._done.wait(max(_EVERY_S, 4 * (time.monotonic() - started))):
                return


def tree(root: int) -> list[int]:
    """The process and all its living descendants."""
    children: dict[int, list[int]] = {}
    for folder in _PROC.iterdir():
        if folder.name.isdigit():
            with suppress(OSError, IndexError, ValueError):
                # The program's name, in parentheses, may hold anything.
                parent = int((folder / "stat").read_text(errors="replace").rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(folder.name))
    found, waiting = [], [root]
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        waiting += children.get(pid, [])
    return found


def _pss_bytes(pid: int) -> int:
    with suppress(OSError):
        for line in (_PROC / str(pid) / "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0


def _name(pid: int) -> str:
    with suppress(OSError):
        argv = (_PROC / str(pid) / "cmdline").read_bytes().split(b"\0")
        words = [Path(word.decode(errors="replace")).name for word in argv[:4] if not word.startswith(b"{")]
        return " ".join(words).strip()
    return "?"
