"""People are told of a run by Apprise; whatever becomes of that, the run ends as it would."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from migrator.config import show
from migrator.config.load import load
from migrator.config.notifications import NotificationSettings
from migrator.errors import UsageError
from migrator.reports import notifications
from migrator.reports.notifications import Notified
from migrator.reports.verdict import Tone
from migrator.runs.record import Outcome
from migrator.runs.reporter import SilentReporter
from tests.unit.test_reports_markdown import NASTY, a_failed_run


class Hearing(SilentReporter):
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warning(self, text: str) -> None:
        self.warnings.append(text)


@pytest.fixture
def webhook() -> Iterator[tuple[str, list[dict[str, str]]]]:
    """An address that takes messages, and those it took."""
    taken: list[dict[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            taken.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"json://127.0.0.1:{server.server_port}/", taken
    server.shutdown()
    server.server_close()


def test_a_webhook_hears_of_begin_and_end(webhook: tuple[str, list[dict[str, str]]]) -> None:
    url, taken = webhook
    hearing = Hearing()
    reporter = Notified(hearing, NotificationSettings(urls=(url,), timeout_s=60.0))
    record = a_failed_run()
    reporter.started(record)
    reporter.finished(record, [])
    assert sorted(one["title"] for one in taken) == [
        "staging: Failed, and rolled back",
        "staging: changelogs/1.sql begins",
    ]
    end = next(one for one in taken if "Failed" in one["title"])
    assert "proven to be what it was" in end["message"]
    assert "duplicate key" in end["message"]
    assert end["message"].endswith("Next: migrator run changelogs/1.sql --env staging")
    assert end["type"] == "warning"
    assert hearing.warnings == []


def test_an_address_that_takes_nothing_is_a_warning_without_the_address() -> None:
    hearing = Hearing()
    url = "json://user:hush-hush@127.0.0.1:9/"  # nobody listens on the discard port
    reporter = Notified(hearing, NotificationSettings(urls=(url, "no-such-service://hush-hush"), timeout_s=60.0))
    reporter.finished(a_failed_run(), [])
    assert hearing.warnings == ["2 of 2 addresses could not be told."]


def test_one_that_never_answers_holds_nobody_up() -> None:
    go_on = threading.Event()

    def send(_urls: Sequence[str], _title: str, _body: str, _tone: Tone) -> int:
        go_on.wait(60.0)
        return 0

    hearing = Hearing()
    reporter = Notified(hearing, NotificationSettings(urls=("json://x/",), timeout_s=0.05), send=send)
    reporter.finished(a_failed_run(), [])
    go_on.set()
    assert hearing.warnings == ["Not everybody could be told within 0.05 s."]


def test_only_what_was_asked_for_is_told() -> None:
    told: list[str] = []

    def send(_urls: Sequence[str], title: str, _body: str, _tone: Tone) -> int:
        told.append(title)
        return 0

    reporter = Notified(SilentReporter(), NotificationSettings(urls=("json://x/",), on=("halted",)), send=send)
    record = a_failed_run()
    reporter.started(record)
    reporter.finished(record, [])
    assert told == []
    record.outcome = Outcome.HALTED
    reporter.finished(record, [])
    assert told == ["staging: Halted: a person is needed"]


@pytest.mark.parametrize(
    ("outcome", "event"),
    [
        (Outcome.MIGRATED, "finished"),
        (Outcome.NOTHING_TO_DO, "finished"),
        (Outcome.REFUSED, "failed"),
        (Outcome.ROLLED_BACK, "failed"),
        (Outcome.RESTORED, "failed"),
        (Outcome.UNFINISHED, "halted"),
        (Outcome.HALTED, "halted"),
        (Outcome.INTERRUPTED, "halted"),
        (None, "halted"),
    ],
)
def test_who_must_come_is_told_apart(outcome: Outcome | None, event: str) -> None:
    record = a_failed_run()
    record.outcome = outcome
    assert notifications.event_of(record) == event


def test_a_template_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "failed.j2").write_text("{{ environment | upper }}!\n{{ outcome }} of {{ changelog }}\n")
    seen: list[tuple[str, str]] = []

    def send(_urls: Sequence[str], title: str, body: str, _tone: Tone) -> int:
        seen.append((title, body))
        return 0

    settings = NotificationSettings(urls=("json://x/",), templates=tmp_path)
    notifications.tell(settings, "failed", notifications.fields_of(a_failed_run()), Tone.CAUTION, send=send)
    assert seen == [("STAGING!", "rolled_back of changelogs/1.sql")]


@pytest.mark.parametrize("template", ["{{ ''.__class__.__mro__ }}", "{% if %}", "{{ 1 / 0 }}"])
def test_a_template_that_cannot_be_used_is_said_to_be_so(template: str) -> None:
    with pytest.raises(UsageError, match="template"):
        notifications.message(template, {})


@pytest.mark.parametrize("value", NASTY)
def test_no_value_is_taken_for_a_template_or_a_second_line(value: str) -> None:
    text = notifications.message("{{ error }}", {"error": value + "{{ 7 * 7 }}"})
    assert "{{ 7 * 7 }}" in text
    assert "\n" not in text


@pytest.mark.parametrize(
    ("urls", "reference"),
    [
        (["slack://canary/b/c"], None),
        (["slack://canary/b/c", "${env:TELL}"], "${env:TELL}"),
        (["slack://canary/${env:TELL}"], "${env:TELL}"),
    ],
)
def test_no_setting_that_is_shown_holds_an_address(urls: list[str], reference: str | None, tmp_path: Path) -> None:
    file = tmp_path / "migrator.toml"
    file.write_text(f'[environments.shop]\nurl = "postgresql://m@h/shop"\nnotifications.urls = {urls}\n')
    config = load(file, {"TELL": "slack://canary/e/f"})
    settings = show.shown(config, config.environment("shop"))
    assert "canary" not in show.as_text(config, config.environment("shop")) + repr(settings)
    assert next(one.reference for one in settings if one.key == "notifications.urls") == reference
