"""The journal's tables, and what one transaction reads and writes in them; the same in SQLite and in PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc

SCHEMA_VERSION = 1

metadata = sa.MetaData()
versions = sa.Table(
    "migrator_journal",
    metadata,
    sa.Column("version", sa.Integer, primary_key=True),
)
_runs = sa.Table(
    "migrator_run",
    metadata,
    sa.Column("run_id", sa.Text, primary_key=True),
    sa.Column("target", sa.Text, nullable=False),
    sa.Column("environment", sa.Text, nullable=False),
    sa.Column("holder", sa.Text, nullable=False),
    sa.Column("lease_until", sa.Double, nullable=False),  # seconds since 1970, by the journal's clock
    sa.Column("lease_s", sa.Double, nullable=False),
    sa.Column("begun_at", sa.Double, nullable=False),
    sa.Column("closed_at", sa.Double),
    sa.Column("version", sa.Text, nullable=False),  # of the migrator that wrote last
    sa.Column("record", sa.Text, nullable=False),
    sa.Column("facts", sa.Text, nullable=False),
)
sa.Index(
    "migrator_run_one_open",
    _runs.c.target,
    unique=True,
    sqlite_where=_runs.c.closed_at.is_(None),
    postgresql_where=_runs.c.closed_at.is_(None),
)
_steps = sa.Table(
    "migrator_step",
    metadata,
    sa.Column("run_id", sa.Text, sa.ForeignKey("migrator_run.run_id"), primary_key=True),
    sa.Column("attempt", sa.Integer, primary_key=True),
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("started_at", sa.Double, nullable=False),
    sa.Column("ended_at", sa.Double),
    sa.Column("note", sa.Text),
)
# Not in every journal of this version: those that were begun without it get it when they are next written.
schemas = sa.Table(
    "migrator_schema",
    metadata,
    sa.Column("target", sa.Text, primary_key=True),
    sa.Column("run_id", sa.Text),  # that left the schema; null where a person accepted it
    sa.Column("at", sa.Double, nullable=False),
    sa.Column("note", sa.Text),
    sa.Column("objects", sa.LargeBinary, nullable=False),
)


@dataclass(frozen=True, kw_only=True)
class SchemaRow:
    """The schema of one database, packed. `at` is in seconds since 1970 by the journal's clock."""

    target: str
    run_id: str | None
    at: float
    note: str | None
    objects: bytes


@dataclass(frozen=True, kw_only=True)
class RunRow:
    """One row of the runs. Times are seconds since 1970 by the journal's clock."""

    run_id: str
    target: str
    environment: str
    holder: str
    lease_until: float
    lease_s: float
    begun_at: float
    closed_at: float | None
    version: str
    record: str
    facts: str


@dataclass(frozen=True, kw_only=True)
class StepRow:
    """One attempt at a step. Times are seconds since 1970 by the journal's clock."""

    run_id: str
    attempt: int
    name: str
    status: str
    started_at: float
    ended_at: float | None
    note: str | None


