"""Tells people of a run by Apprise: mail, Slack, Teams, webhooks. Whatever becomes of it, the run goes on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from migrator.config.notifications import Event, NotificationSettings
from migrator.errors import UsageError
from migrator.reports import verdict
from migrator.reports.verdict import Tone, Verdict
from migrator.reports.wording import one_line
from migrator.runs.record import Outcome, RunRecord
from migrator.runs.reporter import PassedOn, Reporter

# Title and message for each of the URLs; the number of those that did not take it.
Send = Callable[[Sequence[str], str, str, Tone], int]

_TEMPLATES: Mapping[Event, str] = {
    "announced": "Maintenance of {{ environment }} from {{ begins }} to {{ ends }}\n{{ reason }}",
    "started": "{{ environment }}: {{ changelog }} begins\nRun {{ run }} on {{ database }} has begun.",
    "finished": "{{ environment }}: {{ headline }}\n{{ changelog }}: {{ database_state }}\nDowntime: {{ downtime }}",
    "failed": (
        "{{ environment }}: {{ headline }}\n{{ changelog }}: {{ database_state }}\n{{ error }}\n"
        "{% if next %}Next: {{ next }}{% endif %}"
    ),
    "halted": (
        "{{ environment }}: {{ headline }}\nRun {{ run }} of {{ changelog }} on {{ database }}: {{ database_state }}\n"
        "{{ error }}\n{% if next %}Next: {{ next }}{% endif %}"
    ),
}
_NEEDS_A_PERSON = {Outcome.HALTED, Outcome.UNFINISHED, Outcome.INTERRUPTED}
_WENT_WELL = {Outcome.MIGRATED, Outcome.BROUGHT_BACK, Outcome.NOTHING_TO_DO}


class Notified(PassedOn):
    """A reporter that tells people of a run's begin and end, and passes everything on to the next one."""

    def __init__(self, then: Reporter, settings: NotificationSettings, *, send: Send | None = None) -> None:
        super().__init__(then)
        self._settings = settings
        self._send = send or by_apprise
        self._telling: list[threading.Thread] = []

    def started(self, record: RunRecord) -> None:
        super().started(record)
        self._tell("started", record)

    def finished(self, record: RunRecord, files: Sequence[Path]) -> None:
        super().finished(record, files)  # first: whoever waits at the terminal does not wait for a mail server
        self._tell(event_of(record), record)
        for thread in self._telling:
            thread.join(self._settings.timeout_s)
        if any(thread.is_alive() for thread in self._telling):
            self.warning(f"Not everybody could be told within {self._settings.timeout_s:g} s.")

    def _tell(self, event: Event, record: RunRecord) -> None:
        if not self._settings.urls or event not in self._settings.on:
            return
        thread = threading.Thread(target=self._send_one, args=(event, record.model_copy(deep=True)), daemon=True)
        self._telling.append(thread)
        thread.start()

    def _send_one(self, event: Event, record: RunRecord) -> None:
        try:
            missed = tell(self._settings, event, fields_of(record), Verdict.of(record).tone, send=self._send)
        except Exception as error:  # noqa: BLE001  telling people never changes what becomes of a run
            self.warning(f"Nobody was told: {type(error).__name__}.")  # its text may hold an address with a secret
            return
        if missed:
            self.warning(f"{missed} of {len(self._settings.urls)} addresses could not be told.")


def event_of(record: RunRecord) -> Event:
    """What a run that has ended is to those who are told."""
    if record.outcome in _WENT_WELL:
        return "finished"
    return "halted" if record.outcome is None or record.outcome in _NEEDS_A_PERSON else "failed"


def fields_of(record: RunRecord) -> dict[str, str]:
    """What a template may use of a run."""
    told = Verdict.of(record)
    return {
        "headline": told.headline,
        "database_state": told.database,
        "environment": record.environment,
        "database": record.database,
        "changelog": record.changelog,
        "run": record.run_id,
        "outcome": record.outcome.value if record.outcome is not None else "running",
        "error": " ".join(verdict.error_lines(record)),
        "downtime": verdict.downtime(record),
        "next": record.next_command or "",
    }


def tell(
    settings: NotificationSettings, event: Event, fields: Mapping[str, str], tone: Tone, *, send: Send | None = None
) -> int:
    """Everybody was told, but for the number of addresses that is returned.

    Raises: UsageError for a template that cannot be used.
    """
    title, _, body = message(_template(settings, event), fields).strip().partition("\n")
    return (send or by_apprise)(settings.urls, one_line(title), body.strip() or one_line(title), tone)


def _template(settings: NotificationSettings, event: Event) -> str:
    if settings.templates is None or not (path := settings.templates / f"{event}.j2").is_file():
        return _TEMPLATES[event]
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {error}", code="template") from error


def message(template: str, fields: Mapping[str, str]) -> str:
    """The template with the fields filled in, each on one line. Raises: UsageError."""
    from jinja2 import TemplateError
    from jinja2.sandbox import SandboxedEnvironment

    shown = {name: one_line(value) for name, value in fields.items()}
    try:
        return SandboxedEnvironment(autoescape=False).from_string(template).render(shown)
    except (TemplateError, ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise UsageError(f"a template of notifications cannot be used: {error}", code="template") from error


def by_apprise(urls: Sequence[str], title: str, body: str, tone: Tone) -> int:
    """How many of the addresses did not take the message. Their URLs, which hold secrets, are told to nobody."""
    import logging

    import apprise

    logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)
    kinds = {Tone.GOOD: apprise.NotifyType.SUCCESS, Tone.CAUTION: apprise.NotifyType.WARNING}
    missed = 0
    for url in urls:
        everybody = apprise.Apprise()
        taken = everybody.add(url) and everybody.notify(
            title=title, body=body, notify_type=kinds.get(tone, apprise.NotifyType.FAILURE)
        )
        missed += not taken
    return missed
