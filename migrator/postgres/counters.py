"""Which tables were written since an earlier look, told by the server's own counters: no row is read.

Every session adds what it inserted, updated and deleted to the counters of the table, also where it rolled that back,
at the latest when it ends; TRUNCATE, a rewrite and REFRESH give the table another file. Counters that stand still are
evidence; ones that were reset, switched off or went down are none.
Source: PostgreSQL documentation, "The Cumulative Statistics System"; `pgstat_relation.c` (a rollback counts too).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from migrator.errors import StepFailed
from migrator.postgres.catalog import QUALIFIED, USER_SCHEMA
from migrator.postgres.session import Session
from migrator.postgres.transactions import Deadline

LARGE_OBJECTS = frozenset({"pg_catalog.pg_largeobject", "pg_catalog.pg_largeobject_metadata"})
_FRESH_S = 10.0


@dataclass(frozen=True, kw_only=True)
class Counters:
    """What the server had counted at one moment, in one database."""

    witness: str  # equal in two looks: nothing was reset or switched off in between
    tables: Mapping[
        str, tuple[int, int, int, int, int]
    ]  # oid, file, rows inserted, updated, deleted; by qualified name


def read(session: Session) -> Counters:
    """The counters now, of all tables, materialized views and large objects. `session` is in no transaction.

    What a session that still lives has not reported yet is not in them: end it first, or expect it up to a second late.
    Raises: StepFailed, also where the server's statistics do not arrive.
    """
    _wait_for_fresh(session)
    [(witness,)] = session.rows(_WITNESS)
    return Counters(
        witness=witness or "off",
        tables={
            str(name): (int(oid or 0), int(file or 0), int(inserted or 0), int(updated or 0), int(deleted or 0))
            for name, oid, file, inserted, updated, deleted in session.rows(_COUNTED)
        },
    )


def moved(before: Counters, now: Counters) -> frozenset[str] | None:
    """The tables that may have been written between the two, by the names that they had; None: nobody can tell.

    A table that is new has the name that it has now. One that got another name and nothing else was not written.
    """
    if before.witness != now.witness or before.witness == "off":
        return None
    then = {counted[0]: (name, counted) for name, counted in before.tables.items()}
    found = set()
    for name, (oid, *numbers) in now.tables.items():
        was, counted = then.pop(oid, (name, None))
        if counted is not None and any(
            later < earlier for earlier, later in zip(counted[2:], numbers[1:], strict=True)
        ):
            return None
        if counted is None or numbers != list(counted[1:]):
            found.add(was)
    return frozenset(found | {name for name, _ in then.values()})


def _wait_for_fresh(session: Session) -> None:
    """Up to 14 the statistics are a file that a process of its own writes when it is asked, and not at once."""
    if int(session.rows("SHOW server_version_num")[0][0] or 0) >= 150000:
        return
    [(asked,)] = session.rows("SELECT pg_catalog.clock_timestamp()")
    deadline = Deadline(_FRESH_S)
    while session.rows(f"SELECT pg_catalog.pg_stat_get_snapshot_timestamp() >= '{asked}'::timestamptz") != [("t",)]:
        if deadline.passed:
            raise StepFailed(f"The server's statistics did not arrive within {_FRESH_S:g} s.")
        deadline.pause()


# A crash resets what is counted for the whole cluster too, and says when; `off` where somebody may write uncounted.
_WITNESS = """
SELECT CASE WHEN pg_catalog.current_setting('track_counts') = 'on' AND NOT EXISTS (
           SELECT FROM pg_catalog.pg_db_role_setting AS s, pg_catalog.unnest(s.setconfig) AS item
           WHERE item LIKE 'track_counts=%')
       THEN pg_catalog.concat_ws(' ', d.datid, pg_catalog.pg_postmaster_start_time(), d.stats_reset,
           (SELECT a.stats_reset FROM pg_catalog.pg_stat_archiver AS a)) END
FROM pg_catalog.pg_stat_database AS d WHERE d.datname = pg_catalog.current_database()
"""
_COUNTED = f"""
SELECT {QUALIFIED}, c.oid, c.relfilenode, pg_catalog.pg_stat_get_tuples_inserted(c.oid),
       pg_catalog.pg_stat_get_tuples_updated(c.oid), pg_catalog.pg_stat_get_tuples_deleted(c.oid)
FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'm') AND c.relpersistence <> 't' AND ({USER_SCHEMA}
      OR (n.nspname = 'pg_catalog' AND c.relname IN ('pg_largeobject', 'pg_largeobject_metadata')))
"""  # noqa: S608 (constants of this module)
