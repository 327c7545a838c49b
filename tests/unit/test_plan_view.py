"""A plan reads well at 80 columns, and shows what a person has to know before a run."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from migrator.plans.gate import GateState
from migrator.plans.plan import (
    BackupView,
    DiskView,
    Estimate,
    FindingView,
    InTheWay,
    LeftOut,
    ObstacleView,
    Plan,
    ProofView,
)
from migrator.reports import plan_view
from migrator.reports.symbols import ASCII, UNICODE
from tests.unit.test_plan import a_changeset, a_plan

LONG = "a sentence of many words that goes on and on " * 5


def a_full_plan(**fields: Any) -> Plan:
    document: dict[str, Any] = {
        "changesets": (
            a_changeset(1, sql=("create table a (\n    b int,\n    c text\n)", "select 1"), comment=LONG, line=3),
            a_changeset(
                2,
                has_rollback=False,
                in_transaction=False,
                precondition="fails",
                precondition_says="1 row, not 0",
                on_fail="MARK_RAN",
            ),
            a_changeset(3, sql=(), precondition="unknown", precondition_says="there is no ledger yet"),
            a_changeset(4, sql=("\n".join(f"line {number}" for number in range(30)),)),
        ),
        "proof": ProofView(level="touched", reason="asked for", tables=2, estimate_s=1.0, will_not_prove=(LONG, LONG)),
        "backups": (BackupView(kind="dump", where="backups", size_bytes=22_000_000),),
        "estimate": Estimate(backup_s=130.0, proof_s=1.0, restore_s=3.0, basis="the last run of this environment"),
        "disk": (DiskView(where="the server", needed_for="a copy", needed_bytes=5, free_bytes=None),),
        "in_the_way": (
            InTheWay(
                pid=7,
                user="app",
                application="billing",
                state="idle in transaction",
                age_s=90.0,
                query=f"select {LONG}",
                locks=("public.a: AccessShareLock",),
            ),
        ),
        "left_out": (
            LeftOut(path="release.sql", id="9", author="ann", why="ran", ran_at="yesterday"),
            LeftOut(path="release.sql", id="8", author="ann", why="other_context", says="context does not match"),
        ),
        "findings": (
            FindingView(
                rule="drop-table", severity="error", message="drops public.a", why=LONG, safer="rename", rows=7
            ),
            FindingView(
                rule="prefer", severity="info", message="prefers", why=LONG, safer="x", switched_off="known (us)"
            ),
        ),
        "gates": (GateState(name="window", is_open=False, says="closed", opens_it="wait"),),
        "obstacles": (ObstacleView(what="ann does not own shop", remedy="GRANT"),),
        "warnings": (LONG,),
    }
    return a_plan(**{**document, **fields})


def shown(plan: Plan, sql: plan_view.Sql = "folded", width: int = 80) -> list[str]:
    return [line.text for line in plan_view.lines(plan, UNICODE, width=width, sql=sql)]


@pytest.mark.parametrize("width", [80, 100])
@pytest.mark.parametrize("sql", ["folded", "all", "none"])
def test_no_line_is_wider_than_the_screen(width: int, sql: plan_view.Sql) -> None:
    assert max(len(line) for line in shown(a_full_plan(), sql, width)) <= width


def test_all_that_matters_is_shown() -> None:
    text = " ".join(" ".join(shown(a_full_plan())).split())
    for part in (
        "4 changesets would run.",
        "no rollback 1 of 4: release.sql::2::ann",
        "A run would be refused just now • ann does not own shop. To mend it: GRANT.",
        "✗ window: closed wait",
        "Findings: 1 error ✗ drops public.a (7 rows)",
        "switched off: prefer: known (us)",
        "outside a transaction",
        "its precondition does not hold now (1 row, not 0): it would be marked as ran and not executed",
        "its precondition is unknown until the run (there is no ledger yet)",
        "cannot be shown as SQL: see the changelog",
        "create table a ( b int, c text );",
        "... 22 more lines: --sql shows all",
        "1 ran already: release.sql::9::ann",
        "1 another context (context does not match): release.sql::8::ann",
        "touched: 2 tables hashed before (asked for)",
        "about 2 min 10 s for the backup and 1.0 s for the proof, by the last run of this environment",
        "free there: not known",
        "pid 7, app, billing, idle in transaction, for 1 min 30 s",
        "locks: public.a: AccessShareLock",
        f"digest {a_full_plan().digest}",
    ):
        assert part in text, part


def test_sql_is_folded_unfolded_and_hidden() -> None:
    assert "      line 29;" in shown(a_full_plan(), "all")
    assert "      line 29;" not in shown(a_full_plan(), "folded")
    assert not [line for line in shown(a_full_plan(), "none") if "line 1" in line]
    many = a_full_plan(changesets=tuple(a_changeset(number) for number in range(300)))
    assert not [line for line in shown(many) if "alter table" in line]
    assert "  and 100 more: see --sql or --json" in shown(many)
    assert len([line for line in shown(many, "all") if "add column" in line]) == 300


def test_a_terminal_gets_nothing_to_obey_and_an_old_one_what_it_can_write() -> None:
    hostile = a_full_plan(changesets=(a_changeset(1, sql=("select '\x1b[2J\u202e'",), comment="\x07ring"),))
    text = "\n".join(shown(hostile))
    assert not {"\x1b", "\u202e", "\x07"} & set(text)
    "\n".join(line.text for line in plan_view.lines(a_full_plan(), ASCII, width=80, sql="all")).encode("ascii")


def test_nothing_to_do_and_why_nothing_can_be_done() -> None:
    nothing = a_plan(changesets=(), made_at=datetime(2026, 1, 1, tzinfo=UTC))
    assert "Nothing would run: the database holds every changeset already." in shown(nothing)
    edited = a_plan(
        changesets=(), obstacles=(ObstacleView(what="release.sql::1::ann was edited", remedy="put it back"),)
    )
    assert "  • release.sql::1::ann was edited. put it back." in shown(edited)
