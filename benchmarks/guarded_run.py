"""A whole guarded run beside the plain script that it replaces, in pairs, on an embedded PostgreSQL of its own.

    python benchmarks/guarded_run.py --gb 1 --pairs 3

What varies from machine to machine and from minute to minute is the same for both of a pair: read the ratios.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import contenders
import database
from contenders import Measured
from database import Tools

from migrator.config.login import Login
from migrator.liquibase import install, startup
from migrator.liquibase.models import LiquibaseOptions
from migrator.liquibase.session import Liquibase
from migrator.postgres import client_tools
from migrator.postgres.embedded import EmbeddedServer, Options

_AIM = {"total": 0.40, "downtime": 0.30}
_SIX_OPERATIONS_S, _HELP_S, _MEMORY_BYTES = 1.5, 0.4, 600e6
_SERVER = {"shared_buffers": "256MB", "max_wal_size": "2GB"}
_VERSION = "5.0.4"


@dataclass(frozen=True, kw_only=True)
class Pair:
    guarded: Measured
    plain: Measured

    @property
    def total(self) -> float:
        return self.guarded.total_s / self.plain.total_s

    @property
    def downtime(self) -> float:
        return self.guarded.downtime_s / self.plain.downtime_s


@dataclass(frozen=True, kw_only=True)
class Result:
    size_bytes: int
    pairs: Sequence[Pair]
    six_operations_s: Sequence[float]
    help_s: Sequence[float]

    def to_json(self) -> dict[str, Any]:
        return {
            "size_bytes": self.size_bytes,
            "cores": os.cpu_count(),
            "pairs": [
                {
                    "total_ratio": round(pair.total, 3),
                    "downtime_ratio": round(pair.downtime, 3),
                    "guarded": pair.guarded.to_json(),
                    "plain": pair.plain.to_json(),
                }
                for pair in self.pairs
            ],
            "median_total_ratio": round(statistics.median(pair.total for pair in self.pairs), 3),
            "median_downtime_ratio": round(statistics.median(pair.downtime for pair in self.pairs), 3),
            "six_operations_s": self.six_operations_s,
            "help_s": self.help_s,
        }


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--gb", type=float, default=1.0, help="size of the database, indexes included (default 1)")
    arguments.add_argument("--pairs", type=int, default=3, help="how often both are measured (default 3)")
    arguments.add_argument("--json", action="store_true", help="the result as JSON on standard output")
    chosen = arguments.parse_args()
    if chosen.gb <= 0 or chosen.pairs < 1:
        arguments.error("--gb and --pairs are to be positive")
    with server() as (running, folder):
        result = measure(running, folder, gb=chosen.gb, pairs=chosen.pairs)
    if chosen.json:
        json.dump(result.to_json(), sys.stdout, indent=2)
        print()
    else:
        print("\n".join(table(result)))


@contextmanager
def server() -> Iterator[tuple[EmbeddedServer, Path]]:
    """A PostgreSQL 18 of our own and a folder; both are gone afterwards, also when this process is killed."""
    folder = Path(tempfile.mkdtemp(prefix="migrator-bench-"))
    folder.chmod(0o711)
    try:
        options = Options(major=18, settings=_SERVER).that_ends_with_us(remove=folder)
        running = EmbeddedServer.start(folder / "pg", options)
        try:
            yield running, folder
        finally:
            running.immediate_stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def measure(running: EmbeddedServer, folder: Path, *, gb: float, pairs: int) -> Result:
    """Both ways were measured `pairs` times, in turn, each on a fresh copy of the same database."""
    tools = found_tools()
    say("filling the database")
    size = database.fill(running, tools, gb=gb, progress=say)
    say(f"{size / 1e9:.2f} GB")
    measured = []
    for number in range(1, pairs + 1):
        pair = Pair(guarded=guarded(running, folder), plain=plain(running, folder, tools))
        measured.append(pair)
        say(f"pair {number}: total {pair.total:.2f}, downtime {pair.downtime:.2f}")
    say("six Liquibase operations, and --help")
    small = database.create(running, "bench_small", tools)
    operations = [six_operations(database.fresh(running, small.database), folder, tools) for _ in range(3)]
    return Result(size_bytes=size, pairs=measured, six_operations_s=operations, help_s=[help_once() for _ in range(5)])


def guarded(running: EmbeddedServer, folder: Path) -> Measured:
    """One guarded run on a fresh copy."""
    return _told(contenders.guarded(database.fresh(running), folder / "guarded"))


def plain(running: EmbeddedServer, folder: Path, tools: Tools) -> Measured:
    """One plain script on a fresh copy."""
    return _told(contenders.plain(database.fresh(running), folder / "plain", tools))


def found_tools() -> Tools:
    """Java, the jars and pg_dump; the JVM's start-up cache is trained, so that no run pays for it."""
    home = install.java_home(None)
    jars = install.jars_for(_VERSION, None, progress=say)
    say("training the JVM's start-up cache, where it is not")
    if not startup.train(jars, home):
        say("this Java has no start-up cache: starts are slower")
    program = "java.exe" if sys.platform == "win32" else "java"
    return Tools(java=home / "bin" / program, jars=jars, pg_dump=client_tools.find(18).pg_dump)


