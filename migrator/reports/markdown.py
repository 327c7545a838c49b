"""`report.md`: a run for people, as GitHub shows Markdown. Whatever comes from outside is escaped."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from migrator.reports import files, verdict
from migrator.reports.verdict import Tone, Verdict
from migrator.reports.wording import count, duration, one_line, size, visible
from migrator.runs.record import CheckRecord, RunRecord, TableRecord

MAX_ROWS = 200  # of a table; report.json has them all
_ALERTS = {Tone.GOOD: "NOTE", Tone.CAUTION: "WARNING", Tone.BAD: "CAUTION"}
_SPECIAL = re.compile(r"[\\`*\[\]~$!]|(?<![^\W_])_|_(?![^\W_])")
_ENTITIES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", "|": "&vert;"})
# What GitHub would turn into a notification, a link or a picture: @name, #1, https://, www., :id:
BREAK = "<!-- -->"  # keeps it from doing so, and is not seen on a page
_REFERENCE = re.compile(r"(?<!\w)@(?=\w)|#(?=\d)|(?<=http)(?=://)|(?<=https)(?=://)|(?<=www)(?=\.)|:(?=[\w+-]+:)")
_BLOCK_MARK = re.compile(r"^(\d*)([-+=#]|(?<=\d)[.)](?=\s|$))")


def render(record: RunRecord) -> str:
    """The report of the run; complete but for tables longer than 200 rows."""
    return "\n".join(_lines(record)).rstrip() + "\n"


def write(record: RunRecord, path: Path) -> Path:
    """The file holds the report, mode 0600. Safe to repeat.

    Raises: StepFailed.
    """
    return files.write(path, render(record))


def text(value: str) -> str:
    """The value as it is, on one line, whatever Markdown or HTML would make of it; also fit for a table's cell."""
    escaped = _SPECIAL.sub(r"\\\g<0>", one_line(value)).translate(_ENTITIES)
    return _REFERENCE.sub(rf"\g<0>{BREAK}", _BLOCK_MARK.sub(r"\1\\\2", escaped))


def code(value: str) -> str:
    """The value as code, on one line; also fit for a table's cell."""
    line = one_line(value)
    if not line:
        return ""
    if re.search(r"[`|\\]", line):
        return f"<code>{text(value)}</code>"
    return f"`{line}`"


def block(value: str, language: str = "text") -> list[str]:
    """The value as a block of code, its lines kept."""
    content = visible(value).strip("\n")
    fence = "`" * max([3, *(len(run) + 1 for run in re.findall(r"`+", content))])
    return [f"{fence}{language}", *content.split("\n"), fence]


def _lines(record: RunRecord) -> Iterator[str]:
    yield from _outcome(record)
    yield from _proof(record)
    yield from listing("Gates", [verdict.gate(one) for one in record.gates])
    if record.next_command:
        yield from ("## Next", "", *block(record.next_command, "sh"), "")
    if record.runbook:
        yield from ("## Going back by hand", "", *block("\n".join(record.runbook), "sh"), "")
    yield from _steps(record)
    yield from _changesets(record)
    yield from _backfills(record)
    yield from _tables(record)
    yield from _checks(record)
    yield from _backups(record)
    yield from listing("Warnings", record.warnings)
    yield from listing("Kept", record.kept)
    yield from _error(record)
    if record.versions:
        rows = ([text(name), text(version)] for name, version in sorted(record.versions.items()))
        yield from ("## Versions", "", *table(["what", "version"], rows, len(record.versions)))


def _outcome(record: RunRecord) -> Iterator[str]:
    found = Verdict.of(record)
    yield f"# {text(found.headline)}"
    yield ""
    yield f"> [!{_ALERTS[found.tone]}]"
    yield f"> **{text(found.database)}**"
    hint = [record.error.hint] if record.error is not None and record.error.hint else []
    for line in (*verdict.error_lines(record), *hint):
        yield ">"
        yield f"> {text(line)}"
    yield ""
    took = verdict.took_s(record)
    facts = [
        ("run", code(record.run_id)),
        ("environment", text(record.environment)),
        ("database", code(record.database)),
        ("changelog", code(record.changelog)),
        ("outcome", code(record.outcome or "running") + _exit_code(record)),
        ("way", text(record.way or "not chosen") + (f": {text(record.way_reason)}" if record.way_reason else "")),
        ("started", f"{record.started_at:%Y-%m-%d %H:%M:%S} UTC" + (f", took {duration(took)}" if took else "")),
        ("downtime", text(verdict.downtime(record))),
    ]
    yield from table(["", ""], ([f"**{name}**", value] for name, value in facts), len(facts))


def _exit_code(record: RunRecord) -> str:
    return "" if record.exit_code is None else f", exit code {record.exit_code}"


def _proof(record: RunRecord) -> Iterator[str]:
    level = f" (proof: {record.proof.level.replace('_', ' ')})" if record.proof.level else ""
    yield from listing(f"What was proven{level}", record.proof.proven or ["Nothing."])
    yield from listing("What was not proven", record.proof.not_proven or ["Nothing was left out."])


