"""The empty database beside the original that a backup is restored into."""

from __future__ import annotations

from migrator.backups import Source
from migrator.errors import BackupFailed
from migrator.postgres.connect import connect

# What a database is born with has an OID below the first ordinary one, or belongs to an extension.
_COUNT_OBJECTS = """
SELECT (SELECT count(*) FROM pg_class WHERE oid >= 16384 AND relpersistence <> 't'
        AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = pg_class.oid
                        AND deptype = 'e'))
     + (SELECT count(*) FROM pg_largeobject_metadata)
     + (SELECT count(*) FROM pg_namespace WHERE oid >= 16384 AND nspname !~ '^pg_(toast_)?temp_')
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
