"""A scratch database is created and filled: how that was done, and what of the target is not in it."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, replace

from migrator.backups import Source
from migrator.backups.dump import Dump
from migrator.errors import BackupFailed, Refused, StepFailed
from migrator.liquibase import ledger
from migrator.postgres import connect, databases, properties, sequences, throwaway
from migrator.postgres.connect import PgSession
from migrator.postgres.throwaway import Mark
from migrator.rehearsals.origin import Origin
from migrator.rehearsals.places import Ground, Place
from migrator.runs import stores
from migrator.runs.run import Run

_STATISTICS_SINCE = 18  # the first server that takes statistics from a login that is no superuser
_NO_ROWS = "rows (but for Liquibase's ledger) and large objects"


@dataclass(frozen=True, kw_only=True)
class Filled:
    how: str  # in words
    missing: tuple[str, ...]  # what of the target is not in it, in words


@dataclass(frozen=True, kw_only=True)
class Filling:
    """`name` on `ground` for the target of `run`."""

    run: Run
    ground: Ground
    origin: Origin
    scratch_id: str
    name: str

    def fill(self) -> Filled:
        """The database is there and filled, and nobody holds Liquibase's lock in it.

        Raises: Refused, BackupFailed, StepFailed; then it may be there half.
        """
        filled = self._fill()
        if self.origin.has_data:  # the lock of a Liquibase that worked on the target at that moment
            with closing(self._session()) as session:
                ledger.release(session, self.run.ledger_schema)
        return filled

    def _fill(self) -> Filled:
        match self.origin.kind:
            case "empty":
                return Filled(how="empty", missing=tuple(self._create()))
            case "schema":
                return self._schema()
            case "clone":
                return self._clone()
            case "backup":
                return self._backup(self.origin.backup_id or "")
            case "dump":
                return self._dump_file()

    def _schema(self) -> Filled:
        missing = self._create()
        source = stores.source(self.run)
        major = connect.server_info(self.run.the_admin()).major
        dump = self._dump()
        how = "its schema alone"
        if min(major, self.ground.server.major, dump.tools.major) < _STATISTICS_SINCE:
            dump.copy(source, self.name, at=self._at(), content="schema")
            missing.append(f"the planner's statistics, which PostgreSQL {major} does not hand over (18 does)")
        else:
            try:
                dump.copy(source, self.name, at=self._at(), content="statistics")
                how = "its schema and the planner's statistics"
            except BackupFailed as error:
                databases.drop(self.ground.admin, self.name)
                self._create()
                dump.copy(source, self.name, at=self._at(), content="schema")
                missing.append(f"the planner's statistics: {error.message}")
        self._copy_ledger()
        missing += self._sequences()
        return Filled(how=how, missing=(_NO_ROWS, *missing))

    def _clone(self) -> Filled:
        """All of the target, of one moment. The server's own copying would shut its users out meanwhile."""
        missing = self._create()
        self._dump().copy(stores.source(self.run), self.name, at=self._at(), content="all")
        return Filled(how="dumped and restored", missing=tuple(missing))

    def _backup(self, backup_id: str) -> Filled:
        store = stores.of(self.run)
        found = store.read(backup_id)
        since = f"what was written since {found.created_at:%Y-%m-%d %H:%M} UTC"
        if found.kind == "clone":
            if self.ground.place is not Place.OWN:
                raise Refused(f"The backup {backup_id} is a copy on the target's own server.", hint="Make it there.")
            with store.opened(backup_id) as folder:
                stores.clone(self.run).verify(stores.source(self.run), folder)
            filled = self._copied(found.copy_name or "", f"copied from the backup {backup_id}")
            return replace(filled, missing=(*filled.missing, since))
        missing = self._create()
        stores.restore(self.run, backup_id, self.name, by=self._dump(), at=self._at())
        return Filled(how=f"restored from the backup {backup_id}", missing=(*missing, since))

    def _dump_file(self) -> Filled:
        if self.origin.file is None:
            raise Refused("No file was named to load a dump from.")
        path = self.origin.file.absolute()
        missing = self._create()
        self._dump().load(path, self.name, at=self._at(), owner=self.ground.like.owner)
        return Filled(how=f"loaded from {path.name}", missing=(*missing, "owners and privileges within the dump"))

    def _copied(self, source: str, how: str) -> Filled:
        """`source` is not the target: it is closed for the time of the copy."""
        databases.copy(
            self.ground.admin,
            source,
            self.name,
            owner=self.ground.like.owner,
            timeout_s=self.run.environment.scratch.timeout_s,
        )
        return Filled(how=how, missing=tuple(self._marked()))

    def _create(self) -> list[str]:
        databases.create_empty(self.ground.admin, self.name, like=self.ground.like)
        return self._marked()

    def _marked(self) -> list[str]:
        """The database says what it is and has the target's settings; which of those it could not be given."""
        admin = self.ground.admin
        mark = Mark(
            environment=self.run.environment.name,
            target=self.run.database,
            origin=str(self.origin),
            since=self.run.now().isoformat(timespec="seconds"),
        )
        throwaway.put(admin, self.name, mark)
        if self.ground.worker.user != self.ground.maker.user:
            throwaway.let_in(admin, self.name, self.ground.worker.user)
        try:
            now = properties.read(admin, self.name)
            properties.apply(admin, self.name, replace(now, settings=self.ground.like.settings))
        except StepFailed as error:
            return [f"settings of the database: {error.message}"]
        return []

    def _copy_ledger(self) -> None:
        """What has run on the target counts as run here: else all of the changelog would be pending."""
        with closing(self.run.session("scratch", read_only=True)) as target:
            rows = ledger.read(target, self.run.ledger_schema)
        if rows:
            with closing(self._session()) as session:
                ledger.put_back(session, self.run.ledger_schema, rows)

    def _sequences(self) -> list[str]:
        """The sequences stand where the target's do; else why not."""
        try:
            with closing(self.run.session("scratch", read_only=True)) as target:
                states = sequences.read(target)
            with closing(self._session()) as session:
                sequences.put_back(session, states)
        except StepFailed as error:
            return [f"values of sequences: {error.message}"]
        return []

    def _session(self) -> PgSession:
        login = self.ground.worker.to(self.name)
        return connect.connect(login, role="scratch", run_id=self.scratch_id)

    def _at(self) -> Source:
        return Source(login=self.ground.maker, admin=self.ground.admin, run_id=self.scratch_id)

    def _dump(self) -> Dump:
        return replace(stores.dump(self.run), timeout_s=self.run.environment.scratch.timeout_s)