def _steps(record: RunRecord) -> Iterator[str]:
    if not record.steps:
        return
    again = any(step.attempt > 1 for step in record.steps)
    rows = (
        [
            text(step.name.value.replace("_", " ")) + (f" (attempt {step.attempt})" if again else ""),
            text(step.status),
            seconds(step.duration_s),
            text(step.note or ""),
        ]
        for step in record.steps
    )
    yield from ("## Steps", "", *table(["step", "status", "time:", "note"], rows, len(record.steps)))


def _backfills(record: RunRecord) -> Iterator[str]:
    if not record.backfills:
        return
    yield from ("## Backfills", "")
    rows = [
        [
            code(one.name),
            code(one.table),
            text(one.state),
            "" if one.rows is None else f"{one.rows:,}",
            seconds(one.duration_s),
            "" if one.rate is None else f"{one.rate:,.0f}/s",
            seconds(one.waited_s),
            "" if one.violations is None else f"{one.violations:,}",
        ]
        for one in record.backfills
    ]
    head = ["name", "table", "state", "rows:", "time:", "rate:", "held back:", "violations:"]
    yield from table(head, rows, len(record.backfills))


def _changesets(record: RunRecord) -> Iterator[str]:
    if not record.changesets:
        return
    yield from (f"## Changesets: {text(verdict.changesets(record))}", "")
    rows = (
        [code(c.id), text(c.author), code(c.path), text(c.status), seconds(c.duration_s)] for c in record.changesets
    )
    yield from table(["id", "author", "file", "status", "time:"], rows, len(record.changesets))


def _tables(record: RunRecord) -> Iterator[str]:
    if record.surprises:
        yield from listing("Written, though no changeset names them", record.surprises, as_code=True)
    if record.tables:
        yield from (f"## Tables: {text(verdict.rows_changed(record) or 'rows counted')}", "")
        ordered = sorted(record.tables, key=_written, reverse=True)
        rows = (
            [code(t.name), *(_number(n) for n in (t.rows_before, t.rows_after, t.inserted, t.updated, t.deleted))]
            for t in ordered
        )
        head = ["table", "rows before:", "rows after:", "inserted:", "updated:", "deleted:"]
        yield from table(head, rows, len(ordered))
    elif record.write_set:
        yield from listing("Tables written", record.write_set, as_code=True)


def _written(table: TableRecord) -> bool:
    return bool(table.inserted or table.updated or table.deleted) or table.rows_before != table.rows_after


def _checks(record: RunRecord) -> Iterator[str]:
    if not record.checks:
        return
    failed = sum(not check.success for check in record.checks)
    summary = f"{failed} of {count(len(record.checks), 'check')} failed" if failed else "all held"
    yield from (f"## Checks: {summary}", "")
    ordered = sorted(record.checks, key=lambda check: check.success)
    rows = ([_result(c), text(c.name), c.phase, code(c.table or ""), text(c.detail or "")] for c in ordered)
    yield from table(["result", "check", "phase", "table", "seen"], rows, len(ordered))


def _result(check: CheckRecord) -> str:
    if check.success:
        return "held"
    return "**failed**" if check.severity == "critical" else f"failed ({text(check.severity)})"


def _backups(record: RunRecord) -> Iterator[str]:
    yield from ("## Backup", "")
    if not record.backups:
        yield from ("None was made.", "")
        return
    rows = (
        [
            code(b.id),
            text(b.kind),
            "" if b.size_bytes is None else size(b.size_bytes),
            seconds(b.duration_s),
            code(b.location),
        ]
        for b in record.backups
    )
    yield from table(["id", "kind", "size:", "time:", "where"], rows, len(record.backups))


def _error(record: RunRecord) -> Iterator[str]:
    error = record.error
    if error is None:
        return
    yield from ("## Error", "", *block(error.message), "")
    facts = [
        ("code", error.code),
        ("SQLSTATE", error.sqlstate),
        ("changeset", error.changeset),
        ("file", error.file if error.line is None else f"{error.file}:{error.line}"),
    ]
    yield from (f"- {name}: {code(value)}" for name, value in facts if value)
    if error.hint:
        yield f"- what to do: {text(error.hint)}"
    yield ""


def listing(title: str, values: Sequence[str], *, as_code: bool = False) -> Iterator[str]:
    """A section with a list; nothing where there is nothing in it."""
    if not values:
        return
    yield from (f"## {text(title)}", "")
    yield from (f"- {code(value) if as_code else text(value)}" for value in values[:MAX_ROWS])
    if len(values) > MAX_ROWS:
        yield f"- and {len(values) - MAX_ROWS:,} more, in report.json"
    yield ""


def table(head: Sequence[str], rows: Iterable[Sequence[str]], total: int) -> Iterator[str]:
    """A table; a heading that ends in a colon stands over numbers, at the right."""
    yield "| " + " | ".join(name.removesuffix(":") for name in head) + " |"
    yield "|" + "|".join(" ---: " if name.endswith(":") else " --- " for name in head) + "|"
    for number, row in enumerate(rows):
        if number == MAX_ROWS:
            break
        yield "| " + " | ".join(row) + " |"
    yield ""
    if total > MAX_ROWS:
        yield from (f"{total - MAX_ROWS:,} more are in report.json.", "")


def seconds(number: float | None) -> str:
    """A duration in a table's cell; nothing where it is not known."""
    return "" if number is None else duration(number)


def _number(number: int | None) -> str:
    return "" if number is None else f"{number:,}"
