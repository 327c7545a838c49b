"""Backfills as a person reads them: what one would do, how far it is, and what it found."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

from migrator.backfills.definition import RESTORE, Backfill
from migrator.backfills.ledger import Entry, State
from migrator.backfills.mover import TELLS_NOTHING, Moved, Progress
from migrator.backfills.verifying import Verdict
from migrator.reports.wording import count, duration, one_line, size
from migrator.runs.byhand.backfilling import Done, Planned, Standing, Undone

_STEP = 12  # width of the words in front
_WIDTH = 80


def progress(found: Progress) -> str:
    """One line: split-name  1,200,000 of 2,000,000 rows (60%), 45,000 rows/s, 18 s left."""
    if found.waiting_for is not None:
        return one_line(f"{found.name}  {_rows(found.rows, found.total)}, waiting for {found.waiting_for}")
    parts = [_rows(found.rows, found.total)]
    if found.rate:
        parts.append(f"{found.rate:,.0f} rows/s")
    if found.eta_s is not None:
        parts.append(f"{duration(found.eta_s)} left")
    if found.lag_bytes is not None:
        parts.append(f"lag {size(found.lag_bytes)}")
    return f"{found.name}  {', '.join(parts)}"


def plan(found: Planned, *, env: str) -> list[str]:
    """What a run of it would do, and the command."""
    backfill = found.backfill
    lines = [f"{backfill.name} ({_file(backfill)})"]
    lines += [
        *_told("after", f"{backfill.after}, which has {'' if found.has_come else 'not '}run here"),
        *_told("walks", f"{backfill.table}{_about(found)}, by {', '.join(backfill.key)}"),
    ]
    if backfill.where:
        lines += _told("where", backfill.where)
    lines += [
        *_told("does", backfill.statement or f"Python's {backfill.python}"),
        *_told("proof", backfill.verify),
        *_told("writers", _writers(backfill)),
        *_told("way back", _way_back(backfill)),
        *_told("pace", _pace(backfill)),
        *_told("state", "pending" if found.entry is None else found.entry.state.value),
    ]
    for problem in found.looked.problems:
        lines += _wrapped(f"  refused: {problem.message.replace(str(backfill.file), _file(backfill))}", 4)
        lines += _wrapped(f"    {problem.hint}", 4)
    if not found.looked.problems:
        complete = found.entry is not None and found.entry.is_complete
        lines.append(f"  next: {_next_of_plan(found, env)}" if not complete else "  nothing is left to do")
    return lines


def plan_json(found: Planned) -> dict[str, object]:
    backfill = found.backfill
    return {
        "name": backfill.name,
        "file": str(backfill.file),
        "checksum": backfill.checksum,
        "after": backfill.after,
        "after_has_run": found.has_come,
        "table": backfill.table,
        "rows": found.looked.rows,
        "key": list(backfill.key),
        "where": backfill.where,
        "statement": backfill.statement,
        "python": backfill.python,
        "verify": backfill.verify,
        "undo": backfill.undo,
        "capture": backfill.capture,
        "inside": backfill.inside,
        "state": "pending" if found.entry is None else found.entry.state.value,
        "problems": [{"code": one.code, "message": one.message, "hint": one.hint} for one in found.looked.problems],
    }


def status(found: Sequence[Standing], *, env: str) -> list[str]:
    """Every backfill of a database, and what to type next."""
    lines: list[str] = []
    for one in found:
        entry = one.entry
        lines.append(f"{entry.name}: {_state(one)}")
        lines += _told("rows", f"{_rows(entry.rows_done, entry.total)} of {_plain(entry.table)}, {_pace_so_far(one)}")
        if entry.rows_undone:
            lines += _told("undone", count(entry.rows_undone, "row"))
        if one.run is not None:
            lines += _told("run", f"part of {one.run}, which has not ended")
        lines += _told("writers", _captured(one))
        following = next_command(one, env=env)
        if following is not None:
            lines.append(f"  next: {following}")
    if found and found[0].lag.behind_bytes is not None:
        lag = found[0].lag
        lines.append(f"replica {lag.replica} is {size(lag.behind_bytes or 0)} behind")
    elif found and found[0].lag.hidden:
        lines.append("replication lag is unknown: this login is not in pg_monitor")
    return lines or ["no backfill has begun in this database"]


def status_json(one: Standing, *, env: str) -> dict[str, object]:
    entry, captured = one.entry, one.captured
    return {
        "name": entry.name,
        "checksum": entry.checksum,
        "table": entry.table,
        "state": entry.state.value,
        "paused_because": entry.paused_because,
        "at_work": one.at_work.application_name if one.at_work else None,
        "run_id": entry.run_id,
        "run_has_ended": one.run is None,
        "rows": entry.rows_done,
        "total": entry.total,
        "rows_undone": entry.rows_undone,
        "batches": entry.batches,
        "rate": round(_rate(one), 1),
        "eta_s": _eta_s(one),
        "started_at": entry.started_at.isoformat(),
        "ended_at": entry.ended_at.isoformat() if entry.ended_at else None,
        "verified_at": entry.verified_at.isoformat() if entry.verified_at else None,
        "capture": None if captured is None else {"table": captured.table, "complete": captured.complete},
        "lag_bytes": one.lag.behind_bytes,
        "lag_known": not one.lag.hidden,
        "next_command": next_command(one, env=env),
    }


def next_command(one: Standing, *, env: str) -> str | None:
    """What a person types next; None where nothing is to be done, or it is at work."""
    name, state = one.entry.name, one.entry.state
    if one.at_work is not None and state is not State.PAUSED:
        return None
    if one.run is not None and not (one.at_work is not None and state is State.PAUSED):
        return f"migrator resume {one.run}"
    verb = {
        State.RUNNING: "resume",
        State.PAUSED: "resume",
        State.MOVED: "verify",
        State.UNDOING: "undo",
        State.VERIFIED: "finish" if one.captured is not None else None,
        State.UNDONE: None,
    }[state]
    return None if verb is None else f"migrator backfill {verb} {name} --env {env}"


def done(found: Done, *, env: str) -> list[str]:
    """What `run` did, and found."""
    lines = moved(found.moved, "moved") if found.moved is not None else [f"{found.backfill.name}: nothing was left"]
    lines += verdict(found.backfill.name, found.verdict)
    if found.moved is not None and found.moved.tells_nothing:
        lines += _wrapped(f"  warning: {TELLS_NOTHING}", 4)
    if found.captured and not found.verdict.violations:
        lines += [
            f"  its trigger stays on {found.backfill.table} until the contract, or until:",
            f"  migrator backfill finish {found.backfill.name} --env {env}",
        ]
    if not found.captured and found.backfill.capture == "trigger":
        lines.append(f"  no trigger of ours is on {found.backfill.table} any more: what comes now is not caught")
    return lines


def done_json(found: Done) -> dict[str, object]:
    return {
        "name": found.backfill.name,
        "moved": None if found.moved is None else moved_json(found.moved),
        **verdict_json(found.verdict),
        "captured": found.captured,
    }


def undone(name: str, found: Undone) -> list[str]:
    """What `undo` took back, and what is lost by it."""
    if found.moved is None:
        return [f"{name}: its trigger is gone; no row had been moved"]
    lost = _wrapped(f"  accepted as lost: {found.loss}", 4) if found.loss else []
    return [*moved(found.moved, "undone"), *lost, "  its trigger is gone"]


def left(entry: Entry) -> str:
    """What it has moved, in words: 20,000 rows of public.member."""
    return f"{count(entry.rows_done, 'row')} of {_plain(entry.table)}"


def undone_json(found: Undone) -> Mapping[str, object]:
    return {"undone": found.moved and moved_json(found.moved), "accepted_loss": found.loss}


def moved(found: Moved, what: str) -> list[str]:
    rate = found.rows / found.duration_s if found.duration_s else 0.0
    text = f"{found.name}: {count(found.rows, 'row')} {what} in {duration(found.duration_s)}"
    lines = [text + f" ({count(found.batches, 'batch', 'batches')}, {rate:,.0f} rows/s)"]
    if found.writes is not None and found.writes != found.rows:
        lines.append(f"  that wrote {count(found.writes, 'row')}")
    if found.waited_s >= 0.1:
        lines.append(f"  held back for {duration(found.waited_s)} of it")
    if found.max_lag_bytes is not None:
        lines.append(f"  largest replication lag: {size(found.max_lag_bytes)}")
    return lines


def moved_json(found: Moved) -> dict[str, object]:
    return {
        "rows": found.rows,
        "batches": found.batches,
        "duration_s": round(found.duration_s, 3),
        "waited_s": round(found.waited_s, 3),
        "max_lag_bytes": found.max_lag_bytes,
        "written": sorted(found.written),
        "rows_written": found.writes,
        "verify_tells_nothing": found.tells_nothing,
    }


def verdict(name: str, found: Verdict) -> list[str]:
    if not found.violations:
        return [f"{name}: verified, no violation ({duration(found.seconds)})"]
    lines = [f"{name}: {count(found.violations, 'violation')} ({duration(found.seconds)}), such as"]
    return lines + [f"  {one_line(row)}" for row in found.sample]


def verdict_json(found: Verdict) -> Mapping[str, object]:
    return {"violations": found.violations, "sample": list(found.sample), "duration_s": round(found.seconds, 3)}


def _told(word: str, text: str) -> list[str]:
    return _wrapped(f"  {word:<{_STEP - 2}}{one_line(text)}", _STEP)


def _wrapped(line: str, indent: int) -> list[str]:
    """At most 80 characters a line, without a break in a word."""
    text = line.lstrip()
    return textwrap.wrap(
        one_line(text) if indent < _STEP else text,
        _WIDTH,
        initial_indent=line[: len(line) - len(text)],
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _file(backfill: Backfill) -> str:
    """Relative to the current folder, where it lies below."""
    here = Path.cwd()
    return str(backfill.file.relative_to(here) if backfill.file.is_relative_to(here) else backfill.file)


def _plain(table: str) -> str:
    """A quoted name without the quotes that PostgreSQL would not want."""
    return re.sub(r'"([a-z_][a-z0-9_]*)"', r"\1", table)


def _rows(rows: int, total: int | None) -> str:
    if not total:
        return count(rows, "row")
    return f"{rows:,} of {max(total, rows):,} rows ({min(1.0, rows / total):.0%})"


def _about(found: Planned) -> str:
    return "" if found.looked.rows is None else f", about {count(found.looked.rows, 'row')}"


def _writers(backfill: Backfill) -> str:
    if backfill.capture == "trigger":
        return f"caught by a trigger, until `migrator backfill finish {backfill.name}`"
    if backfill.capture == "application":
        return "the application writes old and new alike"
    return "none: nobody may write meanwhile"


def _way_back(backfill: Backfill) -> str:
    if backfill.undo is None:
        return "none but the backup: there is no undo"
    return "the backup" if backfill.undo == RESTORE else backfill.undo


def _pace(backfill: Backfill) -> str:
    parts = [
        f"{count(backfill.jobs, 'worker')}, batches of {backfill.target_batch_s:g} s",
        f"gives way after {backfill.max_blocked_s:g} s",
    ]
    if backfill.max_lag_bytes is not None:
        parts.append(f"lag up to {size(backfill.max_lag_bytes)}")
    if backfill.max_active_sessions is not None:
        parts.append(f"up to {count(backfill.max_active_sessions, 'busy session')}")
    return "; ".join(parts)


def _next_of_plan(found: Planned, env: str) -> str:
    if not found.has_come:
        return f"migrator run CHANGELOG --env {env}, which does it after that changeset"
    return f"migrator backfill run {found.backfill.name} --env {env}"


def _state(one: Standing) -> str:
    entry = one.entry
    if entry.state is State.PAUSED:
        return f"paused, {entry.paused_because}" if entry.paused_because else "paused"
    if one.at_work is not None:
        return f"{entry.state.value} ({one.at_work.application_name}, pid {one.at_work.pid})"
    if one.is_left_behind:
        return f"{entry.state.value}, and nobody is at work on it"
    if entry.verified_at is not None and entry.state is State.VERIFIED:
        return f"verified at {_moment(entry.verified_at)}"
    return entry.state.value


def _captured(one: Standing) -> str:
    captured = one.captured
    if captured is None:
        return "no trigger of ours is there"
    if captured.table is None:
        return "the table with the trigger is gone"
    if not captured.complete:
        return f"NOT caught: somebody has changed or disabled the trigger on {captured.table}"
    return f"deletions are caught on {captured.table}" if captured.back else f"caught by a trigger on {captured.table}"


def _pace_so_far(one: Standing) -> str:
    entry = one.entry
    seconds = ((entry.ended_at or one.now) - entry.started_at).total_seconds()
    text = f"{count(entry.batches, 'batch', 'batches')}, begun {duration(max(0.0, seconds))} ago"
    if entry.ended_at is not None:
        return f"{count(entry.batches, 'batch', 'batches')} in {duration(seconds)}"
    eta_s = _eta_s(one)
    return text if eta_s is None else f"{text}, {duration(eta_s)} left at this rate"


def _rate(one: Standing) -> float:
    """Rows a second since it began, pauses counted."""
    seconds = ((one.entry.ended_at or one.now) - one.entry.started_at).total_seconds()
    return one.entry.rows_done / seconds if seconds > 0 else 0.0


def _eta_s(one: Standing) -> float | None:
    entry, rate = one.entry, _rate(one)
    if entry.total is None or entry.state is not State.RUNNING or not rate:
        return None
    return round(max(0, entry.total - entry.rows_done) / rate, 1)


def _moment(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"
