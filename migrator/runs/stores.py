"""Where a run's backups lie, and what makes and reads them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from migrator.aws.account import account_of
from migrator.backups import Source, streaming
from migrator.backups.clone import Clone
from migrator.backups.dump import Dump
from migrator.backups.signing import PublicKeys, SigningKey
from migrator.backups.store import Store
from migrator.backups.store.bucket import Bucket
from migrator.backups.store.local import LocalStore
from migrator.backups.store.s3 import S3Store
from migrator.backups.streaming import Sink
from migrator.config.configuration import Config
from migrator.config.models import Environment
from migrator.config.store import is_s3, s3_address
from migrator.errors import BackupFailed
from migrator.plans.obstacles import Obstacle
from migrator.postgres import client_tools, connect
from migrator.postgres.client_tools import ClientTools
from migrator.runs.record import StepName
from migrator.runs.run import Run


def of(run: Run, step: StepName = StepName.BACK_UP) -> Store:
    """The environment's store. `step` is what shows the progress of what takes long.

    Raises: ConfigError for a public key that cannot be read.
    """
    return of_environment(run.config, run.environment, progress=partial(run.progress, step), heed=run.heed_alarm)


def of_environment(
    config: Config,
    environment: Environment,
    *,
    progress: Callable[[str], None] = lambda _text: None,
    heed: Callable[[], None] = lambda: None,
) -> Store:
    """The same, where no run is at hand. `heed` is called while a backup is sent, and ends that by raising."""
    store = environment.backup.store
    if is_s3(store):
        return _s3(config, environment, progress, heed)
    return LocalStore(Path(store), public_keys=_public_keys(config))


def _s3(config: Config, environment: Environment, progress: Callable[[str], None], heed: Callable[[], None]) -> S3Store:
    address = s3_address(environment.backup.store)
    return S3Store(
        Bucket(address=address, settings=environment.store, account=account_of(environment.aws)),
        spool=config.state / "spool",
        public_keys=_public_keys(config),
        timeout_s=environment.limits.backup_timeout_s,
        progress=progress,
        heed=heed,
    )


def in_the_way(run: Run, needed_bytes: int) -> list[Obstacle]:
    """Why a dump of tables of this size would not get into the store; changes nothing."""
    store = of(run)
    found = []
    try:
        store.check()
    except BackupFailed as error:
        found.append(Obstacle(what=error.message.rstrip("."), remedy=error.hint or "mend it, or name another store"))
    free = store.free_bytes()
    if free is not None and free < needed_bytes:
        where = "the store" if isinstance(store, LocalStore) else "the folder that dumps are made in before they go to"
        aside = "" if isinstance(store, LocalStore) else ", or set store.spool = false"
        found.append(
            Obstacle(
                what=f"{where} {store.place} has {free / 1e6:.0f} MB free, the tables are {needed_bytes / 1e6:.0f} MB",
                remedy=f"make room{aside}, or name another folder as backup.store",
            )
        )
    return found


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


def dump(run: Run, *, heed: Callable[[], None] | None = None) -> Dump:
    """pg_dump and pg_restore for this server, with the environment's limits. `heed`: see `of_environment`.

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
        sink=_sink(run, heed or run.heed_alarm),
    )


def _sink(run: Run, heed: Callable[[], None]) -> Sink | None:
    """Where a dump goes that is not made on this machine first."""
    settings = run.environment
    return (
        None
        if settings.store.spool or not is_s3(settings.backup.store)
        else _s3(run.config, settings, partial(run.progress, StepName.BACK_UP), heed)
    )


def restore(
    run: Run,
    backup_id: str,
    into: str,
    *,
    step: StepName = StepName.RESTORE,
    by: Dump | None = None,
    at: Source | None = None,
) -> tuple[str, ...]:
    """The empty database `into` holds what the backup holds, every byte of which was read first. Returns warnings.

    It is on the run's own server, or on that of `at`, for which `by` has the programs.

    A dump that was streamed into a store is streamed out of it; any other is fetched to this machine where it is not.
    Raises: BackupFailed.
    """
    store, made, at = of(run, step), by or dump(run), at or source(run)
    found = store.read(backup_id)
    archive = streaming.archive_of(found)
    if archive is not None and isinstance(store, S3Store):
        store.verify(backup_id, jobs=run.environment.backup.jobs)
        return made.restore_stream(at, found, into, lambda: store.stream(found, archive))
    with store.opened(backup_id) as folder:
        return made.restore(at, folder, into)


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
    of(run).quarantine(unfinished_id)


def _public_keys(config: Config) -> PublicKeys | None:
    paths = config.signing.public_keys
    return PublicKeys.load(paths) if paths else None
