"""The jars of one Liquibase, fetched once and checked against `jars.toml` before every use."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from migrator.errors import ConfigError, ToolFailed

_TRIES = 3  # of a download that a passing network error ended
_LONGEST_PAUSE_S = 2.0


@dataclass(frozen=True, kw_only=True)
class Pin:
    group: str
    artifact: str
    version: str
    sha256: str

    @property
    def file_name(self) -> str:
        return f"{self.artifact}-{self.version}.jar"


@dataclass(frozen=True, kw_only=True)
class Jars:
    """Everything that goes on the class path, and where things derived from it may be cached."""

    version: str
    paths: tuple[Path, ...]
    digest: str  # of all jars together
    cache_dir: Path | None = None


def versions() -> list[str]:
    """The versions of Liquibase that are pinned here, the default first."""
    table = _table()
    return sorted(table["versions"], key=lambda version: version != table["default"])


def pins(version: str) -> tuple[Pin, ...]:
    """The jars of that version. Raises: ConfigError when it is not pinned here."""
    known = _table()["versions"]
    if version not in known:
        raise ConfigError(
            f"Liquibase {version} is not one of the pinned versions: {', '.join(versions())}",
            hint="Choose one of them as liquibase.version, or name an installation with liquibase.home.",
        )
    return tuple(Pin(**jar) for jar in known[version]["jars"])


def pinned(version: str, cache_dir: Path) -> Jars:
    """The jars of that version as `fetch` leaves them in the cache. Raises: ConfigError when it is not pinned here."""
    wanted = pins(version)
    return Jars(
        version=version,
        paths=tuple(_folder(version, cache_dir) / pin.file_name for pin in wanted),
        digest=_digest([pin.sha256 for pin in wanted]),
        cache_dir=cache_dir,
    )


def fetch(version: str, cache_dir: Path, progress: Callable[[str], None] = lambda _: None) -> bool:
    """Every jar of the version is in the cache and has the pinned SHA-256; whether one had to be fetched.

    Safe to repeat, and from several processes.

    Raises: ConfigError for an unknown version; ToolFailed, code `download` (not reachable) or `checksum` (not the jar
    that this version of migrator was tested with: it is not kept).
    """
    folder = _folder(version, cache_dir)
    missing = [pin for pin in pins(version) if not _is_intact(folder / pin.file_name, pin)]
    if missing:
        progress(f"Fetching Liquibase {version} ({len(missing)} files)")
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=cache_dir) as staging:
            for pin in missing:
                _fetch(pin, Path(staging), folder)
    return bool(missing)


def from_home(home: Path, cache_dir: Path | None = None) -> Jars:
    """The jars of an installed Liquibase, as they are; the user answers for them.

    The PostgreSQL driver may be in `internal/lib` or `lib`; without one ours is missing and that is an error.

    Raises: ConfigError when the folder is no Liquibase installation.
    """
    found = sorted(path for part in ("internal/lib", "lib") for path in (home / part).glob("*.jar"))
    core = [path for path in found if path.name.startswith("liquibase-core")]
    if not core:
        raise ConfigError(
            f"liquibase.home: {home} holds no internal/lib/liquibase-core.jar",
            hint="Name the folder that the Liquibase archive was unpacked into, or remove the setting.",
        )
    if not any(path.name.startswith("postgresql") for path in found):
        raise ConfigError(
            f"liquibase.home: {home} holds no PostgreSQL driver (postgresql-*.jar)",
            hint=f"Put the driver's jar into {home / 'lib'}, or remove the setting.",
        )
    return Jars(
        version=_version_of(core[0]),
        paths=tuple(found),
        digest=_digest([hashlib.sha256(path.read_bytes()).hexdigest() for path in found]),
        cache_dir=cache_dir,
    )


def _table() -> dict[str, Any]:
    return tomllib.loads((resources.files("migrator.liquibase") / "jars.toml").read_text(encoding="utf-8"))


def _folder(version: str, cache_dir: Path) -> Path:
    return cache_dir / "liquibase" / version


def _is_intact(path: Path, pin: Pin) -> bool:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest() == pin.sha256
    except OSError:
        return False


def _fetch(pin: Pin, staging: Path, folder: Path) -> None:
    import requests
    from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

    name = f"{pin.group}:{pin.artifact}:{pin.version}"
    transient = (requests.exceptions.ConnectionError, requests.exceptions.Timeout)
    patiently = Retrying(
        retry=retry_if_exception_type(transient),
        stop=stop_after_attempt(_TRIES),
        wait=wait_random_exponential(multiplier=0.2, max=_LONGEST_PAUSE_S),
        reraise=True,
    )
    try:
        fetched = patiently(_resolve, pin, staging)
    except Exception as error:  # jgo raises whatever its HTTP client raised
        raise ToolFailed(
            f"{name} could not be fetched from the Maven repository: {error}",
            code="download",
            hint="Check the network, or name an installed Liquibase with liquibase.home.",
        ) from error
    got = hashlib.sha256(fetched.read_bytes()).hexdigest()
    if got != pin.sha256:
        raise ToolFailed(
            f"{name} has SHA-256 {got}, pinned is {pin.sha256}; it was thrown away",
            code="checksum",
            hint="Something between here and the Maven repository changes files. Do not work around it.",
        )
    _move_into_place(fetched, folder / pin.file_name)


def _resolve(pin: Pin, staging: Path) -> Path:
    from jgo.maven import MavenContext

    context = MavenContext(repo_cache=staging)
    return Path(context.project(pin.group, pin.artifact).at_version(pin.version).artifact().resolve())


def _move_into_place(source: Path, target: Path) -> None:
    with tempfile.NamedTemporaryFile(dir=target.parent, prefix=".new-", delete=False) as file, source.open("rb") as jar:
        shutil.copyfileobj(jar, file)
        file.flush()
        os.fsync(file.fileno())
    Path(file.name).chmod(0o644)
    Path(file.name).replace(target)


def _digest(hashes: list[str]) -> str:
    return hashlib.sha256("".join(hashes).encode()).hexdigest()


def _version_of(core: Path) -> str:
    import zipfile

    try:
        with zipfile.ZipFile(core) as jar:
            text = jar.read("liquibase.build.properties").decode()
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise ConfigError(f"liquibase.home: {core} is not a Liquibase jar: {error}") from error
    entries = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    return entries.get("build.version", "unknown").strip()
