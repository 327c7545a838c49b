"""A backup by pg_dump: directory format, in parallel, from one snapshot; restored by pg_restore into another database.

What pg_restore says of itself is no proof: it takes damaged and truncated archives without a word. So every byte is
compared with the manifest before, and the caller compares fingerprints after.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from psycopg import sql

from migrator import processes
from migrator.backups import Made, Source, archive, failures, manifest, requirements, streaming
from migrator.backups.digests import Ahead
from migrator.backups.manifest import FileEntry, Manifest
from migrator.backups.programs import Programs
from migrator.backups.requirements import Requirements
from migrator.backups.side import analyze, require_empty
from migrator.backups.signing import PublicKeys
from migrator.backups.store.local import quarantine, remove
from migrator.backups.streaming import Sink
from migrator.config.login import Login, Secret
from migrator.errors import BackupFailed
from migrator.failpoints import Effect, doing, effect
from migrator.postgres import client_tools
from migrator.postgres.client_tools import ClientTools
from migrator.postgres.connect import PgSession, connect
from migrator.postgres.transactions import statement

FOLDER = "dump"  # of the archive, inside the backup's folder

# statistics: the planner's, without data; both ends are of 18 or newer
Content = Literal["schema", "statistics", "all"]
_CONTENTS: Mapping[Content, Sequence[str]] = {
    "schema": ("--schema-only", "--format=custom"),
    "statistics": ("--no-data", "--statistics", "--format=custom"),
    "all": ("--format=directory",),
}

# A listing is in the encoding of the database; what is not UTF-8 passes through as it is.
_ENCODED = {"encoding": "utf-8", "errors": "surrogateescape"}


@dataclass(frozen=True, kw_only=True)
class _File:
    """An archive of pg_dump on this machine."""

    path: Path

    def options(self, jobs: int | None = None) -> list[str]:
        return [*([] if jobs is None else [f"--jobs={jobs}"]), str(self.path)]

    def pieces(self) -> None:
        return None

    def __str__(self) -> str:
        return str(self.path)


@dataclass(frozen=True, kw_only=True)
class _Stream:
    """An archive in the custom format that passes by: pg_restore reads it once, by one connection."""

    opened: Callable[[], Iterator[bytes]]
    name: str

    def options(self, jobs: int | None = None) -> list[str]:  # noqa: ARG002
        return []

    def pieces(self) -> Iterator[bytes]:
        return self.opened()

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, kw_only=True)
class Dump:
    tools: ClientTools
    log: Path  # what the programs say is appended; short-lived files lie beside it
    jobs: int = 2
    timeout_s: float = 3600.0  # for the dump, and again for the restore
    lock_timeout_s: float = 10.0  # for each table that somebody has locked against readers
    public_keys: PublicKeys | None = None
    sink: Sink | None = None  # where a dump goes that is not made on this machine first

    @property
    def kind(self) -> str:
        return "dump"

    def create(self, source: Source, folder: Path) -> Made:
        """The database's dump lies in `folder`/dump, synced to disk and hashed.

        Of a failed one what there is is kept beside under the name `<folder>.partial`.
        Raises: BackupFailed.
        """
        try:
            with failures.translated(f"Backing up {source.login.database} failed"):
                return self._create(source, folder)
        except BaseException as error:
            failures.tell(error, quarantine(folder))
            raise

    def verify(self, source: Source, folder: Path) -> Manifest:  # noqa: ARG002  the server is not asked
        """Every byte of the backup in `folder` has been read and is what its signed manifest says.

        Raises: BackupFailed naming every file that is not as it should be.
        """
        return manifest.verify(folder, self.public_keys, jobs=self.jobs)

    def restore(self, source: Source, folder: Path, into: str) -> tuple[str, ...]:
        """The empty database `into` holds what the backup in `folder` holds, owners and privileges included; analyzed.

        Every byte of the backup is verified first. One error ends it; what is in `into` then counts for nothing and is
        for the caller to drop. Returns what the server warned of.
        Raises: BackupFailed.
        """
        found = self.verify(source, folder)
        archive_path = folder / (FOLDER if streaming.archive_of(found) is None else streaming.FILE)
        return self._restored(source, found, into, _File(path=archive_path))

    def restore_stream(
        self, source: Source, found: Manifest, into: str, opened: Callable[[], Iterator[bytes]]
    ) -> tuple[str, ...]:
        """The same from a store: `opened` gives the bytes of a dump that was streamed, from the start each time.

        They are not verified here before they are used: the caller has done that, and the iterator does it again.
        Raises: BackupFailed.
        """
        return self._restored(source, found, into, _Stream(opened=opened, name=streaming.FILE))

    def _restored(self, source: Source, found: Manifest, into: str, archive: _File | _Stream) -> tuple[str, ...]:
        if found.kind != self.kind:
            raise BackupFailed(f"The backup {found.id} is a {found.kind}, not a {self.kind}.")
        made_by = found.tools.get("pg_dump", "0")
        if int(made_by.split(".")[0]) > self.tools.major:
            raise BackupFailed(
                f"The backup {found.id} was made by pg_dump {made_by}, and pg_restore here is {self.tools.version}.",
                hint=f"Install the PostgreSQL client {made_by.split('.')[0]} or newer.",
                code="client_version",
            )
        needed = Requirements(roles=found.roles, extensions=found.extensions)
        with failures.translated(f"Restoring {found.id} into {into} failed"):
            warnings = self._load(source, archive, into, needed)
            analyze(source, into, jobs=self.jobs, timeout_s=self.timeout_s)
        return warnings

    def delete(self, source: Source, folder: Path) -> None:  # noqa: ARG002  nothing of it is on the server
        """The backup is gone, its manifest first. Safe to repeat. Raises: BackupFailed."""
        with failures.translated(f"Deleting {folder} failed"):
            remove(folder)

    def restore_schema_only(self, source: Source, into: str) -> tuple[str, ...]:
        """The empty database `into` has the schema of the source's database: a restore of a dump would be let through.

        Data is neither read nor restored. Returns what the server warned of.
        Raises: BackupFailed with the first thing that this login may not restore, and what to do about it.
        """
        live = source.login.database
        with failures.translated(f"Trying a restore of the schema of {live} failed"):
            return self.copy(source, into, at=source, content="schema")

    def copy(self, source: Source, into: str, *, at: Source, content: Content) -> tuple[str, ...]:
        """The empty database `into` of the server of `at` has the schema of the source's database, and what else
        `content` says. Without a backup: the archive is gone afterwards. Returns what the server warned of.

        Raises: BackupFailed with the first thing that may not be restored there, and what to do about it.
        """
        live = source.login.database
        with self._temporary() as temporary, failures.translated(f"Copying {live} into {into} failed"):
            with self._session(source, live) as session:
                needed = requirements.read(session)
            path = temporary / "archive"
            options = [*_CONTENTS[content], f"--file={path}", self._lock_wait()]
            if content == "all":
                options += [f"--jobs={self.jobs}", f"--compress={self._compression()}"]
            self._programs.check(
                self._programs.run(self.tools.pg_dump, options, source, source.login), f"Reading {live} failed"
            )
            warnings = self._load(at, _File(path=path), into, needed)
            if content == "all":
                analyze(at, into, jobs=self.jobs, timeout_s=self.timeout_s)
        return warnings

    @effect(Effect.RESTORE)
    def load(self, path: Path, into: str, *, at: Source, owner: str) -> tuple[str, ...]:
        """The empty database `into` holds what a file or folder of pg_dump holds, all of it owned by `owner`.

        Privileges and owners in the archive are left out: their roles may be others'.
        Raises: BackupFailed, also for plain SQL: psql would obey the shell commands in it.
        """
        with failures.translated(f"Loading {path.name} into {into} failed"):
            require_empty(at, into)
            login = at.login.to(into)
            options = ["--exit-on-error", "--no-owner", "--no-privileges", f"--role={owner}"]
            if archive.can_be_read_in_parallel(path):
                options.append(f"--jobs={self._jobs_of_restore(login)}")
            options += [f"--dbname={client_tools.dbname(into)}", str(path)]
            done = self._programs.run(self.tools.pg_restore, options, at, login, durable=False)
            self._programs.check(done, f"Loading {path.name} into {into} failed")
            analyze(at, into, jobs=self.jobs, timeout_s=self.timeout_s)
        return failures.warnings(done)

    @effect(Effect.DUMP)
    def _create(self, source: Source, folder: Path) -> Made:
        with self._session(source, source.login.database) as session:
            if source.snapshot is not None:
                session.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
                session.execute(statement("SET TRANSACTION SNAPSHOT {}", sql.Literal(source.snapshot)))
            needed = requirements.read(session)
        options = [f"--compress={self._compression()}", self._lock_wait()]
        if source.snapshot is not None:
            options.append(f"--snapshot={source.snapshot}")
        files, warnings = (
            self._written(source, folder, options) if self.sink is None else self._sent(source, folder, options)
        )
        return Made(
            files=files,
            tools={"pg_dump": self.tools.version, "compression": self.tools.compression},
            roles=needed.roles,
            extensions=needed.extensions,
            warnings=warnings,
        )

    def _written(
        self, source: Source, folder: Path, options: Sequence[str]
    ) -> tuple[tuple[FileEntry, ...], tuple[str, ...]]:
        """The archive lies in the folder, and what pg_dump warned of."""
        target = folder / FOLDER
        options = ["--format=directory", f"--jobs={self.jobs}", f"--file={target}", *options]
        # pg_dump syncs every file and the folder before it ends.
        with Ahead(target) as ahead:
            done = self._programs.run(self.tools.pg_dump, options, source, source.login)
            self._programs.check(done, f"Backing up {source.login.database} failed")
            found = ahead.finish(jobs=self.jobs)
        target.chmod(0o700)
        for path in found:
            path.chmod(0o600)
        return manifest.entries(folder, found), failures.warnings(done)

    def _sent(
        self, source: Source, folder: Path, options: Sequence[str]
    ) -> tuple[tuple[FileEntry, ...], tuple[str, ...]]:
        """The archive is in the sink, under the id that is the folder's name, and what pg_dump warned of."""
        sink, warnings = self.sink, list[str]()
        if sink is None:
            raise BackupFailed("There is nowhere to send the dump to.")

        def ended(done: processes.Completed) -> None:
            self._programs.check(done, f"Backing up {source.login.database} failed")
            warnings.extend(failures.warnings(done))

        pieces = self._programs.output(
            self.tools.pg_dump,
            ["--format=custom", *options],
            source,
            size_of_piece=sink.size_of_piece,
            ended=ended,
        )
        with closing(pieces):
            return (sink.receive(folder.name, streaming.FILE, pieces),), tuple(warnings)

    @effect(Effect.RESTORE)
    def _load(self, source: Source, archived: _File | _Stream, into: str, needed: Requirements) -> tuple[str, ...]:
        require_empty(source, into)
        with self._session(source, into) as session:
            prepared = requirements.prepare(session, needed)
        login = source.login.to(into)
        warnings: list[str] = []
        with self._temporary() as temporary:
            listing = temporary / "listing"
            done = self._programs.run(
                self.tools.pg_restore,
                ["--list", f"--file={listing}", *archived.options()],
                source,
                login,
                pieces=archived.pieces(),
            )
            self._programs.check(done, f"Reading the table of contents of {archived} failed")
            schemas, others = archive.split(listing.read_text(**_ENCODED), prepared)
            pieces = None
            for part, jobs in ((schemas, 1), (others, self._jobs_of_restore(login))):
                listing.write_text(part, **_ENCODED)
                options = ["--exit-on-error", f"--use-list={listing}", *archived.options(jobs)]
                options.append(f"--dbname={client_tools.dbname(into)}")
                pieces = archived.pieces()
                done = self._programs.run(self.tools.pg_restore, options, source, login, durable=False, pieces=pieces)
                self._programs.check(done, f"Restoring into {into} failed")
                warnings += failures.warnings(done)
            for _ in pieces or ():  # what pg_restore had no use for is compared too
                pass
        with self._session(source, into) as session:
            wrong = requirements.differences(session, needed)
        if wrong:
            raise BackupFailed(f"Restoring into {into} failed: {', '.join(wrong)}.", code="restore_requirements")
        return tuple(warnings)

    def _jobs_of_restore(self, login: Login) -> int:
        """One where the password does not last: pg_restore in parallel connects once more at its end."""
        return self.jobs if login.password is None or isinstance(login.password, Secret) else 1

    @property
    def _programs(self) -> Programs:
        return Programs(tools=self.tools, log=self.log, timeout_s=self.timeout_s)

    def _session(self, source: Source, database: str) -> PgSession:
        return connect(source.login.to(database), role="backup", run_id=source.run_id)

    @contextmanager
    def _temporary(self) -> Iterator[Path]:
        with doing(Effect.WORK_FILE):
            self.log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            temporary = tempfile.TemporaryDirectory(dir=self.log.parent, prefix=".archive-")
        with temporary as folder:
            yield Path(folder)

    def _compression(self) -> str:
        # Before 16 the option took a level only.
        return self.tools.compression if self.tools.major >= 16 else self.tools.compression.partition(":")[2]

    def _lock_wait(self) -> str:
        return f"--lock-wait-timeout={max(1, round(self.lock_timeout_s * 1000))}"
