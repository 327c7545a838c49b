"""Where a run's backups lie, and what makes and reads them."""

from __future__ import annotations

from pathlib import Path

from migrator.backups import Source
from migrator.backups.clone import Clone
from migrator.backups.dump import Dump
from migrator.backups.signing import PublicKeys, SigningKey
from migrator.backups.store.local import LocalStore, quarantine
from migrator.config.configuration import Config
from migrator.config.models import Environment
from migrator.postgres import client_tools, connect
from migrator.postgres.client_tools import ClientTools
from migrator.runs.run import Run


def of(run: Run) -> LocalStore:
    """The environment's store.

    Raises: ConfigError for a public key that cannot be read.
    """
    return of_environment(run.config, run.environment)


def of_environment(config: Config, environment: Environment) -> LocalStore:
    """The same, where no run is at hand."""
    return LocalStore(Path(environment.backup.store), public_keys=_public_keys(config))


def backup_id(run: Run) -> str:
    """The id of the run's own dump; the same for every attempt."""
    return f"{run.id}-{run.environment.name}"


def clone_id(run: Run) -> str:
    """The id of the run's own clone."""
    return f"{backup_id(run)}-clone"


def clone(run: Run) -> Clone:
    """What copies the database on its server."""
    return Clone(timeout_s=run.environment.limits.backup_timeout_s, public_keys=public_keys(run))


def source(run: Run, *, snapshot: str | None = None) -> Source:
    """The run's database, as a backup wants to know it."""
    return Source(login=run.login, admin=run.the_admin(), run_id=run.id, snapshot=snapshot)


def dump(run: Run) -> Dump:
    """pg_dump and pg_restore for this server, with the environment's limits.

    Raises: Refused when no client program suits the server.
    """
    settings = run.environment
    return Dump(
        tools=tools(run),
        log=run.folder / "pg_dump.log",
        jobs=settings.backup.jobs,
        timeout_s=settings.limits.backup_timeout_s,
        lock_timeout_s=settings.limits.lock_timeout_s,
        public_keys=public_keys(run),
    )


def tools(run: Run) -> ClientTools:
    """pg_dump and pg_restore that suit the server.

    Raises: Refused.
    """
    if run.tools is None:
        run.server = run.server or connect.server_info(run.the_admin())
        run.tools = client_tools.find(run.server.major)
        run.record.versions["pg_dump"] = run.tools.version
    return run.tools


def signing_key(run: Run) -> SigningKey | None:
    """The key that manifests are signed with, where one is configured.

    Raises: ConfigError.
    """
    key = run.config.signing.key
    return SigningKey.parse(key) if key is not None else None


def public_keys(run: Run) -> PublicKeys | None:
    """The keys of which one must have signed a manifest, where any are configured."""
    return _public_keys(run.config)


def quarantine_partial(run: Run, unfinished_id: str) -> None:
    """What a killed process left of this backup is kept aside, under a name that no backup has. Safe to repeat."""
    folder = of(run).path(unfinished_id)
    if folder.is_dir():
        quarantine(folder)


def _public_keys(config: Config) -> PublicKeys | None:
    paths = config.signing.public_keys
    return PublicKeys.load(paths) if paths else None
