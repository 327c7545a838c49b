"""Opens Liquibase for a run: the pinned jars, the one worker process, a connection in the mode that is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from migrator.liquibase import install
from migrator.liquibase.models import LiquibaseOptions, Measure
from migrator.liquibase.session import Liquibase
from migrator.postgres.connect import application_name
from migrator.runs.record import StepName
from migrator.runs.run import Run

Mode = Literal["held", "stepwise", "read_only"]


def start(run: Run) -> Liquibase:
    """The worker runs (or is starting); nothing is connected yet. Safe to repeat.

    Raises: StepFailed, Refused when the jars or Java are missing.
    """
    if run.liquibase is None:
        settings = run.config.liquibase
        jars = install.jars_for(
            settings.version, settings.home, progress=lambda text: run.progress(StepName.PREFLIGHT, text)
        )
        run.liquibase = Liquibase.start(
            jars, install.java_home(settings.java_home), log=run.folder / "liquibase.log", heap_mb=256
        )
    return run.liquibase


def connect(run: Run, *, mode: Mode, measure: Measure | None = None, lock_timeout_s: float | None = None) -> Liquibase:
    """The worker is connected to the target in `mode`, whatever it was connected to before.

    `measure`: it tells of every changeset what it did to the server. `lock_timeout_s`: another than the environment's.
    Raises: StepFailed.
    """
    environment = run.environment
    liquibase = start(run)
    connected = liquibase.connect(
        run.work_login,
        application_name=application_name(run.id, "liquibase"),
        options=LiquibaseOptions(
            version=run.config.liquibase.version,
            root=run.config.liquibase.root,
            contexts=environment.contexts,
            labels=environment.labels,
            parameters=run.parameters,
            default_schema=environment.default_schema,
            liquibase_schema=environment.liquibase_schema,
        ),
        mode=mode,
        lock_timeout_s=lock_timeout_s or environment.limits.lock_timeout_s,
        measure=measure,
    )
    run.record.versions["liquibase"] = connected.liquibase_version
    run.record.versions["java"] = connected.java_version
    return liquibase


@contextmanager
def opened(run: Run, *, mode: Mode) -> Iterator[Liquibase]:
    """A connected worker for the length of a block; its process stays for what comes next."""
    liquibase = connect(run, mode=mode)
    try:
        yield liquibase
    finally:
        if run.liquibase is liquibase:
            liquibase.disconnect()
