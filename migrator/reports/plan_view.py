"""A plan on the screen: what would be done, why, and what stands in its way. Reads well at 80 columns."""

from __future__ import annotations

import inspect
import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from migrator.plans.plan import FindingView, InTheWay, LeftOut, Plan, PlannedChangeset
from migrator.reports.symbols import Symbols
from migrator.reports.wording import count, duration, one_line, size, visible

Sql = Literal["folded", "all", "none"]
Style = Literal["", "bold", "dim", "red", "yellow", "green"]

_LABEL = 14
_FOLDED_LINES = 8  # of the SQL of one changeset
_FOLDED_CHANGESETS = 25  # in a longer plan the SQL is asked for
_LISTED = 200
_WHY = {
    "ran": "ran already",
    "changed": "edited after it ran",
    "other_context": "another context",
    "other_label": "another label",
    "other_dbms": "for another database",
    "ignored": "ignored",
    "not_known": "of other changelogs, in the ledger",
}


@dataclass(frozen=True, kw_only=True)
class Line:
    text: str
    style: Style = ""


def lines(plan: Plan, symbols: Symbols, *, width: int, sql: Sql) -> Iterator[Line]:
    """The whole plan, each line at most `width` wide, save what cannot be broken."""
    view = _View(plan, symbols, width, sql)
    yield from view.head()
    if plan.changesets:
        yield from view.obstacles()
        yield from view.gates()
        yield from view.findings()
        yield from view.changesets()
        yield from view.backfills()
    yield from view.left_out()
    if plan.changesets:
        yield from view.proof()
        yield from view.cost()
        yield from view.others()
    yield from view.warnings()
    if plan.changesets:
        yield Line(text="")
        yield Line(text=f"digest {plan.digest}", style="dim")


