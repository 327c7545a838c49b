"""A backup by pg_dump: directory format, in parallel, from one snapshot; restored by pg_restore into another database.

What pg_restore says of itself is no proof: it takes damaged and truncated archives without a word. So every byte is
compared with the manifest before, and the caller compares fingerprints after.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from psycopg import sql

from migrator import processes
from migrator.backups import Made, Source, archive, failures, manifest, requirements
from migrator.backups.digests import Ahead
from migrator.backups.manifest import Manifest
from migrator.backups.requirements import Requirements
from migrator.backups.side import analyze, require_empty
from migrator.backups.signing import PublicKeys
from migrator.backups.store.local import quarantine, remove
from migrator.config.login import Login
from migrator.errors import BackupFailed, ToolFailed
from migrator.failpoints import Effect, doing, effect
from migrator.postgres import client_tools
from migrator.postgres.client_tools import ClientTools
from migrator.postgres.connect import PgSession, application_name, connect
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
class Dump:
    tools: ClientTools
    log: Path  # what the programs say is appended; short-lived files lie beside it
    jobs: int = 2
    timeout_s: float = 3600.0  # for the dump, and again for the restore
    lock_timeout_s: float = 10.0  # for each table that somebody has locked against readers
    public_keys: PublicKeys | None = None

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
            warnings = self._load(source, folder / FOLDER, into, needed)
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
            self._check(self._run(self.tools.pg_dump, options, source, source.login), f"Reading {live} failed")
            warnings = self._load(at, path, into, needed)
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
                options.append(f"--jobs={self.jobs}")
            options += [f"--dbname={client_tools.dbname(into)}", str(path)]
            done = self._run(self.tools.pg_restore, options, at, login, durable=False)
            self._check(done, f"Loading {path.name} into {into} failed")
            analyze(at, into, jobs=self.jobs, timeout_s=self.timeout_s)
        return failures.warnings(done)

    @effect(Effect.DUMP)
    def _create(self, source: Source, folder: Path) -> Made:
        target = folder / FOLDER
        with self._session(source, source.login.database) as session:
            if source.snapshot is not None:
                session.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
                session.execute(statement("SET TRANSACTION SNAPSHOT {}", sql.Literal(source.snapshot)))
            needed = requirements.read(session)
        options = [
            "--format=directory",
            f"--jobs={self.jobs}",
            f"--file={target}",
            f"--compress={self._compression()}",
            self._lock_wait(),
        ]
        if source.snapshot is not None:
            options.append(f"--snapshot={source.snapshot}")
        # pg_dump syncs every file and the folder before it ends.
        with Ahead(target) as ahead:
            done = self._run(self.tools.pg_dump, options, source, source.login)
            self._check(done, f"Backing up {source.login.database} failed")
            found = ahead.finish(jobs=self.jobs)
        target.chmod(0o700)
        for path in found:
            path.chmod(0o600)
        return Made(
            files=manifest.entries(folder, found),
            tools={"pg_dump": self.tools.version, "compression": self.tools.compression},
            roles=needed.roles,
            extensions=needed.extensions,
            warnings=failures.warnings(done),
        )

    @effect(Effect.RESTORE)
    def _load(self, source: Source, path: Path, into: str, needed: Requirements) -> tuple[str, ...]:
        require_empty(source, into)
        with self._session(source, into) as session:
            prepared = requirements.prepare(session, needed)
        login = source.login.to(into)
        warnings: list[str] = []
        with self._temporary() as temporary:
            listing = temporary / "listing"
            done = self._run(self.tools.pg_restore, ["--list", f"--file={listing}", str(path)], source, login)
            self._check(done, f"Reading the table of contents of {path} failed")
            parts = archive.split(listing.read_text(**_ENCODED), prepared)
            for part, jobs in zip(parts, (1, self.jobs), strict=True):
                listing.write_text(part, **_ENCODED)
                options = ["--exit-on-error", f"--jobs={jobs}", f"--use-list={listing}", str(path)]
                options.append(f"--dbname={client_tools.dbname(into)}")
                done = self._run(self.tools.pg_restore, options, source, login, durable=False)
                self._check(done, f"Restoring into {into} failed")
                warnings += failures.warnings(done)
        with self._session(source, into) as session:
            wrong = requirements.differences(session, needed)
        if wrong:
            raise BackupFailed(f"Restoring into {into} failed: {', '.join(wrong)}.", code="restore_requirements")
        return tuple(warnings)

    def _run(
        self, program: Path, options: Sequence[str], source: Source, login: Login, *, durable: bool = True
    ) -> processes.Completed:
        login = login.settled()  # what is written into the file is what is masked
        secret = login.secret()
        secrets = [secret] if secret is not None else []
        with doing(Effect.WORK_FILE):
            self.log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with client_tools.passfile(login, self.log.parent) as passfile:
            environment = client_tools.environment(
                login,
                passfile=passfile,
                application_name=application_name(source.run_id, program.name),
                tools=self.tools,
            )
            if not durable:
                # One flush at the end, by ANALYZE, in place of one an object.
                environment["PGOPTIONS"] = f"{environment.get('PGOPTIONS', '')} -c synchronous_commit=off".strip()
            try:
                done = processes.run(
                    [str(program), "--no-password", *options],
                    timeout_s=self.timeout_s,
                    env=environment,
                    secrets=secrets,
                    check=False,
                )
            except ToolFailed as error:
                raise BackupFailed(
                    f"{program.name} for {login.database} failed: {failures.without_statements(error.message)}",
                    hint="Raise limits.backup_timeout_s." if error.code == "timeout" else error.hint,
                    code=error.code,
                ) from error
        self._write_log(program, done)
        return done

    def _check(self, done: processes.Completed, doing: str) -> None:
        if done.exit_code != 0 or failures.refused_warning(done) is not None:
            raise failures.failed(done, doing, hint=f"What the program said is in {self.log}.")

    @effect(Effect.LOG)
    def _write_log(self, program: Path, done: processes.Completed) -> None:
        text = f"{program.name} ended with {done.exit_code} after {done.duration_s:.1f} s\n"
        text += failures.without_statements(done.stderr)
        descriptor = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        with open(descriptor, "a", encoding="utf-8") as out:
            out.write(text.rstrip() + "\n")

    def _session(self, source: Source, database: str) -> PgSession:
        return connect(source.login.to(database), role="backup", run_id=source.run_id)

    @contextmanager
    def _temporary(self) -> Iterator[Path]:
        with doing(Effect.WORK_FILE):
            self.log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.log.parent, prefix=".archive-") as folder:
            yield Path(folder)

    def _compression(self) -> str:
        # Before 16 the option took a level only.
        return self.tools.compression if self.tools.major >= 16 else self.tools.compression.partition(":")[2]

    def _lock_wait(self) -> str:
        return f"--lock-wait-timeout={max(1, round(self.lock_timeout_s * 1000))}"
