"""What the open transaction wrote, without a scan: PostgreSQL keeps its locks until the transaction ends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from migrator.postgres.session import Session

# Large objects that are written or unlinked keep no lock: they are told by what was counted.
# pg_identify_object reads the catalogue as it is now; a join with pg_class would, at REPEATABLE READ, miss a table
# that another session created after this transaction began.
QUERY = """\
SELECT DISTINCT o.identity
FROM pg_catalog.pg_locks l,
     LATERAL pg_catalog.pg_identify_object('pg_catalog.pg_class'::pg_catalog.regclass, l.relation, 0) o
WHERE l.pid = pg_catalog.pg_backend_pid() AND l.locktype = 'relation' AND l.granted
  AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database())
  AND l.mode NOT IN ('AccessShareLock', 'RowShareLock')
  AND o.type IN ('table', 'materialized view', 'foreign table')
  AND (o.schema !~ '^(pg_|information_schema$)' OR o.identity = 'pg_catalog.pg_largeobject')
UNION
SELECT 'pg_catalog.pg_largeobject' FROM pg_catalog.pg_stat_xact_sys_tables s
WHERE s.schemaname = 'pg_catalog' AND s.relname IN ('pg_largeobject', 'pg_largeobject_metadata')
  AND s.n_tup_ins + s.n_tup_upd + s.n_tup_del > 0
ORDER BY 1"""

COUNTS_QUERY = """\
SELECT pg_catalog.quote_ident(s.schemaname) || '.' || pg_catalog.quote_ident(s.relname),
       s.n_tup_ins::pg_catalog.text, s.n_tup_upd::pg_catalog.text, s.n_tup_del::pg_catalog.text
FROM pg_catalog.pg_stat_xact_user_tables s
WHERE s.n_tup_ins + s.n_tup_upd + s.n_tup_del > 0 AND s.schemaname !~ '^pg_temp'
ORDER BY 1"""


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Rows that one table's statements touched, those undone by a savepoint included."""

    inserted: int = 0
    updated: int = 0
    deleted: int = 0

    def __sub__(self, earlier: Counts) -> Counts:
        return Counts(
            inserted=self.inserted - earlier.inserted,
            updated=self.updated - earlier.updated,
            deleted=self.deleted - earlier.deleted,
        )


def read(session: Session) -> frozenset[str]:
    """Qualified names of every table, partition, materialized and foreign table that this transaction may have written.

    A table that is not named was not written by it; one that is may have been locked only (CREATE INDEX, VALIDATE,
    ANALYZE). `pg_catalog.pg_largeobject` stands for large objects. Not seen: writes through dblink, and tables that
    the transaction dropped again. Names are quoted where PostgreSQL would. Ask before the commit: afterwards nothing
    is left. Safe to repeat.
    """
    return frozenset(str(name) for (name,) in session.rows(QUERY))


def counts(session: Session) -> dict[str, Counts]:
    """Rows inserted, updated and deleted by this transaction, by table; empty where `track_counts` is off.

    Contains statements of the session that were not yet flushed to the statistics: subtract what was there before,
    with `since`.
    """
    return {
        str(name): Counts(inserted=int(inserted or 0), updated=int(updated or 0), deleted=int(deleted or 0))
        for name, inserted, updated, deleted in session.rows(COUNTS_QUERY)
    }


def since(before: Mapping[str, Counts], now: Mapping[str, Counts]) -> dict[str, Counts]:
    """What was counted between two readings; tables without a difference are left out."""
    nothing = Counts()
    differences = {name: count - before.get(name, nothing) for name, count in now.items()}
    return {name: count for name, count in differences.items() if count != nothing}
