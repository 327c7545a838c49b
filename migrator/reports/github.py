"""A run inside GitHub Actions: a group of the log for each step, secrets masked, annotations, summary and outputs."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TextIO

from migrator.failpoints import Effect, effect
from migrator.plans.plan import Plan, PlannedChangeset
from migrator.rehearsals.dry_run_record import DryRunFinding, DryRunRecord
from migrator.rehearsals.record import RehearsalRecord
from migrator.reports import markdown, plan_view, verdict, workflow_commands
from migrator.reports.symbols import Symbols
from migrator.reports.verdict import Tone, Verdict
from migrator.reports.wording import count, one_line
from migrator.reports.workflow_commands import Annotation, Level
from migrator.runs.record import RunRecord, StepName
from migrator.runs.reporter import PassedOn, Reporter

SUMMARY_BYTES = 1_000_000  # GitHub refuses a step's summary of more than 1 MiB
_CUT = "\n\n_The rest is in the report._\n"


@dataclass(frozen=True, kw_only=True)
class Told:
    """What a job shows of a command: Markdown, annotations, and outputs for its later steps."""

    summary: str
    annotations: Sequence[Annotation] = ()
    outputs: Mapping[str, str] = field(default_factory=dict)


def is_here(environ: Mapping[str, str]) -> bool:
    """Whether this is a job of GitHub Actions."""
    return environ.get("GITHUB_ACTIONS") == "true"


def hide(secrets: Iterable[str], *, stream: TextIO | None = None) -> None:
    """The job's log shows none of them from here on. Never raises."""
    for secret in secrets:
        for line in secret.splitlines():  # GitHub masks line by line
            _say(sys.stderr if stream is None else stream, f"::add-mask::{workflow_commands.data(line)}")


def tell(told: Told, environ: Mapping[str, str], *, prefix: str = "", stream: TextIO | None = None) -> None:
    """The job has it: its log the annotations, GITHUB_STEP_SUMMARY and GITHUB_OUTPUT the rest. Never raises.

    `prefix` is what stands before a changelog's path in the repository.
    """
    placed = [replace(one, file=f"{prefix}{one.file}") if one.file else one for one in told.annotations]
    for line in workflow_commands.commands(placed):
        _say(sys.stderr if stream is None else stream, line)
    _append(environ.get("GITHUB_STEP_SUMMARY"), cut(told.summary))
    _append(environ.get("GITHUB_OUTPUT"), "".join(output(name, value) for name, value in told.outputs.items()))


class GitHub(PassedOn):
    """A reporter that tells GitHub what it is told, around what the next one writes.

    `environ` names the files to write to (GITHUB_STEP_SUMMARY, GITHUB_OUTPUT); without one of them that part is left
    out. `secrets` are masked before anything else is written; `prefix` stands before a changelog's path in the
    repository.
    """

    def __init__(
        self,
        then: Reporter,
        environ: Mapping[str, str],
        *,
        secrets: Iterable[str] = (),
        prefix: str = "",
        stream: TextIO | None = None,
    ) -> None:
        super().__init__(then)
        self._environ = environ
        self._secrets = [secret for secret in secrets if secret]
        self._prefix = prefix
        self._stream = sys.stderr if stream is None else stream
        self._in_group = False

    def started(self, record: RunRecord) -> None:
        hide(self._secrets, stream=self._stream)
        super().started(record)

    def step_started(self, name: StepName, title: str) -> None:
        self._end_group()
        self._say(f"::group::{workflow_commands.data(one_line(title))}")
        self._in_group = True
        super().step_started(name, title)

    def step_ended(self, name: StepName, status: str, duration_s: float, note: str | None) -> None:
        self._end_group()  # what ended stands outside, where it is seen
        super().step_ended(name, status, duration_s, note)

    def finished(self, record: RunRecord, files: Sequence[Path]) -> None:
        self._end_group()
        super().finished(record, files)
        told = Told(summary=markdown.render(record), annotations=list(of_run(record)), outputs=outputs(record, files))
        tell(told, self._environ, prefix=self._prefix, stream=self._stream)

    def _end_group(self) -> None:
        if self._in_group:
            self._in_group = False
            self._say("::endgroup::")

    def _say(self, line: str) -> None:
        _say(self._stream, line)


def of_plan(plan: Plan, against: int) -> Told:
    """A plan: what it comes to, its SQL folded, its findings at their places, its digest; `against` forbid it."""
    levels: dict[str, Level] = {"error": "error", "warning": "warning"}
    shown = plan_view.lines(plan, Symbols.for_encoding("utf-8"), width=100, sql="none")
    summary = [
        f"# {_headline(plan, against)}",
        "",
        f"{markdown.code(plan.changelog)} for {markdown.text(plan.environment)}",
        "",
        *markdown.block("\n".join(line.text for line in shown)),
        *_folded("SQL, and what takes it back", "\n\n".join(_sql(one) for one in plan.changesets)),
    ]
    return Told(
        summary="\n".join(summary) + "\n",
        annotations=[
            Annotation(
                level=levels.get(one.severity, "notice"),
                title=one.rule,
                message=f"{one.message}\nWhy: {one.why}\nSafer: {one.safer}",
                file=one.file,
                line=one.line,
            )
            for one in plan.findings
            if one.switched_off is None
        ],
        outputs={
            "outcome": "refused" if against else "planned",
            "exit-code": "3" if against else "0",
            "digest": plan.digest,
            "changesets": str(len(plan.changesets)),
        },
    )


