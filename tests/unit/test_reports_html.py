"""The page holds what the record says, whatever is in it, and needs nothing but itself."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path

import pytest

from migrator.reports import html, overview
from migrator.reports.html import Material
from migrator.reports.plots import Plot, nice, thinned
from migrator.reports.timeline import Timeline
from migrator.reports.wording import one_line
from migrator.runs import samples
from migrator.runs.record import ChangesetRecord, MaintenanceRecord, Outcome, RunRecord, StepName, StepRecord
from migrator.runs.samples import Sample
from tests.unit.test_reports_markdown import NASTY, STARTED, a_failed_run

VOID = {"meta", "br", "link", "img", "hr", "input", "polyline"}


class Page(HTMLParser):
    """What a browser would make of it: the text, the tags, and whether each that opens is closed."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.text: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self._open: list[str] = []
        self.feed(source)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self._open or self._open[-1] != "style":
            self.text.append(data)

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).split())


def test_page_says_the_outcome_first_and_then_what_to_do() -> None:
    record = a_failed_run()
    words = Page(html.render(record, Material())).words
    first = ["Failed, and rolled back", "proven to be what it was", "duplicate key", "Remove the duplicate first."]
    first += ["migrator run changelogs/1.sql --env staging", "41 tables are what they were.", "Sequences."]
    places = [words.index(text) for text in first]
    assert places == sorted(places)
    for text in ("312 MB", "public.z", "1,200", "checks/money.sql", "was 10, is 9", "12.0 s (offline)"):
        assert text in words


@pytest.mark.parametrize("value", NASTY)
def test_any_value_is_read_as_it_is(value: str) -> None:
    record = a_failed_run()
    record.changesets = [ChangesetRecord(id=value, author=value, path=value, status="failed")]
    record.warnings = [value]
    record.next_command = value
    key = f"{value}::{value}::{value}"
    page = Page(html.render(record, Material(statements={key: [f"select '{one_line(value)}'"]})))
    assert page.words.count(one_line(value)) >= 6
    assert f"select '{one_line(value)}'" in page.words
    assert "script" not in {tag for tag, _ in page.tags}


def test_page_needs_no_network_and_runs_no_script() -> None:
    source = html.render(a_failed_run(), Material())
    page = Page(source)
    assert not re.search(r"(https?:)?//", source.replace("postgresql://", ""))
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "link", "img", "iframe"})
    policy = [attributes.get("content") for tag, attributes in page.tags if tag == "meta"]
    assert "default-src 'none'; style-src 'unsafe-inline'" in policy
    assert all(not name.startswith("on") for _, attributes in page.tags for name in attributes)


def test_page_holds_what_lies_in_the_folder(tmp_path: Path) -> None:
    record = a_failed_run()
    planned = {"path": "changelogs/1.sql", "id": "1", "author": "kim", "sql": ["alter table orders add note text"]}
    (tmp_path / "plan.json").write_text(json.dumps({"changesets": [planned]}))
    (tmp_path / "liquibase.log").write_text("\n".join(f"line {number}" for number in range(1000)))
    for second, waiting in enumerate((0, 3, 1)):
        at = STARTED + timedelta(seconds=second)
        samples.append(tmp_path, Sample(at=at, waiting=waiting, longest_s=0.5, locked=2, unreadable=1))
    path = html.write(record, tmp_path / "report.html")
    words = Page(path.read_text()).words
    assert "alter table orders add note text" in words
    assert "line 999" in words
    assert "line 599" not in words
    assert "1,000 lines" in words
    assert "sessions of others waiting (at most 3)" in words
    assert path.stat().st_mode & 0o777 == 0o600


def test_page_says_so_where_nobody_waited(tmp_path: Path) -> None:
    for second in range(3):
        at = STARTED + timedelta(seconds=second)
        samples.append(tmp_path, Sample(at=at, waiting=0, longest_s=0.0, locked=0, unreadable=0))
    words = Page(html.write(a_failed_run(), tmp_path / "report.html").read_text()).words
    assert "nobody waited for this run" in words


def test_a_sample_that_was_cut_off_is_left_out(tmp_path: Path) -> None:
    samples.append(tmp_path, Sample(at=STARTED, waiting=1, longest_s=0.5, locked=2, unreadable=1))
    with (tmp_path / samples.NAME).open("a") as file:
        file.write('{"at": "2026-')
    assert [one.waiting for one in samples.read(tmp_path)] == [1]


