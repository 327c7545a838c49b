"""How the worker and its JVM are started, and the cache that makes that quick."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import threading
import time
from contextlib import suppress
from importlib import metadata
from pathlib import Path

from migrator import processes
from migrator.errors import MigratorError
from migrator.liquibase.jars import Jars
from migrator.liquibase.java import jvm_library, major_version

_OLDEST_WITH_AOT_OUTPUT = 25  # JEP 514
_TRAINING_TIMEOUT_S = 180.0
_KEPT_CACHES = 4
_UNFINISHED_S = 3600.0  # what a process that was killed left behind
_training = threading.Lock()


def flags(*, heap_mb: int, cache: Path | None = None, train_into: Path | None = None) -> list[str]:
    """The JVM's flags. The same class path and flags must be used for training and for use."""
    chosen = [
        f"-Xmx{heap_mb}m",
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",
        "-XX:+ExitOnOutOfMemoryError",
        "-Xrs",
        "-Xss4m",  # deep expressions and nested includes
        "--enable-native-access=ALL-UNNAMED",
        "-Djava.util.logging.SimpleFormatter.format=%1$tFT%1$tTZ %4$s %3$s: %5$s%6$s%n",
        "-Xlog:disable",
        "-Xlog:all=error:stderr",
        "-Dfile.encoding=UTF-8",
        "-Duser.timezone=UTC",
        "-Djava.awt.headless=true",
        "-Dliquibase.headless=true",
        "-Dliquibase.analytics.enabled=false",
        "-Dliquibase.showBanner=false",
        "-Dliquibase.changelogLockWaitTimeInMinutes=0",
        "-Dliquibase.changelogLockPollRate=1",
        "-Dliquibase.secureParsing=true",
        # 5.0.4 knows these, 4.33.0 passes them over; screening refuses the same things before
        "-Dliquibase.allowExecuteCommand=false",
        "-Dliquibase.allowCustomChange=false",
        "-Dliquibase.allowIncludeAllClasses=false",
        "-Dliquibase.allowParentDirectoryReferences=false",
        "-Dliquibase.allowExternalChangelogPaths=false",
    ]
    if train_into is not None:
        chosen.append(f"-XX:AOTCacheOutput={train_into}")
    elif cache is not None:
        chosen.append(f"-XX:AOTCache={cache}")
    return chosen


def aot_cache(jars: Jars, home: Path) -> Path | None:
    """Where the start-up cache for these jars on this Java lies or would lie; None where there can be none."""
    if jars.cache_dir is None or (major_version(home) or 0) < _OLDEST_WITH_AOT_OUTPUT:
        return None
    release = (home / "release").read_bytes()
    identity = json.dumps(
        [jars.digest, [str(p) for p in jars.paths], str(home), metadata.version("jpype1"), flags(heap_mb=0)]
    )
    key = hashlib.sha256(release + identity.encode()).hexdigest()[:16]
    return jars.cache_dir / "aot" / f"{jars.version}-{key}.aot"


def train(jars: Jars, home: Path) -> bool:
    """The start-up cache exists, or this returned False: without it Liquibase works alike, only slower. Never raises.

    Takes some seconds; safe to repeat and to do in several processes.
    """
    cache = aot_cache(jars, home)
    if cache is None:
        return False
    if cache.is_file():
        return True
    fresh = cache.with_name(f".{cache.name}.{os.getpid()}")
    with _training:
        try:
            cache.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            processes.run(
                worker_argv(jars, home, heap_mb=256, train_into=fresh),
                timeout_s=_TRAINING_TIMEOUT_S,
                env=worker_env(home),
            )
            fresh.replace(cache)
            _forget_old(cache.parent)
        except (MigratorError, OSError):
            return False
        finally:
            for left in (fresh, fresh.with_name(fresh.name + ".config")):
                with suppress(OSError):
                    left.unlink()
    return True


def train_in_background(jars: Jars, home: Path) -> None:
    """Training goes on in a thread and ends with this process at the latest."""
    cache = aot_cache(jars, home)
    if cache is not None and not cache.is_file() and not _training.locked():
        threading.Thread(target=train, args=(jars, home), name="aot training", daemon=True).start()


def worker_argv(jars: Jars, home: Path, *, heap_mb: int, train_into: Path | None = None) -> list[str]:
    """How the child is started. Nothing in it is secret."""
    cache = aot_cache(jars, home) if train_into is None else None
    settings = {
        "jvm": str(jvm_library(home)),
        "flags": flags(heap_mb=heap_mb, cache=cache if cache and cache.is_file() else None, train_into=train_into),
        "jars": [str(path) for path in jars.paths],
        "train": train_into is not None,
    }
    return [sys.executable, "-m", "migrator.liquibase.worker", json.dumps(settings)]


def worker_env(home: Path) -> dict[str, str]:
    """The child's environment. Changelogs can read it as parameters, so it holds as little as possible."""
    return processes.minimal_env(JAVA_HOME=str(home), PYTHONUNBUFFERED="1")


def _forget_old(folder: Path) -> None:
    caches = sorted(folder.glob("*.aot"), key=lambda path: path.stat().st_mtime, reverse=True)
    unfinished = [path for path in folder.glob(".*.aot.*") if path.stat().st_mtime < time.time() - _UNFINISHED_S]
    for old in caches[_KEPT_CACHES:] + unfinished:
        with suppress(OSError):
            old.unlink()
