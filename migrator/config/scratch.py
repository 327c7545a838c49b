"""[environments.X.scratch]: where copies to try something in are made, and what a dry run may do to the target."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from migrator.config.settings import Flag, Seconds, Settings, Text


class ScratchSettings(Settings):
    """A server for scratch databases, and the limits of dry runs."""

    url: Text | None = None
    """Another server for scratch databases: postgresql://user@host:port/database, without a password. The database is
    the one that CREATE DATABASE is sent from."""
    password: Annotated[Text | None, Field(repr=False)] = None
    """A reference such as ${env:SCRATCH_DB_PASSWORD}."""
    on_target: Flag = False
    """Whether `dry-run --on target` is allowed although the environment is protected."""
    lock_timeout_s: Seconds | None = None
    """Seconds that a statement of a dry run on the target waits for a lock. Default: limits.lock_timeout_s."""
    statement_timeout_s: Seconds = 60.0
    """Seconds that one statement of a dry run on the target may take."""
    max_blocked_s: Annotated[Seconds, Field(le=60)] = 3.0
    """Seconds that a dry run on the target may keep another session waiting before it is ended."""
    timeout_s: Seconds = 3600.0
    """Seconds that a scratch database may take to be made."""


NO_SCRATCH = ScratchSettings()