def test_timeline_shows_what_overlaps_and_what_failed() -> None:
    def step(name: StepName, after_s: float, took_s: float, status: str = "undone") -> StepRecord:
        return StepRecord(name=name, status=status, started_at=STARTED + timedelta(seconds=after_s), duration_s=took_s)

    record = a_failed_run()
    record.steps = [
        step(StepName.LOCK, 0, 1, "done"),
        step(StepName.MAINTAIN, 1, 1),
        step(StepName.BACK_UP, 2, 4),
        step(StepName.APPLY, 6, 2),
    ]
    record.ended_at = STARTED + timedelta(seconds=10)
    record.maintenance = MaintenanceRecord(mode="offline", started_at=STARTED + timedelta(seconds=1))
    record.backups[0].started_at = STARTED + timedelta(seconds=2)
    timeline = Timeline.of(record)
    bars = {name: (bar.kind, bar.start_s, bar.end_s) for name, bar in timeline.lanes}
    assert bars["apply"] == ("bad", 6.0, 8.0)
    assert bars["back up"] == ("undone", 2.0, 6.0)
    assert bars["way back"] == ("back", 8.0, 10.0)
    assert bars["maintenance"] == ("held_off", 1.0, 10.0)
    assert bars["dump"] == ("backup", 2.0, 7.2)
    assert timeline.length_s == 10.0
    assert timeline.share(5.0) == 50.0
    assert timeline.ticks_s == (0.0, 2.0, 4.0, 6.0, 8.0, 10.0)


def test_a_run_that_goes_on_is_drawn_as_far_as_it_is() -> None:
    record = RunRecord(
        run_id="r", environment="e", database="d", changelog="c", started_at=datetime(2026, 1, 1, tzinfo=UTC)
    )
    assert Timeline.of(record).lanes == ()
    assert "The run has not ended" in Page(html.render(record, Material())).words


@pytest.mark.parametrize("outcome", list(Outcome))
def test_every_outcome_has_a_page(outcome: Outcome) -> None:
    record = a_failed_run()
    record.outcome = outcome
    Page(html.render(record, Material()))


def test_plot_keeps_its_peaks() -> None:
    values = [0.0] * 5000
    values[4321] = 7.0
    plot = Plot.of([float(at) for at in range(5000)], {"waiting": values})
    assert plot.lines[0].highest == 7.0
    assert plot.top == 10.0
    assert ",30.00" in plot.lines[0].points
    assert len(thinned(list(zip(values, values, strict=True)))) <= 600


@pytest.mark.parametrize(
    ("value", "top"), [(0.0, 1.0), (1.0, 1.0), (1.2, 2.0), (3.0, 5.0), (7.0, 10.0), (140.0, 200.0)]
)
def test_an_axis_ends_at_a_round_number(value: float, top: float) -> None:
    assert nice(value) == top


def test_a_page_over_many_runs_has_their_figures_and_each_of_them() -> None:
    records = []
    for number, outcome in enumerate((Outcome.MIGRATED, Outcome.ROLLED_BACK, Outcome.HALTED, Outcome.REFUSED)):
        record = a_failed_run()
        record.run_id = f"run-{number}"
        record.started_at = STARTED + timedelta(days=number)
        record.ended_at = record.started_at + timedelta(seconds=10 * (number + 1))
        record.outcome, record.exit_code = outcome, outcome.exit_code
        records.append(record)
    source = overview.render(records, now=STARTED)
    page = Page(source)
    for text in ("4 runs of staging", "1 of 3", "20.0 s", "30.0 s", "Halted: a person is needed", "12.0 s"):
        assert text in page.words
    heights = re.findall(r'class="whole" style="height: ([0-9.]+)%', source)
    assert [float(height) for height in heights] == [20.0, 40.0, 60.0, 80.0]
    assert page.words.index("run-3") < page.words.index("run-0")


def test_a_page_over_no_run_says_so() -> None:
    assert "no run yet" in Page(overview.render([], now=STARTED)).words


@pytest.mark.parametrize("value", NASTY)
def test_any_value_is_read_as_it_is_in_the_page_over_runs(value: str) -> None:
    record = a_failed_run()
    record.environment = record.changelog = record.run_id = value
    assert Page(overview.render([record], now=STARTED)).words.count(one_line(value)) >= 3