def six_operations(login: Login, folder: Path, tools: Tools) -> float:
    """Seconds from starting the worker to its end, with what the six command lines do, in one transaction."""
    options = LiquibaseOptions(version=_VERSION, root=database.SHOP)
    started = time.monotonic()
    liquibase = Liquibase.start(tools.jars, install.java_home(None), log=folder / "operations.log")
    try:
        _connected(liquibase, login, options, "read_only")
        pending = [one for one in liquibase.changesets("changelog.yaml") if one.state == "pending"]  # validate, status
        liquibase.update_sql("changelog.yaml")
        liquibase.snapshot()
        _connected(liquibase, login, options, "held")
        liquibase.begin()
        liquibase.update("changelog.yaml", on_event=lambda _: None, timeout_s=60)
        ledger = liquibase.rows("select id from databasechangelog where filename = 'release.yaml'")  # history
        liquibase.commit()
    finally:
        liquibase.close()
    took = round(time.monotonic() - started, 3)
    if len(pending) != 6 or len(ledger) != 6:
        raise SystemExit(f"Not six changesets: {len(pending)} were pending, {len(ledger)} were run.")
    return took


def _connected(liquibase: Liquibase, login: Login, options: LiquibaseOptions, mode: Any) -> None:
    liquibase.connect(login, application_name="bench", options=options, mode=mode, lock_timeout_s=10)


def help_once() -> float:
    """Seconds of `migrator --help`."""
    started = time.monotonic()
    subprocess.run([Path(sys.executable).with_name("migrator"), "--help"], check=True, stdout=subprocess.DEVNULL)
    return round(time.monotonic() - started, 3)


def table(result: Result) -> Iterator[str]:
    """The result for a person."""
    yield f"{result.size_bytes / 1e9:.2f} GB, {len(result.pairs)} pairs, {os.cpu_count()} cores"
    yield ""
    yield f"{'pair':<8}{'total s':>20}{'ratio':>8}{'downtime s':>20}{'ratio':>8}"
    for number, pair in enumerate(result.pairs, 1):
        total = f"{pair.guarded.total_s:.1f} / {pair.plain.total_s:.1f}"
        downtime = f"{pair.guarded.downtime_s:.1f} / {pair.plain.downtime_s:.1f}"
        yield f"{number:<8}{total:>20}{pair.total:>8.2f}{downtime:>20}{pair.downtime:>8.2f}"
    total_ratio = statistics.median(pair.total for pair in result.pairs)
    downtime_ratio = statistics.median(pair.downtime for pair in result.pairs)
    yield f"{'median':<8}{'':>20}{total_ratio:>8.2f}{'':>20}{downtime_ratio:>8.2f}"
    yield f"{'aim':<8}{'':>20}{_AIM['total']:>8.2f}{'':>20}{_AIM['downtime']:>8.2f}"
    for way in ("guarded", "plain"):
        runs: list[Measured] = [getattr(pair, way) for pair in result.pairs]
        yield ""
        yield f"steps, {way} (median of {len(runs)}, s)"
        for name in runs[0].steps:
            yield f"  {name:<24}{_median(run.steps.get(name, 0.0) for run in runs):>8.2f}"
        yield f"  {'around them':<24}{_median(run.total_s - sum(run.steps.values()) for run in runs):>8.2f}"
        yield f"  {'peak memory, MB (PSS)':<24}{_megabytes(runs):>8}"
    yield ""
    yield _limited("six Liquibase operations", _median(result.six_operations_s), _SIX_OPERATIONS_S)
    yield _limited("migrator --help", _median(result.help_s), _HELP_S)
    peaks = [pair.guarded.peak_bytes for pair in result.pairs if pair.guarded.peak_bytes is not None]
    if peaks:
        yield f"{'memory of a guarded run':<26}{max(peaks) / 1e6:>8.0f} MB of {_MEMORY_BYTES / 1e6:.0f} MB"


def _limited(what: str, took: float, limit: float) -> str:
    return f"{what:<26}{took:>8.2f} s of {limit:.1f} s"


def _median(values: Iterable[float]) -> float:
    return statistics.median(values)


def _megabytes(runs: Sequence[Measured]) -> str:
    peaks = [run.peak_bytes for run in runs if run.peak_bytes is not None]
    return f"{max(peaks) / 1e6:.0f}" if peaks else "?"


def _told(measured: Measured) -> Measured:
    say(f"{measured.way}: {measured.total_s:.1f} s, {measured.downtime_s:.1f} s of them downtime")
    return measured


def say(text: str) -> None:
    """Progress, for a person who waits."""
    print(f"  {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
