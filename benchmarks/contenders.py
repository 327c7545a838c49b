"""The two ways, each started as the program it is, watched from outside, and refused as a number when it failed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import plain_script
from database import SHOP, Tools, password, releases
from memory import PeakMemory

from migrator.config.login import Login

_TIMEOUT_S = 3600.0


@dataclass(frozen=True, kw_only=True)
class Measured:
    way: str  # guarded or plain
    total_s: float
    downtime_s: float
    steps: Mapping[str, float]
    peak_bytes: int | None  # of all processes together; None where it cannot be seen
    at_peak: Sequence[tuple[str, int]]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def guarded(login: Login, folder: Path) -> Measured:
    """The database is migrated by `migrator run`: backup, fence, full proof, suites and invariants."""
    _empty(folder)
    shutil.copytree(SHOP, folder / "shop")
    url = f"postgresql://{login.user}@{login.host}:{login.port}/{login.database}"
    config = f"""
[liquibase]
root = "shop"
[environments.bench]
url = "{url}"
password = "${{env:BENCH_PASSWORD}}"
proof = "full"
[environments.bench.checks]
suites = ["shop/checks/*.yaml"]
invariants = ["shop/checks/*.sql"]
"""
    (folder / "migrator.toml").write_text(config, encoding="utf-8")
    argv = [str(Path(sys.executable).with_name("migrator")), "run", "changelog.yaml", "--env", "bench", "--yes"]
    env = {**os.environ, "BENCH_PASSWORD": password(login)}
    total_s, output, memory = _watched("migrator run", [*argv, "--json"], folder, env)
    report = json.loads(output)
    if (report["outcome"], report["way"], report["proof"]["level"]) != ("migrated", "atomic", "full"):
        raise SystemExit(f"The guarded run is not the one to measure: {report['outcome']}, {report['proof']}")
    if not report["backups"] or len(report["checks"]) < 20 or report["maintenance"]["mode"] != "offline":
        raise SystemExit(f"The guarded run left something out: {output[:4000]}")
    releases(login)
    return Measured(
        way="guarded",
        total_s=total_s,
        downtime_s=report["maintenance"]["downtime_s"],
        steps={step["name"]: step["duration_s"] for step in report["steps"]},
        peak_bytes=memory.peak_bytes,
        at_peak=memory.at_peak,
    )


def plain(login: Login, folder: Path, tools: Tools) -> Measured:
    """The database is migrated by the plain script."""
    _empty(folder)
    settings = plain_script.Settings(
        host=login.host,
        port=login.port,
        user=login.user,
        database=login.database,
        java=str(tools.java),
        jars=[str(path) for path in tools.jars.paths],
        pg_dump=str(tools.pg_dump),
        root=str(SHOP),
        changelog="changelog.yaml",
        suites=str(SHOP / "checks"),
        python=sys.executable,
        output=str(folder),
    )
    path = plain_script.save(settings, folder / "settings.json")
    env = {**os.environ, "PGPASSWORD": password(login)}
    total_s, output, memory = _watched(
        "the plain script", [sys.executable, plain_script.__file__, str(path)], folder, env
    )
    found = json.loads(output)
    releases(login)
    return Measured(
        way="plain",
        total_s=total_s,
        downtime_s=found["downtime_s"],
        steps=found["steps"],
        peak_bytes=memory.peak_bytes,
        at_peak=memory.at_peak,
    )


def _watched(what: str, argv: list[str], folder: Path, env: dict[str, str]) -> tuple[float, str, PeakMemory]:
    started = time.monotonic()
    with (folder / "stderr").open("w+", encoding="utf-8") as log:
        process = subprocess.Popen(
            argv, cwd=folder, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True
        )
        with PeakMemory(process.pid) as memory:
            try:
                output, _ = process.communicate(timeout=_TIMEOUT_S)
            except BaseException:
                process.terminate()
                process.wait(30)
                raise
        total_s = round(time.monotonic() - started, 3)
        log.seek(0)
        said = log.read()
    if process.returncode != 0:
        raise SystemExit(
            f"{what} ended with {process.returncode}, so there is no number.\n{said[-3000:]}{output[-3000:]}"
        )
    return total_s, output, memory


def _empty(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
