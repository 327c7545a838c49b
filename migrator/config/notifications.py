"""Who is told of runs, and when."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from migrator.config.settings import FilePath, Seconds, Settings, Text

Event = Literal["announced", "started", "finished", "failed", "halted"]


class NotificationSettings(Settings):
    urls: tuple[Text, ...] = Field(default=(), repr=False)
    """Where to, as Apprise URLs (mail, Slack, Teams, webhooks); each a reference, such as ${env:SLACK_URL}."""
    on: tuple[Event, ...] = ("announced", "started", "finished", "failed", "halted")
    """What is told: announced (`migrator announce`), started, finished, failed (the database is safe), halted (a
    person is needed)."""
    timeout_s: Seconds = 10.0
    """Seconds that telling may take. A run never waits longer, and never ends otherwise for it."""
    templates: FilePath | None = None
    """A folder with started.j2, failed.j2 and so on, each a message in Jinja's words, its first line the title; what is
    not there has its default. Relative to migrator.toml's folder."""
