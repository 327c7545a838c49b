"""Runs with a backfill between their changesets: what they are given, and how its rows must be afterwards."""

from __future__ import annotations

from contextlib import closing

from migrator.postgres.connect import connect
from tests.acceptance.stage import BAD, GOOD, Stage
from tests.sweep.writers import TABLE

CHANGELOG = "moving/changelog.sql"

# A row that is moved twice, or taken back twice, shows it: each time a letter is put before it, or taken from it.
_OFFLINE = """
name = "marked"
after = "fill::crash"
table = "customer"
key = ["id"]
statement = "update customer c set email = 'x' || c.email from batch b where c.id = b.id"
verify = "select id from customer where email !~ '^x(c|new@)'"
undo = "update customer c set email = substr(c.email, 2) from batch b where c.id = b.id"
batch_rows = 60
"""
_MARKED = "'x' || case when id <= 200 then 'c' || id || '@shop' else 'new@shop' end"

# The application inserts into the table that is moved, all the time.
_ONLINE = f"""
name = "marked"
after = "twice::crash"
table = "{TABLE}"
key = ["writer", "number"]
statement = \"\"\"
update {TABLE} w set twice = 2 * w.number from batch b where w.writer = b.writer and w.number = b.number
\"\"\"
verify = "select writer, number from {TABLE} where twice is distinct from 2 * number"
undo = "update {TABLE} w set twice = null from batch b where w.writer = b.writer and w.number = b.number"
capture = "trigger"
batch_rows = 60
"""
_TWICE = f"""--changeset crash:twice
alter table {TABLE} add column twice int;
--rollback alter table {TABLE} drop column twice;
"""
_LAST = "--changeset crash:pause\n"  # comes after the backfill, and so does what follows it
_LEDGER = {"migrator_backfills", "migrator_backfill_ranges"}
_CAPTURE = {"migrator_backfill_marked", "migrator_backfill_marked:update"}
_WHOLE = {"moved": GOOD, "unmoved": BAD}


def set_up(stage: Stage, *, outcome: str, mode: str) -> None:
    """The changelog is there, in a folder of its own with its backfill."""
    text = _WHOLE[outcome]
    if mode == "none":
        text = text.replace(_LAST, _TWICE + _LAST)
    stage.write("moving/marked.backfill.toml", _ONLINE if mode == "none" else _OFFLINE)
    stage.write(CHANGELOG, text)


def assert_moved(stage: Stage, *, mode: str) -> None:
    """Every row is moved once, those that were written meanwhile too, and the database knows that it is proven."""
    with closing(connect(stage.login, role="look", run_id="test")) as session:
        wrong = "twice is distinct from 2 * number" if mode == "none" else f"email is distinct from {_MARKED}"
        table = TABLE if mode == "none" else "customer"
        assert session.rows(f"select count(*) from {table} where {wrong}") == [("0",)], "rows are not moved once"
        [(state, moved)] = session.rows(
            "select state, sum(rows_done)::int from migrator_backfills join migrator_backfill_ranges using (name)"
            " where phase = 'move' group by 1"
        )
        assert state == "verified", f"the backfill is {state}"
        assert mode == "none" or moved == "201", f"{moved} rows were moved"
    there = _put_there(stage)
    assert there == _LEDGER | (_CAPTURE if mode == "none" else set()), f"of the backfill is there: {sorted(there)}"


def assert_nothing_left(stage: Stage) -> None:
    """Of the backfill there is no table, trigger or function."""
    left = _put_there(stage)
    assert not left, f"of the backfill is left: {sorted(left)}"


def _put_there(stage: Stage) -> set[str]:
    with closing(connect(stage.login, role="look", run_id="test")) as session:
        return {
            str(name)
            for (name,) in session.rows(
                "select relname from pg_class where relname ~ '^migrator_backfill' and relkind = 'r'"
                " union select tgname from pg_trigger where tgname ~ '^migrator_backfill'"
                " union select proname from pg_proc where proname ~ '^migrator_backfill'"
            )
        }
