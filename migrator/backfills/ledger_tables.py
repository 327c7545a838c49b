"""The two tables of the backfills' ledger, beside Liquibase's: found, and made with the first backfill."""

from __future__ import annotations

from dataclasses import dataclass

from psycopg import sql

from migrator.errors import StepFailed
from migrator.failpoints import Effect, effect
from migrator.liquibase import ledger as liquibase_ledger
from migrator.postgres.session import Session
from migrator.postgres.transactions import statement

TABLE = "migrator_backfills"
RANGES = "migrator_backfill_ranges"


@dataclass(frozen=True, kw_only=True)
class Tables:
    """The names of the two tables, qualified."""

    backfills: sql.Identifier
    ranges: sql.Identifier

    @property
    def named(self) -> dict[str, sql.Composable]:
        return {"backfills": self.backfills, "ranges": self.ranges}


def is_one(table: str) -> bool:
    """Whether a qualified name is one of these two tables."""
    return table.rpartition(".")[2] in (TABLE, RANGES)


def found(session: Session, schema: str | None) -> Tables | None:
    """The two tables; None where they are not there."""
    backfills = liquibase_ledger.found_table(session, schema, TABLE)
    parts = liquibase_ledger.found_table(session, schema, RANGES)
    return Tables(backfills=backfills, ranges=parts) if backfills is not None and parts is not None else None


def required(session: Session, schema: str | None) -> Tables:
    """The two tables, with every column that batches write. Raises: StepFailed where they are not there."""
    tables = found(session, schema)
    if tables is None:
        raise StepFailed(f"the tables {TABLE} and {RANGES} are gone", code="ledger_gone")
    _complete(session, tables)
    return tables


def created(session: Session, schema: str | None) -> Tables:
    """The two tables, made where they were not there. Inside a transaction only. Raises: StepFailed."""
    tables = found(session, schema)
    if tables is not None:
        return tables
    if schema is None:
        [(schema,)] = session.rows("SELECT current_schema()")
    if schema is None:
        raise StepFailed(
            "there is no schema in the search path for the backfills' tables",
            code="no_schema",
            hint="Name one as liquibase.schema, or let the role's search_path have one that exists.",
        )
    [(there,)] = session.rows(
        statement(
            "SELECT nspname FROM pg_namespace WHERE nspname IN ({}, {}) ORDER BY nspname = {} DESC LIMIT 1",
            sql.Literal(schema),
            sql.Literal(liquibase_ledger.stored_name(schema)),
            sql.Literal(schema),
        )
    ) or [(schema,)]
    tables = Tables(backfills=sql.Identifier(str(there), TABLE), ranges=sql.Identifier(str(there), RANGES))
    session.execute(statement(_CREATE, **tables.named))
    return tables


@effect(Effect.BACKFILL_LEDGER)
def _complete(session: Session, tables: Tables) -> None:
    """A ledger of an earlier version has what came since; it is locked only where something is missing."""
    there = statement(
        "SELECT FROM pg_attribute WHERE attrelid = to_regclass({}) AND attname = 'written' AND NOT attisdropped",
        sql.Literal(tables.ranges.as_string(None)),
    )
    if not session.rows(there):
        session.execute(
            statement(
                "ALTER TABLE {ranges} ADD COLUMN IF NOT EXISTS written jsonb NOT NULL DEFAULT '[]'", **tables.named
            )
        )


_CREATE = """
CREATE TABLE {backfills} (
    name text PRIMARY KEY,
    checksum text NOT NULL,
    table_name text NOT NULL,
    definition jsonb NOT NULL,
    state text NOT NULL,
    run_id text NOT NULL,
    total bigint,
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    ended_at timestamptz,
    verified_at timestamptz,
    paused_because text
);
CREATE TABLE {ranges} (
    name text NOT NULL,
    phase text NOT NULL,
    number integer NOT NULL,
    low jsonb,
    high jsonb,
    cursor jsonb,
    rows_done bigint NOT NULL DEFAULT 0,
    rows_walked bigint NOT NULL DEFAULT 0,
    batches bigint NOT NULL DEFAULT 0,
    written jsonb NOT NULL DEFAULT '[]',
    done boolean NOT NULL DEFAULT false,
    PRIMARY KEY (name, phase, number)
)"""