def _headline(plan: Plan, against: int) -> str:
    if against:
        return f"{count(against, 'finding')} against this plan"
    if not plan.changesets:
        return "Nothing to do"
    if plan.obstacles:
        return "A run would be refused just now"
    return f"{count(len(plan.changesets), 'changeset')} would run"


def _sql(one: PlannedChangeset) -> str:
    undo = _ended(one.rollback_sql) if one.has_rollback else "none"
    return "\n".join([f"-- {one.path}::{one.id}::{one.author}", _ended(one.sql), "-- rollback:", _as_comment(undo)])


def _ended(statements: Sequence[str]) -> str:
    return "\n".join(f"{statement.strip().rstrip(';')};" for statement in statements if statement.strip())


def _as_comment(sql: str) -> str:
    return "\n".join(f"--   {line}" for line in sql.splitlines())


def _folded(title: str, sql: str) -> list[str]:
    if not sql:
        return []
    return ["", f"<details><summary>{title}</summary>", "", *markdown.block(sql, "sql"), "", "</details>"]


def of_trial(record: RehearsalRecord | DryRunRecord, summary: str, files: Sequence[Path]) -> Told:
    """A rehearsal or a dry run: its Markdown, its findings at their places where they have one, its outputs."""
    annotations = []
    for one in record.findings:
        file, line = (one.file, one.line) if isinstance(one, DryRunFinding) else (None, None)
        message = f"{one.message}\nWhat to do: {one.hint}" if one.hint else one.message
        annotations.append(Annotation(level=one.severity, title=one.code, message=message, file=file, line=line))
    return Told(
        summary=summary,
        annotations=annotations,
        outputs={
            "run-id": record.id,
            "outcome": "passed" if record.exit_code == 0 else "failed",
            "exit-code": str(record.exit_code),
            "report": next((str(file) for file in files if file.suffix == ".md"), ""),
            "next-command": record.next_command or "",
        },
    )


def of_run(record: RunRecord) -> Iterator[Annotation]:
    """What a person should see beside the job: the verdict, where it failed, failed checks, warnings."""
    told = Verdict.of(record)
    error = record.error
    if error is not None and told.tone is not Tone.GOOD:
        lines = [*verdict.error_lines(record), told.database]
        lines += [f"What to do: {error.hint}"] if error.hint else []
        lines += [f"Next: {record.next_command}"] if record.next_command else []
        message = "\n".join(lines)
        yield Annotation(level="error", title=told.headline, message=message, file=error.file, line=error.line)
    for check in record.checks:
        if not check.success:
            title = f"{check.name} ({check.phase})"
            yield Annotation(
                level="error" if check.severity == "critical" else "warning",
                title=title,
                message=check.detail or "does not hold",
            )
    yield from (Annotation(level="warning", title="migrator", message=text) for text in record.warnings)


def outputs(record: RunRecord, files: Sequence[Path]) -> dict[str, str]:
    """What later steps of the job can go by; every name is always there."""
    report = next((file for file in files if file.suffix == ".html"), None)
    still_on = record.maintenance.started_at is not None and record.maintenance.ended_at is None
    return {
        "run-id": record.run_id,
        "outcome": record.outcome.value if record.outcome is not None else "",
        "exit-code": "" if record.exit_code is None else str(record.exit_code),
        "changesets-applied": str(sum(changeset.status == "executed" for changeset in record.changesets)),
        "backup": record.backups[0].id if record.backups else "",
        "rolled-back": str(record.exit_code in {6, 7}).lower(),
        "maintenance": record.maintenance.mode if still_on else "off",
        "report": str(report) if report is not None else "",
        "next-command": record.next_command or "",
    }


def _say(stream: TextIO, line: str) -> None:
    with suppress(OSError, ValueError):
        stream.write(line + "\n")
        stream.flush()


@effect(Effect.LOG)
def _append(path: str | None, text: str) -> None:
    if path:
        with suppress(OSError), Path(path).open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)


def output(name: str, value: str) -> str:
    """One output, as the file GITHUB_OUTPUT takes it: between lines that nobody can foresee."""
    end = f"end-{uuid.uuid4().hex}"
    return f"{name}<<{end}\n{value}\n{end}\n"


def cut(text: str, limit_bytes: int = SUMMARY_BYTES) -> str:
    """The text, or as many of its lines as fit, and the word that there are more."""
    if len(text.encode()) <= limit_bytes:
        return text
    room = limit_bytes - len(_CUT.encode())
    kept: list[str] = []
    for line in text.splitlines(keepends=True):
        room -= len(line.encode())
        if room < 0:
            break
        kept.append(line)
    return "".join(kept).rstrip() + _CUT
