"""The database beside the original that a backup is restored into."""

from __future__ import annotations

from contextlib import ExitStack

from psycopg import sql

from migrator.backups import Source
from migrator.errors import BackupFailed
from migrator.failpoints import Effect, effect
from migrator.postgres.connect import connect
from migrator.postgres.session import Session
from migrator.postgres.spread import spread
from migrator.postgres.transactions import statement

# What a database is born with has an OID below the first ordinary one, or belongs to an extension.
_COUNT_OBJECTS = """
SELECT (SELECT count(*) FROM pg_class WHERE oid >= 16384 AND relpersistence <> 't'
        AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = pg_class.oid
                        AND deptype = 'e'))
     + (SELECT count(*) FROM pg_largeobject_metadata)
     + (SELECT count(*) FROM pg_namespace WHERE oid >= 16384 AND nspname !~ '^pg_(toast_)?temp_')
"""

# A partitioned table takes its partitions along.
_TABLES = """
SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'm') AND NOT c.relispartition AND c.oid >= 16384 AND c.relpersistence <> 't'
ORDER BY c.relkind = 'p' DESC, pg_table_size(c.oid) DESC
"""


def require_empty(source: Source, database: str) -> None:
    """The database `database` of the source's server has nothing in it that somebody made.

    Raises: BackupFailed; StepFailed when it cannot be asked.
    """
    with connect(source.login.to(database), role="backup", run_id=source.run_id) as session:
        if session.rows(_COUNT_OBJECTS) != [("0",)]:
            raise BackupFailed(
                f"The database {database} is not empty; nothing was restored into it.",
                hint="A restore goes into an empty database beside the original.",
            )


def analyze(source: Source, database: str, *, jobs: int, timeout_s: float) -> None:
    """Every table of the database has statistics, so that its first users do not meet bad plans.

    The commits wait for the disk: they make durable what was restored without waiting. `timeout_s` is for each table.
    Safe to repeat. Raises: StepFailed.
    """
    with ExitStack() as stack:
        sessions = [
            stack.enter_context(connect(source.login.to(database), role="backup", run_id=source.run_id))
            for _ in range(jobs)
        ]
        for session in sessions:
            session.execute(statement("SET statement_timeout = {}", sql.Literal(max(1, round(timeout_s * 1000)))))
        spread(sessions, [name or "" for (name,) in sessions[0].rows(_TABLES)], _analyze)


@effect(Effect.ANALYZE)
def _analyze(session: Session, table: str) -> None:
    session.execute("ANALYZE " + table)  # quoted by the server
