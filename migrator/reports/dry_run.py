"""A dry run for people: on the console at 80 columns, as Markdown, and as JSON."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path

from migrator.plans.words import count
from migrator.rehearsals.dry_run_record import (
    ChangedRows,
    DryRunFinding,
    DryRunRecord,
    RewrittenTable,
    TakenLock,
    TriedChangeset,
)
from migrator.reports import files, markdown
from migrator.reports.markdown import code
from migrator.reports.wording import CONSOLE_WIDTH, duration, labelled, one_line, size

_LABEL = 13
_MOST_CHANGESETS = 60  # of those of which nothing but their name can be told
_MOST_LINES = 8  # of one kind, for one changeset
_SIGNS = {"executed": "ok", "skipped": "skipped", "failed": "FAILED", "pending": "-"}
_SHOWN_LOCKS = {
    "ShareUpdateExclusiveLock": "SHARE UPDATE EXCLUSIVE",
    "ShareLock": "SHARE",
    "ShareRowExclusiveLock": "SHARE ROW EXCLUSIVE",
    "ExclusiveLock": "EXCLUSIVE",
    "AccessExclusiveLock": "ACCESS EXCLUSIVE",
}


def write(record: DryRunRecord, folder: Path) -> list[Path]:
    """`dry-run.json` and `dry-run.md` are in the folder, mode 0600; their paths. Safe to repeat.

    Raises: StepFailed when one cannot be written.
    """
    return [
        files.write(folder / "dry-run.json", record.model_dump_json(indent=2) + "\n"),
        files.write(folder / "dry-run.md", as_markdown(record)),
    ]


def headline(record: DryRunRecord) -> str:
    """What it came to, in a few words."""
    if not record.changesets and record.passed:
        return "Nothing is pending"
    return "The dry run passed" if record.passed else "The dry run found what speaks against a run"


def as_text(record: DryRunRecord) -> str:
    """The dry run as a console shows it."""
    return "\n".join(_lines(record))


def as_markdown(record: DryRunRecord) -> str:
    """The dry run as GitHub shows it."""
    return "\n".join(_markdown(record)).rstrip() + "\n"


# -- what is told, whatever the form ----------------------------------------------------------------------------------


def _facts(record: DryRunRecord) -> Iterator[tuple[str, str]]:
    place = f"{record.on} on {record.place}" if record.on != "target" else record.place
    yield "tried on", (place or record.on) + (f": {record.how}" if record.how else "")
    if record.not_represented:
        yield "not in it", "; ".join(record.not_represented)
    if not record.changesets:
        return
    if record.way is not None:
        held = "in one transaction, rolled back" if record.held else "commit by commit"
        yield "way", f"{record.way}, since {record.way_reason}; tried {held}"
    if not record.durations_known:
        yield "took", "unknown: there are no rows in the copy, so neither seconds nor sizes say anything"
    elif record.apply_s is not None:
        checks = f", and {duration(record.checks_s)} for the checks" if record.checks_s is not None else ""
        yield "took", f"{duration(record.apply_s)} for {count(len(record.changesets), 'changeset')}{checks}"
    written = [f"{size(record.wal_bytes)} of WAL"] if record.wal_bytes and record.durations_known else []
    if record.temp_bytes:
        written.append(f"{size(record.temp_bytes)} of temporary files")
    if written:
        yield "wrote", ", ".join(written)


def _effects(one: TriedChangeset, *, real: bool) -> Iterator[tuple[str, str]]:
    """What a changeset did, a label and a text each."""
    for rewrite in one.rewritten:
        yield "rewrites", _rewrite(rewrite, real=real)
    strongest = {lock.relation: lock for lock in reversed(one.locks)}  # they come with the strongest first
    for lock in strongest.values():
        if lock.mode in _SHOWN_LOCKS:
            yield "locks", _lock(lock, real=real)
    for rows_of in one.rows:
        yield "rows", _rows(rows_of)
    for index in one.indexes:
        if not index.on_new_table:
            yield "index", f"{index.index} on {index.table}" + (f", {size(index.size_bytes)}" if real else "")
    if one.created:
        yield "creates", _some(one.created)
    if one.dropped:
        yield "drops", _some(one.dropped)
    if real:
        yield from _written(one)


def _written(one: TriedChangeset) -> Iterator[tuple[str, str]]:
    rewritten = {rewrite.table for rewrite in one.rewritten}
    for resized in one.sizes:
        if resized.table not in rewritten:
            yield "size", f"{resized.table}: {size(resized.before_bytes)} became {size(resized.after_bytes)}"
    if one.wal_bytes:
        temporary = f", {size(one.temp_bytes)} of temporary files" if one.temp_bytes else ""
        yield "wal", f"{size(one.wal_bytes)}{temporary}"


def _rewrite(rewrite: RewrittenTable, *, real: bool) -> str:
    there = "made by this changelog"
    if rewrite.target_bytes is not None:
        there = f"about {count(rewrite.target_rows or 0, 'row')}, {size(rewrite.target_bytes)} on the target"
    after = f"; {size(rewrite.before_bytes)} became {size(rewrite.after_bytes)}" if real else ""
    return f"{rewrite.table}: {there}{after}"


def _lock(lock: TakenLock, *, real: bool) -> str:
    held = f", for {duration(lock.held_s)}" if real and lock.held_s is not None else ""
    return f"{lock.relation} {_SHOWN_LOCKS[lock.mode]}: keeps out {lock.keeps_out}{held}"


def _rows(rows: ChangedRows) -> str:
    parts = [
        f"{number:,} {word}"
        for number, word in ((rows.inserted, "inserted"), (rows.updated, "updated"), (rows.deleted, "deleted"))
        if number
    ]
    why = "" if rows.named else " (the changeset does not name it: a cascade or a trigger)"
    return f"{rows.table}: {', '.join(parts)}{why}"


def _some(names: list[str]) -> str:
    return ", ".join(names[:_MOST_LINES]) + (f" and {len(names) - _MOST_LINES} more" if names[_MOST_LINES:] else "")


def _place(finding: DryRunFinding) -> str:
    """Where it is, as far as its message does not say so."""
    where = f"{finding.file}:{finding.line}" if finding.file and finding.line else finding.file or ""
    state = f"SQLSTATE {finding.sqlstate}" if finding.sqlstate else ""
    return ", ".join(part for part in (where, state) if part and part not in finding.message)


def _checks(record: DryRunRecord) -> str | None:
    after = [check for check in record.checks if check.phase == "after"]
    if not after:
        return None
    failed = [check for check in after if not check.success]
    without = "" if record.durations_known else " (without rows that says little)"
    return f"{count(len(after), 'check')} on the result, {len(after) - len(failed)} hold{without}"


def _in_the_way(record: DryRunRecord) -> Iterator[str]:
    for one in record.in_the_way:
        age = f", its transaction {duration(one.age_s)} old" if one.age_s is not None else ""
        yield f"{one.who}{age}: {'; '.join(one.locks)}" + (f"; {one.query}" if one.query else "")


# -- as text ----------------------------------------------------------------------------------------------------------


def _lines(record: DryRunRecord) -> Iterator[str]:
    yield from textwrap.wrap(one_line(f"{headline(record)}: {record.changelog} ({record.environment})"), CONSOLE_WIDTH)
    yield ""
    for label, value in _facts(record):
        yield from _labelled(label, value)
    if record.changesets:
        yield ""
        yield from _changesets(record)
    checks = _checks(record)
    if checks or record.in_the_way:
        yield ""
    if checks:
        yield from _labelled("checks", checks)
    for sentence in _in_the_way(record):
        yield from _labelled("in the way", sentence)
    if record.findings:
        yield ""
    for finding in sorted(record.findings, key=lambda one: one.severity):
        place = _place(finding)
        yield from _labelled(finding.severity, finding.message + (f" [{place}]" if place else ""))
        if finding.hint:
            yield from _labelled("", finding.hint)
    yield ""
    for sentence in record.proven:
        yield from _labelled("proven", sentence)
    for sentence in record.remains:
        yield from _labelled("remains", sentence)
    if record.next_command:
        yield f"  {'next':<{_LABEL}}{one_line(record.next_command)}"


def _changesets(record: DryRunRecord) -> Iterator[str]:
    quiet = 0
    path = None
    for number, one in enumerate(record.changesets, start=1):
        effects = list(_effects(one, real=record.durations_known))
        if not [label for label, _ in effects if label != "wal"] and one.status == "executed":
            quiet += 1
            if quiet > _MOST_CHANGESETS:
                continue
        if one.path != path:
            path = one.path
            yield from textwrap.wrap(one_line(path), CONSOLE_WIDTH)
        took = duration(one.duration_s) if one.duration_s is not None else ""
        outside = " (outside a transaction)" if not one.in_transaction else ""
        head = f"{number:>3} {_SIGNS.get(one.status, one.status):<8}{one_line(f'{one.id} by {one.author}')}{outside}"
        yield f"{_shortened(head, CONSOLE_WIDTH - len(took) - 2):<{CONSOLE_WIDTH - len(took) - 2}}  {took}".rstrip()
        yield from _effect_lines(effects)
    if quiet > _MOST_CHANGESETS:
        yield f"  and {quiet - _MOST_CHANGESETS:,} more of which there is nothing to tell; see dry-run.json"


def _effect_lines(effects: list[tuple[str, str]]) -> Iterator[str]:
    told: dict[str, int] = {}
    for label, value in effects:
        told[label] = told.get(label, 0) + 1
        if told[label] <= _MOST_LINES:
            yield from labelled(label, value, indent=6, width=10)
    for label, number in told.items():
        if number > _MOST_LINES:
            yield from labelled(label, f"and {number - _MOST_LINES} more", indent=6, width=10)


def _labelled(label: str, value: str) -> Iterator[str]:
    yield from labelled(label, value, width=_LABEL)


def _shortened(text: str, room: int) -> str:
    return text if len(text) <= room else f"{text[: room - 2]}.."


# -- as Markdown ------------------------------------------------------------------------------------------------------


def _markdown(record: DryRunRecord) -> Iterator[str]:
    text = markdown.text
    yield from (f"# {headline(record)}", "")
    facts = [
        ("dry run", code(record.id)),
        ("environment", text(record.environment)),
        ("database", code(record.database)),
        ("changelog", code(record.changelog)),
        *((label, text(value)) for label, value in _facts(record)),
    ]
    checks = _checks(record)
    if checks:
        facts.append(("checks", text(checks)))
    yield from markdown.table(["", ""], ([f"**{label}**", value] for label, value in facts), len(facts))
    if record.findings:
        yield from ("## Findings", "")
        for finding in sorted(record.findings, key=lambda one: one.severity):
            place = _place(finding)
            hint = f" {text(finding.hint)}" if finding.hint else ""
            yield f"- **{finding.severity}**: {text(finding.message)}{f' ({code(place)})' if place else ''}{hint}"
        yield ""
    if record.changesets:
        yield from ("## Changesets", "")
        rows = (
            [
                code(one.key),
                text(one.status),
                markdown.seconds(one.duration_s),
                "<br>".join(f"{label}: {text(value)}" for label, value in _effects(one, real=record.durations_known)),
            ]
            for one in record.changesets
        )
        yield from markdown.table(["changeset", "status", "took:", "what it did"], rows, len(record.changesets))
    yield from markdown.listing("In the way on the target", list(_in_the_way(record)))
    yield from markdown.listing("Proven", record.proven)
    yield from markdown.listing("What remains", record.remains)
