"""A rehearsal for people: on the console at 80 columns, as Markdown, and as JSON."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

from migrator.plans.words import count
from migrator.rehearsals.record import Finding, LegRecord, RehearsalRecord, RehearsedRecord
from migrator.reports import files, markdown
from migrator.reports.markdown import code
from migrator.reports.wording import CONSOLE_WIDTH, duration, labelled, one_line, size

_LABEL = 14
_ROLLBACKS = {
    "restores": "restores",
    "restores_schema": "schema restores; no row was there",
    "loses": "LOSES DATA",
    "fails": "FAILS",
    "none": "there is none",
    "not_tried": "not tried",
}


def write(record: RehearsalRecord, folder: Path) -> list[Path]:
    """`rehearsal.json` and `rehearsal.md` are in the folder, mode 0600; their paths. Safe to repeat.

    Raises: StepFailed when one cannot be written.
    """
    return [
        files.write(folder / "rehearsal.json", record.model_dump_json(indent=2) + "\n"),
        files.write(folder / "rehearsal.md", as_markdown(record)),
    ]


def headline(record: RehearsalRecord) -> str:
    """What it came to, in a few words."""
    if not record.changesets and record.passed:
        return "Nothing to rehearse"
    return "Rehearsal passed" if record.passed else "Rehearsal failed"


def as_text(record: RehearsalRecord) -> str:
    """The rehearsal as a console shows it."""
    return "\n".join(_lines(record))


def as_markdown(record: RehearsalRecord) -> str:
    """The rehearsal as GitHub shows it."""
    return "\n".join(_markdown(record)).rstrip() + "\n"


def _lines(record: RehearsalRecord) -> Iterator[str]:
    yield from textwrap.wrap(one_line(f"{headline(record)}: {record.changelog} ({record.environment})"), CONSOLE_WIDTH)
    yield ""
    for label, value in _facts(record):
        yield from _labelled(label, value)
    if record.changesets:
        yield ""
        yield from _table(record)
    errors_first = sorted(record.findings, key=lambda one: one.severity)
    if errors_first:
        yield ""
    for finding in errors_first:
        yield from _labelled(finding.severity, finding.message)
        if finding.hint:
            yield from _labelled("", finding.hint)
    yield ""
    yield from _labelled("attestation", record.attestation_note or "none was written", whole=record.attestation)
    if record.next_command:
        yield from _labelled("next", "", whole=record.next_command)


def _facts(record: RehearsalRecord) -> Iterator[tuple[str, str]]:
    sizes = f", {size(record.copy_bytes)}" if record.copy_bytes is not None else ""
    yield "copy", f"{record.source}{sizes}, on {record.place or 'no server'}"
    if record.not_represented:
        yield "not in it", "; ".join(record.not_represented)
    if record.way is not None and record.changesets:
        yield "way", record.way + (f", or {record.fallback} where that cannot be" if record.fallback else "")
    for leg in record.legs:
        yield leg.name, _leg(leg)
    for leg in record.legs:
        if leg.name == "roll back":
            for sentence in leg.proven[-1:] if leg.proven and leg.proven[-1].startswith("After it") else ():
                yield "proven", sentence
            for sentence in (one for one in leg.not_proven if one.startswith("The copy is what it was")):
                yield "not proven", sentence
    if record.changesets:
        yield "on target", _estimate(record)


def _leg(leg: LegRecord) -> str:
    outcome = "rolled back and verified" if (leg.name, leg.outcome) == ("roll back", "migrated") else leg.outcome
    outcome = "migrated and verified" if outcome == "migrated" else outcome.replace("_", " ")
    took = f", {duration(leg.duration_s)}" if leg.run_id is not None else ""
    return f"{outcome}{took}" + (f": {leg.note}" if leg.note else "")


def _estimate(record: RehearsalRecord) -> str:
    if record.estimate_s is not None:
        target = f" of {size(record.target_bytes)}" if record.target_bytes is not None else ""
        return f"about {duration(record.estimate_s)} for all changesets, by the size of the tables{target}"
    whys = {one.estimate_from for one in record.changesets if one.estimate_s is None and one.estimate_from}
    return "; ".join(sorted(whys)) or "unknown"


def _table(record: RehearsalRecord) -> Iterator[str]:
    head = ("changeset", "apply", "undo", "on target", "its rollback")
    rows = [_row(one) for one in record.changesets]
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(1, len(head))]
    room = CONSOLE_WIDTH - sum(widths) - 2 * len(widths)
    names = (head[0], *_names([row[0] for row in rows], room))
    for name, row in zip(names, (head, *rows), strict=True):
        numbers = "  ".join(cell.rjust(width) for cell, width in zip(row[1:4], widths[:3], strict=True))
        yield f"{name:<{room}}  {numbers}  {row[4]}".rstrip()
    for one in record.changesets:
        for loss in one.losses:
            yield from textwrap.wrap(
                one_line(f"! {one.key}: {loss.sentence}"), CONSOLE_WIDTH, initial_indent="  ", subsequent_indent="    "
            )


def _row(one: RehearsedRecord) -> tuple[str, str, str, str, str]:
    return (
        one_line(one.key),
        _seconds(one.apply_s),
        _seconds(one.rollback_s),
        _seconds(one.estimate_s),
        _rollback(one),
    )


def _rollback(one: RehearsedRecord) -> str:
    of_rows = any(loss.rows is not None for loss in one.losses)
    return "leaves a difference" if one.losses and not of_rows else _ROLLBACKS[one.rollback]


def _seconds(number: float | None) -> str:
    return "" if number is None else duration(number)


def _names(keys: Sequence[str], room: int) -> list[str]:
    """Where one is too long for its column, without the path that all share; then each without its beginning."""
    is_wide = any(len(key) > room for key in keys)
    if is_wide and len({key.partition("::")[0] for key in keys}) == 1:
        keys = [key.partition("::")[2] for key in keys]
    return [key if len(key) <= room else f"..{key[-room + 2 :]}" for key in keys]


def _labelled(label: str, value: str, *, whole: str | None = None) -> Iterator[str]:
    """Label and text, wrapped; `whole` stands before it on a line of its own, to be copied."""
    if whole is not None:
        yield f"  {label:<{_LABEL}}{one_line(whole)}"
        label = ""
    yield from labelled(label, value, width=_LABEL)


def _markdown(record: RehearsalRecord) -> Iterator[str]:
    text = markdown.text
    yield from (f"# {headline(record)}", "")
    yield f"> [!{'NOTE' if record.passed else 'WARNING'}]"
    yield f"> {text(_verdict(record))}"
    yield ""
    facts = [
        ("rehearsal", code(record.id)),
        ("environment", text(record.environment)),
        ("database", code(record.database)),
        ("changelog", code(record.changelog)),
        *((label, text(value)) for label, value in _facts(record)),
        (
            "attestation",
            (f"{code(record.attestation)} " if record.attestation else "") + text(record.attestation_note or ""),
        ),
    ]
    yield from markdown.table(["", ""], ([f"**{label}**", value] for label, value in facts), len(facts))
    if record.changesets:
        yield from ("## Changesets", "")
        rows = (
            [
                code(one.key),
                text(one.status),
                markdown.seconds(one.apply_s),
                markdown.seconds(one.rollback_s),
                markdown.seconds(one.estimate_s),
                text(one.estimate_from or ""),
                text(_rollback(one)),
            ]
            for one in record.changesets
        )
        head = ["changeset", "status", "apply:", "undo:", "on the target:", "estimated", "its rollback"]
        yield from markdown.table(head, rows, len(record.changesets))
    lost = [(one, loss) for one in record.changesets for loss in one.losses]
    if lost:
        yield from ("## What rollbacks do not bring back", "")
        rows = (
            [
                code(one.key),
                code(loss.what),
                code(loss.column or ""),
                "" if loss.rows is None else f"{loss.rows:,}",
                text(loss.how),
            ]
            for one, loss in lost
        )
        yield from markdown.table(["changeset", "what", "column", "rows:", "how"], rows, len(lost))
    yield from markdown.listing("Findings", [_finding(one) for one in record.findings])
    for leg in record.legs:
        yield from markdown.listing(f"Proven: {leg.name}", leg.proven)
        yield from markdown.listing(f"Not proven: {leg.name}", leg.not_proven)
    if record.next_command:
        yield from ("## Next", "", *markdown.block(record.next_command, "sh"), "")
    rows = ([text(name), text(version)] for name, version in sorted(record.versions.items()))
    yield from ("## Versions", "", *markdown.table(["what", "version"], rows, len(record.versions)))


def _verdict(record: RehearsalRecord) -> str:
    if not record.changesets and record.passed:
        return "The database holds every changeset already."
    if record.passed:
        return (
            f"{count(len(record.changesets), 'changeset')} applied, rolled back where that is possible, applied again."
        )
    return record.errors[0].message


def _finding(one: Finding) -> str:
    return f"{one.severity}: {one.message}" + (f" {one.hint}" if one.hint else "")