class Transaction:
    """What is read and written in one transaction of the journal."""

    def __init__(self, connection: sa.Connection, clock: Callable[[], float]) -> None:
        self._connection = connection
        self._postgres = connection.dialect.name == "postgresql"
        self._clock = clock

    def now(self) -> float:
        """Seconds since 1970: by the server's clock on PostgreSQL, so that machines need not agree; else by ours."""
        if self._postgres:
            sql = sa.select(sa.cast(sa.extract("epoch", sa.func.clock_timestamp()), sa.Double))
            return float(self._connection.scalar(sql) or 0.0)
        return self._clock()

    def exists(self) -> bool:
        """True when the journal's tables have been made."""
        return sa.inspect(self._connection).has_table(versions.name)

    def serves(self, target: str) -> bool:
        """True when this journal lies in the very database that `target` (system identifier/database) names."""
        if not self._postgres:
            return False
        try:
            with self._connection.begin_nested():
                sql = sa.text("SELECT system_identifier || '/' || current_database() FROM pg_control_system()")
                return bool(self._connection.scalar(sql) == target)
        except exc.ProgrammingError:
            return False

    def insert_run(self, row: RunRow) -> bool:
        """The run was added; False when its target has an open run, or its id is taken."""
        try:
            with self._connection.begin_nested():
                self._connection.execute(_runs.insert().values(**vars(row)))
        except exc.IntegrityError:
            return False
        return True

    def update_run(self, run_id: str, holder: str | None, values: Mapping[str, object]) -> bool:
        """The run was changed; False when there is none, or it is not held by `holder` (None: by anybody)."""
        update = _runs.update().where(_runs.c.run_id == run_id)
        if holder is not None:
            update = update.where(_runs.c.holder == holder)
        return self._connection.execute(update.values(**values)).rowcount == 1

    def renew(self, run_id: str, holder: str, *, until: float, lease_s: float) -> bool:
        """The lease ends at `until`; False when `holder` does not hold the run, or it has ended."""
        update = _runs.update().where(_runs.c.run_id == run_id, _runs.c.holder == holder, _runs.c.closed_at.is_(None))
        return self._connection.execute(update.values(lease_until=until, lease_s=lease_s)).rowcount == 1

    def hand_over(self, run_id: str, holder: str, *, until: float, lease_s: float) -> None:
        """The run is held by `holder`."""
        self.update_run(run_id, None, {"holder": holder, "lease_until": until, "lease_s": lease_s})

    def run(self, run_id: str, *, for_update: bool = False) -> RunRow | None:
        query = sa.select(_runs).where(_runs.c.run_id == run_id)
        found = self._runs(query.with_for_update() if for_update else query)
        return found[0] if found else None

    def open_runs(self, target: str | None = None) -> list[RunRow]:
        query = sa.select(_runs).where(_runs.c.closed_at.is_(None))
        if target is not None:
            query = query.where(_runs.c.target == target)
        return self._runs(query.order_by(_runs.c.begun_at))

    def latest_runs(self, environment: str | None, limit: int) -> list[RunRow]:
        query = sa.select(_runs)
        if environment is not None:
            query = query.where(_runs.c.environment == environment)
        return self._runs(query.order_by(_runs.c.begun_at.desc(), _runs.c.run_id.desc()).limit(limit))

    def _runs(self, query: sa.Select[Any]) -> list[RunRow]:
        return [RunRow(**row) for row in self._connection.execute(query).mappings()]

    def keep_schema(self, row: SchemaRow, *, most: int) -> bool:
        """The row is that of its target, among the latest `most` of all; False where the journal has no such table."""
        if not sa.inspect(self._connection).has_table(schemas.name):
            return False
        self._connection.execute(schemas.delete().where(schemas.c.target == row.target))
        self._connection.execute(schemas.insert().values(**vars(row)))
        latest = sa.select(schemas.c.target).order_by(schemas.c.at.desc()).limit(most)
        self._connection.execute(schemas.delete().where(schemas.c.target.not_in(latest)))
        return True

    def schema(self, target: str) -> SchemaRow | None:
        if not sa.inspect(self._connection).has_table(schemas.name):
            return None
        rows = self._connection.execute(sa.select(schemas).where(schemas.c.target == target)).mappings()
        return next((SchemaRow(**row) for row in rows), None)

    def start_step(self, row: StepRow) -> None:
        """The step is recorded as running; an earlier record of the same attempt is replaced."""
        self._connection.execute(_steps.delete().where(_this_step(row.run_id, row.attempt, row.name)))
        self._connection.execute(_steps.insert().values(**vars(row)))

    def end_step(self, run_id: str, attempt: int, name: str, *, status: str, note: str | None) -> None:
        """The step is recorded as ended now, whether its start was recorded or not."""
        now = self.now()
        update = _steps.update().where(_this_step(run_id, attempt, name))
        if self._connection.execute(update.values(status=status, ended_at=now, note=note)).rowcount == 0:
            new = StepRow(
                run_id=run_id, attempt=attempt, name=name, status=status, started_at=now, ended_at=now, note=note
            )
            self._connection.execute(_steps.insert().values(**vars(new)))

    def steps(self, run_id: str) -> list[StepRow]:
        query = sa.select(_steps).where(_steps.c.run_id == run_id)
        rows = self._connection.execute(query.order_by(_steps.c.started_at, _steps.c.attempt)).mappings()
        return [StepRow(**row) for row in rows]


def _this_step(run_id: str, attempt: int, name: str) -> sa.ColumnElement[bool]:
    return sa.and_(_steps.c.run_id == run_id, _steps.c.attempt == attempt, _steps.c.name == name)