class _View:
    def __init__(self, plan: Plan, symbols: Symbols, width: int, sql: Sql) -> None:
        self.plan, self.symbols, self.width = plan, symbols, width
        many = len(plan.changesets) > _FOLDED_CHANGESETS
        self.sql: Sql = "none" if sql == "folded" and many else sql

    def head(self) -> Iterator[Line]:
        plan = self.plan
        yield Line(text=one_line(f"plan of {plan.changelog}"), style="bold")
        yield Line(text=one_line(f"{plan.environment}: {plan.target}"), style="dim")
        yield Line(text="")
        if not plan.changesets:
            if plan.obstacles:
                yield from self._list("In the way", [f"{o.what}. {o.remedy}." for o in plan.obstacles], style="red")
            else:
                yield Line(text="Nothing would run: the database holds every changeset already.", style="green")
            return
        yield Line(text=f"{count(len(plan.changesets), 'changeset')} would run.", style="bold")
        way = plan.way or "none is possible"
        yield from self._fact("way", f"{way}: {plan.way_reason}" if plan.way_reason else way)
        if plan.fallback:
            yield from self._fact(
                "fallback",
                f"{plan.fallback}, if PostgreSQL cannot do it in one transaction and has rolled that back",
            )
        elif plan.way == "atomic":
            yield from self._fact("fallback", "none: a transaction that fails is rolled back, and the run ends")
        missing = plan.without_rollback
        if missing:
            named = ", ".join(one.key for one in missing[:3]) + (" ..." if missing[3:] else "")
            yield from self._fact("no rollback", f"{len(missing)} of {len(plan.changesets)}: {named}")
        else:
            yield from self._fact("rollback", "every changeset has one")

    def obstacles(self) -> Iterator[Line]:
        found = [f"{one.what}. To mend it: {one.remedy}." for one in self.plan.obstacles]
        yield from self._list("A run would be refused just now", found, style="red")

    def gates(self) -> Iterator[Line]:
        if not self.plan.gates:
            return
        yield from self._title("Gates")
        for gate in self.plan.gates:
            sign = self.symbols.done if gate.is_open else self.symbols.failed
            yield from self._wrapped(f"{sign} {gate.name}: {gate.says}", indent=2, hanging=4)
            if not gate.is_open and gate.opens_it:
                yield from self._wrapped(gate.opens_it, indent=4)

    def findings(self) -> Iterator[Line]:
        found = [one for one in self.plan.findings if one.switched_off is None]
        off = [one for one in self.plan.findings if one.switched_off is not None]
        if not found and not off:
            return
        counted = Counter(one.severity for one in found)
        named = [count(counted[severity], severity) for severity in ("error", "warning") if counted[severity]]
        named += [f"{counted['info']} to know"] if counted["info"] else []
        yield from self._title("Findings" + (f": {', '.join(named)}" if named else ""))
        for one in found[:_LISTED]:
            yield from self._finding(one)
        if found[_LISTED:]:
            yield Line(text=f"  and {len(found) - _LISTED} more: see --json")
        for one in off:
            yield from self._wrapped(
                f"{self.symbols.skipped} switched off: {_place(one)}{one.rule}: {one.switched_off}",
                indent=2,
                hanging=4,
                style="dim",
            )

    def changesets(self) -> Iterator[Line]:
        yield from self._title("Changesets")
        for number, one in enumerate(self.plan.changesets, 1):
            yield from self._changeset(one, number)
            if number == _LISTED and self.plan.changesets[_LISTED:] and self.sql != "all":
                yield Line(text=f"  and {len(self.plan.changesets) - _LISTED} more: see --sql or --json")
                break

    def backfills(self) -> Iterator[Line]:
        if not self.plan.backfills and not self.plan.requires:
            return
        yield from self._title("Backfills")
        for one in self.plan.backfills:
            rows = "" if one.rows is None else f", about {count(one.rows, 'row')}"
            told = f"{one.name} of {one.table}{rows}, after {one.after}"
            yield from self._wrapped(told, indent=2, hanging=4, style="bold")
            how = "inside the run's one transaction" if one.inside else "batch by batch, each its own transaction"
            caught = f"; what others write meanwhile is caught by: {one.capture}" if one.capture != "none" else ""
            yield from self._wrapped(f"{how}{caught}", indent=4)
            if not one.leads_back:
                told = f"{self.symbols.warning} has no undo statement: only the backup leads back"
                yield from self._wrapped(told, indent=4, hanging=6, style="yellow")
        for key, names in self.plan.requires.items():
            yield from self._wrapped(f"{key} requires {', '.join(names)}", indent=2, hanging=4)

    def left_out(self) -> Iterator[Line]:
        if not self.plan.left_out:
            return
        yield from self._title("Would not run")
        for why, group in _grouped(self.plan.left_out):
            named = ", ".join(f"{one.path}::{one.id}::{one.author}" for one in group[:3])
            more = f" and {len(group) - 3} more" if group[3:] else ""
            says = f" ({group[0].says})" if group[0].says and why not in {"ran", "not_known"} else ""
            yield from self._wrapped(f"{len(group)} {_WHY[why]}{says}: {named}{more}", indent=2, hanging=4)

    def proof(self) -> Iterator[Line]:
        proof = self.plan.proof
        if proof is None:
            return
        yield from self._title("Proof")
        yield from self._fact(
            "proof", f"{proof.level.replace('_', ' ')}: {count(proof.tables, 'table')} hashed before ({proof.reason})"
        )
        for number, sentence in enumerate(proof.will_not_prove):
            yield from self._fact("" if number else "will not say", f"{self.symbols.bullet} {sentence}")

    def cost(self) -> Iterator[Line]:
        plan, found = self.plan, self.plan.estimate
        yield from self._title("Before the migration itself")
        for backup in plan.backups:
            yield from self._fact(backup.kind, f"of {size(backup.size_bytes)}, to {backup.where}")
        if not plan.backups:
            yield from self._fact("backup", "none, by decision of the configuration")
        if found is not None:
            yield from self._fact(
                "time",
                f"about {duration(found.backup_s)} for the backup and {duration(found.proof_s)} for the proof, "
                f"by {found.basis}",
            )
            yield from self._fact("a restore", f"would take about {duration(found.restore_s)}")
        for room in plan.disk:
            free = "not known" if room.free_bytes is None else size(room.free_bytes)
            yield from self._fact(
                "disk", f"{room.needed_for} takes up to {size(room.needed_bytes)} on {room.where}; free there: {free}"
            )
        outside = f", outside: {', '.join(plan.outside)}" if plan.outside else ""
        yield from self._fact("maintenance", f"{plan.maintenance}{outside}")

    def others(self) -> Iterator[Line]:
        plan = self.plan
        yield from self._title("Who would be in the way just now")
        if plan.others is not None:
            ended = " (offline: ended after limits.drain_s)" if plan.maintenance == "offline" and plan.others else ""
            yield from self._fact("sessions", f"{count(plan.others, 'other')} in this database{ended}")
        if not plan.in_the_way:
            yield from self._fact("locks", "nobody has one on a table concerned")
        for one in plan.in_the_way:
            yield from self._in_the_way(one)

    def warnings(self) -> Iterator[Line]:
        yield from self._list("Warnings", list(self.plan.warnings), style="yellow")

    # -- parts ---------------------------------------------------------------------------------------------------

    def _changeset(self, one: PlannedChangeset, number: int) -> Iterator[Line]:
        place = f" ({one.file}:{one.line})" if one.line and one.file and one.file != one.path else ""
        place = place or (f" (line {one.line})" if one.line else "")
        yield from self._wrapped(f"{number} {one.key}{place}", indent=2, hanging=4, style="bold")
        if one.comment:
            yield from self._wrapped(one.comment, indent=4, style="dim")
        marks = [
            *(["outside a transaction"] if not one.in_transaction else []),
            *(["runs again"] if one.runs_again else []),
            *(["an error in it is swallowed"] if one.fails_quietly else []),
            *_precondition(one),
        ]
        for mark in marks:
            yield from self._wrapped(f"{self.symbols.warning} {mark}", indent=4, hanging=6, style="yellow")
        if self.sql == "none":
            if not one.has_rollback:
                yield from self._wrapped(f"{self.symbols.warning} has no rollback", indent=4, style="yellow")
            return
        yield from self._sql(one.sql, none="cannot be shown as SQL: see the changelog")
        yield Line(text="    rollback", style="dim")
        if one.has_rollback:
            yield from self._sql(one.rollback_sql, none="nothing is done")
        else:
            yield from self._wrapped(f"{self.symbols.warning} none", indent=6, style="yellow")

    def _sql(self, statements: Sequence[str], *, none: str) -> Iterator[Line]:
        if not any(statement.strip() for statement in statements):
            yield Line(text=f"      {none}", style="dim")
            return
        text = [
            line
            for statement in statements
            for line in inspect.cleandoc(visible(f"{statement.strip().rstrip(';')};").expandtabs(4)).splitlines()
            if line.strip()
        ]
        shown = text if self.sql == "all" else text[:_FOLDED_LINES]
        for line in shown:
            indent = len(line) - len(line.lstrip())
            wrapped = textwrap.wrap(
                line.strip(),
                max(20, self.width - 6 - indent),
                subsequent_indent="  ",
                break_long_words=False,
                break_on_hyphens=False,
            )
            yield from (Line(text=f"      {' ' * indent}{part}") for part in wrapped)
        if len(shown) < len(text):
            yield Line(text=f"      ... {count(len(text) - len(shown), 'more line')}: --sql shows all", style="dim")

    def _finding(self, one: FindingView) -> Iterator[Line]:
        style: Style = "red" if one.severity == "error" else "yellow"
        sign = self.symbols.failed if one.severity == "error" else self.symbols.warning
        rows = f" ({one.rows:,} rows)" if one.rows is not None and "rows" not in one.message else ""
        if one.severity == "info":
            told = f"{self.symbols.skipped} {_place(one)}{one.message}{rows} ({one.rule})"
            yield from self._wrapped(told, indent=2, hanging=4, style="dim")
            return
        yield from self._wrapped(f"{sign} {_place(one)}{one.message}{rows}", indent=2, hanging=4, style=style)
        yield from self._wrapped(f"{one.rule}: {one.why}", indent=4, style="dim")
        yield from self._wrapped(f"safer: {one.safer}", indent=4, style="dim")

    def _in_the_way(self, one: InTheWay) -> Iterator[Line]:
        who = f"pid {one.pid}" if one.pid is not None else "no session"
        age = "" if one.age_s is None else f", for {duration(one.age_s)}"
        state = f", {one.state}" if one.state else ""
        told = f"{self.symbols.warning} {who}, {one.user}, {one.application or 'no application'}{state}{age}"
        yield from self._wrapped(told, indent=2, hanging=4, style="yellow")
        yield from self._wrapped(f"locks: {'; '.join(one.locks)}", indent=4)
        if one.query:
            yield from self._wrapped(f"query: {one.query}", indent=4, style="dim")

    def _title(self, text: str) -> Iterator[Line]:
        yield Line(text="")
        yield Line(text=text, style="bold")

    def _list(self, title: str, sentences: Sequence[str], *, style: Style) -> Iterator[Line]:
        if not sentences:
            return
        yield from self._title(title)
        for sentence in sentences[:_LISTED]:
            yield from self._wrapped(f"{self.symbols.bullet} {sentence}", indent=2, hanging=4, style=style)

    def _fact(self, label: str, text: str) -> Iterator[Line]:
        first, *rest = self._broken(one_line(text), self.width - _LABEL - 2)
        yield Line(text=f"  {label:<{_LABEL}}{first}")
        yield from (Line(text=f"  {'':<{_LABEL}}{line}") for line in rest)

    def _wrapped(self, text: str, *, indent: int, hanging: int | None = None, style: Style = "") -> Iterator[Line]:
        below = indent if hanging is None else hanging
        first, *rest = self._broken(one_line(text), self.width - max(indent, below))
        yield Line(text=f"{' ' * indent}{first}", style=style)
        yield from (Line(text=f"{' ' * below}{line}", style=style) for line in rest)

    @staticmethod
    def _broken(text: str, width: int) -> list[str]:
        return textwrap.wrap(text, max(20, width), break_long_words=False, break_on_hyphens=False) or [""]


def _precondition(one: PlannedChangeset) -> Iterator[str]:
    says = f" ({one.precondition_says})" if one.precondition_says else ""
    match one.precondition:
        case "fails":
            effect = {
                "HALT": "the run would end there",
                "CONTINUE": "it would be left out, and tried again by the next run",
                "MARK_RAN": "it would be marked as ran and not executed",
                "WARN": "it would be executed all the same",
            }.get(one.on_fail or "", "")
            yield f"its precondition does not hold now{says}: {effect}"
        case "unknown":
            yield f"its precondition is unknown until the run{says}"


def _place(one: FindingView) -> str:
    if one.file is None:
        return f"{one.changeset}: " if one.changeset else ""
    return f"{one.file}:{one.line}: " if one.line else f"{one.file}: "


def _grouped(left_out: Sequence[LeftOut]) -> Iterator[tuple[str, list[LeftOut]]]:
    for why in _WHY:
        group = [one for one in left_out if one.why == why]
        if group:
            yield why, group
