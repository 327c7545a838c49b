"""The record of every run's steps, kept outside the target database. One transaction a call; it holds no secrets."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from migrator import __version__
from migrator.config.login import Secret
from migrator.config.services import JournalAddress
from migrator.errors import MigratorError, Refused, Unfinished
from migrator.failpoints import Effect, effect
from migrator.runs import holder as holders
from migrator.runs import journal_refusals as refusals
from migrator.runs.journal_entries import Json, OpenRun, StoredRun, is_alive, open_run, stored_run
from migrator.runs.journal_schemas import KEPT_DATABASES, KeptSchema, packed, unpacked
from migrator.runs.record import RunRecord

if TYPE_CHECKING:
    from migrator.runs.journal_store import Store
    from migrator.runs.journal_tables import Transaction


class TakenOver(Unfinished):
    """Another process holds the run that this one began: it must neither go on nor go back."""

    code = "taken_over"


class Journal:
    """The journal of one team or one machine. Safe to use from several threads, a heartbeat's among them.

    Before a run has begun failures are Refused (nothing was touched); from then on they are StepFailed.
    """

    def __init__(self, store: Store | None, where: str) -> None:
        self._store = store
        self._held: dict[str, str] = {}  # run_id -> the name under which this process holds it
        self.where = where

    @classmethod
    def open(cls, url: str | Secret | JournalAddress, base: Path, *, read_only: bool = False) -> Journal:
        """The journal at `url` can be used; it was created if need be. A relative SQLite path is below `base`.

        With `read_only` nothing is created or written, and a journal that does not exist yet knows of no run.
        Raises: ConfigError for a URL that names no journal; Refused when it is damaged, not writable or of another
        version.
        """
        from migrator.runs.journal_location import locate, open_store
        from migrator.runs.journal_store import StoreFailed

        if isinstance(url, JournalAddress):
            location = locate(url.url, base, url.login)
        else:
            location = locate(url.reveal() if isinstance(url, Secret) else url, base)
        try:
            return cls(open_store(location, read_only=read_only), location.where)
        except StoreFailed as error:
            raise Refused(
                f"The journal ({location.where}) cannot be used: {error.reason}.", hint=error.remedy, code="journal"
            ) from error

    def close(self) -> None:
        """No connection is open any more. Safe to repeat."""
        if self._store is not None:
            self._store.close()

    @effect(Effect.JOURNAL_BEGIN)
    def begin(self, record: RunRecord, *, target: str, host: str, pid: int, lease_s: float) -> str:
        """The run is recorded as open, held by this process for `lease_s` seconds; the holder's name is returned.

        `target` is `system identifier/database`. The journal's database lets one open run a target in, whoever asks.
        Raises: Locked when another run of the target lives, Unfinished when one was left behind, Refused.
        """
        from migrator.runs.journal_tables import RunRow

        name = holders.this_process(host, pid)
        with self._transaction("begin the run") as transaction:
            if transaction.serves(target):
                raise Refused(
                    f"The journal lies in the database that is to be migrated ({self.where}): a restore of that "
                    "database would take the journal back too.",
                    hint="Name another database, or a SQLite file, in [journal] url.",
                    code="journal",
                )
            now = transaction.now()
            row = RunRow(
                run_id=record.run_id,
                target=target,
                environment=record.environment,
                holder=name,
                lease_until=now + lease_s,
                lease_s=lease_s,
                begun_at=now,
                closed_at=None,
                version=__version__,
                record=record.model_dump_json(),
                facts="{}",
            )
            if not transaction.insert_run(row):
                raise refusals.in_the_way(transaction, row)
        self._held[record.run_id] = name
        return name

    def unfinished(self, target: str) -> OpenRun | None:
        """The open run of the target, or None.

        Raises: Refused.
        """
        return next(iter(self._open_runs(target)), None)

    def open_runs(self) -> list[OpenRun]:
        """Every run that has not ended, the oldest first.

        Raises: Refused.
        """
        return self._open_runs(None)

    def get(self, run_id: str) -> StoredRun:
        """All that is known of the run.

        Raises: Refused when the journal does not know it; Unfinished when a newer migrator wrote it.
        """
        if self._store is not None:
            with self._transaction(f"read run {run_id}", writes=False) as transaction:
                row = transaction.run(run_id)
                steps, now = transaction.steps(run_id), transaction.now()
            if row is not None:
                try:
                    return stored_run(row, steps, now)
                except ValueError as error:
                    raise Unfinished(
                        f"Run {run_id} was recorded by migrator {row.version}; this is {__version__}, which cannot "
                        "read that record.",
                        hint=f"Use migrator {row.version} for this run.",
                        code="other_version",
                    ) from error
        raise Refused(
            f"The journal ({self.where}) knows of no run {run_id}.",
            hint="`migrator history` lists the runs that it knows.",
            code="no_such_run",
        )

    def history(self, environment: str | None = None, limit: int = 20) -> list[StoredRun]:
        """The latest runs, newest first. One whose record cannot be read is shown with a warning instead of its story.

        Raises: Refused.
        """
        if self._store is None:
            return []
        with self._transaction("read the history", writes=False) as transaction:
            now = transaction.now()
            rows = transaction.latest_runs(environment, limit)
            return [stored_run(row, transaction.steps(row.run_id), now, or_outline=True) for row in rows]

    @effect(Effect.JOURNAL_STEP_STARTED)
    def step_started(self, run_id: str, attempt: int, name: str) -> None:
        """The step is recorded as running: to be called before its first effect. Safe to repeat.

        Raises: StepFailed; TakenOver.
        """
        from migrator.runs.journal_tables import StepRow

        with self._transaction(f"record the start of step {name}", run_id=run_id) as transaction:
            self._write(transaction, run_id)
            transaction.start_step(
                StepRow(
                    run_id=run_id,
                    attempt=attempt,
                    name=str(name),
                    status="running",
                    started_at=transaction.now(),
                    ended_at=None,
                    note=None,
                )
            )

    @effect(Effect.JOURNAL_STEP_ENDED)
    def step_ended(self, run_id: str, attempt: int, name: str, status: str, note: str | None = None) -> None:
        """The step is recorded as ended: to be called after its last effect. Safe to repeat.

        Raises: StepFailed; TakenOver.
        """
        with self._transaction(f"record the end of step {name}", run_id=run_id) as transaction:
            self._write(transaction, run_id)
            note = None if note is None else _plain(note)
            transaction.end_step(run_id, attempt, str(name), status=status, note=note)

    @effect(Effect.JOURNAL_SAVE)
    def save(self, record: RunRecord, facts: Mapping[str, Json]) -> None:
        """The whole record and all facts are stored; what was stored of them before is replaced.

        Raises: StepFailed; TakenOver.
        """
        try:
            text = json.dumps(dict(facts), allow_nan=False)
        except (TypeError, ValueError) as error:
            raise MigratorError(f"The facts of run {record.run_id} are not JSON: {error}.") from error
        with self._transaction("save the run", run_id=record.run_id) as transaction:
            self._write(transaction, record.run_id, record=record.model_dump_json(), facts=text)

    def knows(self, run_id: str) -> bool:
        """True when this process has begun the run or taken it over, so that its steps can be recorded."""
        return run_id in self._held

    @effect(Effect.JOURNAL_RENEW)
    def renew(self, run_id: str, lease_s: float) -> bool:
        """The lease ends `lease_s` seconds from now. False when the run has ended or this process does not hold it.

        Raises: StepFailed.
        """
        holder = self._held.get(run_id)
        if holder is None:
            return False
        with self._transaction("renew the lease", run_id=run_id) as transaction:
            return transaction.renew(run_id, holder, until=transaction.now() + lease_s, lease_s=lease_s)

    @effect(Effect.JOURNAL_TAKE_OVER)
    def take_over(self, run_id: str, *, lease_s: float, force: bool = False) -> str:
        """This process holds the run for `lease_s` seconds; who held it notices. The holder's name is returned.

        `force` takes it from a process whose lease is alive. Raises: Locked; Refused when there is no such open run.
        """
        name = holders.this_process()
        with self._transaction(f"take over run {run_id}") as transaction:
            row = transaction.run(run_id, for_update=True)
            if row is None or row.closed_at is not None:
                what = "knows of no such run" if row is None else "says that it has ended"
                raise Refused(
                    f"Run {run_id} cannot be taken over: the journal ({self.where}) {what}.",
                    hint="`migrator history` lists the runs that it knows.",
                    code="no_such_run",
                )
            now = transaction.now()
            if row.holder != self._held.get(run_id) and not force and is_alive(row, now):
                raise refusals.locked(open_run(row, transaction.steps(run_id), now))
            transaction.hand_over(run_id, name, until=now + lease_s, lease_s=lease_s)
        self._held[run_id] = name
        return name

    @effect(Effect.JOURNAL_CLOSE)
    def close_run(self, run_id: str, record: RunRecord, schema: Mapping[str, str] | None = None) -> None:
        """The run has ended: another run of the target may begin. Safe to repeat.

        `schema` is what it left, where that was verified: what is there later is compared with it.
        Raises: StepFailed; TakenOver.
        """
        from migrator.runs.journal_tables import SchemaRow

        with self._transaction("close the run", run_id=run_id) as transaction:
            now = transaction.now()
            self._write(transaction, run_id, record=record.model_dump_json(), closed_at=now)
            row = transaction.run(run_id) if schema is not None else None
            if row is not None and schema is not None:
                kept = SchemaRow(target=row.target, run_id=run_id, at=now, note=None, objects=packed(schema))
                transaction.keep_schema(kept, most=KEPT_DATABASES)

    @effect(Effect.JOURNAL_SAVE)
    def accept_schema(self, target: str, objects: Mapping[str, str], note: str) -> None:
        """From now on the target's schema is compared with this one. Safe to repeat.

        Raises: Refused.
        """
        from migrator.runs.journal_tables import SchemaRow

        with self._transaction("accept the schema") as transaction:
            row = SchemaRow(
                target=target, run_id=None, at=transaction.now(), note=_plain(note), objects=packed(objects)
            )
            if not transaction.keep_schema(row, most=KEPT_DATABASES):
                raise Refused(
                    f"The journal ({self.where}) has no table for schemas, and could not make it.",
                    hint="Let its role create tables: GRANT CREATE ON SCHEMA public, as the schema's owner.",
                    code="journal",
                )

    def schema(self, target: str) -> KeptSchema | None:
        """What the target's schema was when its last verified run ended, or a person accepted it; None: not known.

        Raises: Refused.
        """
        if self._store is None:
            return None
        with self._transaction("read the schema", writes=False) as transaction:
            row = transaction.schema(target)
        if row is None:
            return None
        try:
            objects = unpacked(row.objects)
        except ValueError as error:
            raise Refused(
                f"What the journal ({self.where}) knows of the schema is damaged: {error}.",
                hint="Accept the schema as it is: migrator drift --accept REASON",
                code="journal",
            ) from error
        return KeptSchema(run_id=row.run_id, at=datetime.fromtimestamp(row.at, UTC), note=row.note, objects=objects)

    def _open_runs(self, target: str | None) -> list[OpenRun]:
        if self._store is None:
            return []
        with self._transaction("look for unfinished runs", writes=False) as transaction:
            now = transaction.now()
            return [open_run(row, transaction.steps(row.run_id), now) for row in transaction.open_runs(target)]

    def _write(self, transaction: Transaction, run_id: str, **values: object) -> None:
        """The run's row is changed, by its holder only."""
        if transaction.update_run(run_id, self._held.get(run_id), {"version": __version__, **values}):
            return
        row = transaction.run(run_id)
        if row is None:
            raise refusals.failed(
                self.where, run_id, "write of it", "it does not know this run any more", refusals.SEE_FENCE
            )
        raise TakenOver(
            f"Run {run_id} was taken over by {holders.describe(row.holder)}; this process leaves it alone from now on.",
            hint=f"See `migrator show {run_id}`.",
        )

    @contextmanager
    def _transaction(self, doing: str, *, writes: bool = True, run_id: str | None = None) -> Iterator[Transaction]:
        """One transaction; a failure is StepFailed for a run that has begun (`run_id`), else Refused."""
        from migrator.runs.journal_store import StoreFailed

        if self._store is None or (writes and self._store.read_only):
            raise MigratorError(f"The journal ({self.where}) was opened for reading only; it cannot {doing}.")
        try:
            with self._store.transaction(writes=writes) as transaction:
                yield transaction
        except StoreFailed as error:
            if run_id is not None:
                raise refusals.failed(self.where, run_id, doing, error.reason, error.remedy) from error
            raise Refused(
                f"The journal ({self.where}) could not {doing}: {error.reason}.", hint=error.remedy, code="journal"
            ) from error


def _plain(text: str) -> str:
    """The text as both databases can hold it: no NUL, no half of a surrogate pair."""
    return text.replace("\0", "\\0").encode("utf-8", "backslashreplace").decode("utf-8")
