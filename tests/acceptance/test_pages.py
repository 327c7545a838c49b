"""The pages in a real browser: they are whole, need no network, and fit the window, light and dark, wide and narrow.

Needs Debian's Chromium; `make test-slow` installs it where it may (see tests/chromium.py).
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import zlib
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest

from migrator.reports import html, overview
from migrator.runs import samples
from migrator.runs.record import MaintenanceRecord, Outcome, RunRecord, StepName, StepRecord
from migrator.runs.samples import Sample
from tests.chromium import chromium
from tests.unit.test_reports_markdown import STARTED, a_failed_run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

INK, PAPER, INK_OF_DARK = (28, 30, 33), (255, 255, 255), (230, 232, 234)  # of page.css

# What the browser says of the page, as the page itself cannot: it has no script.
_PROBE = """
<script>
addEventListener("load", () => {
  const wide = [...document.querySelectorAll("body *")].filter(
    (one) => !one.closest(".wide, pre, .tick, .axis") && one.getBoundingClientRect().right > innerWidth + 1
  );
  const said = {
    title: document.title,
    h1: document.querySelector("h1").innerText,
    wide: wide.map((one) => one.outerHTML.slice(0, 120)),
    bars: document.querySelectorAll(".bar, .column .whole").length,
    paper: getComputedStyle(document.body).backgroundColor,
    requests: performance.getEntriesByType("resource").map((one) => one.name),
  };
  document.body.innerHTML = "<pre id=said></pre>";
  document.getElementById("said").textContent = "SAID" + JSON.stringify(said) + "DIAS";
});
</script>
"""


def seen(page: Path, *, width: int = 1100, dark: bool = False) -> dict[str, object]:
    probed = page.with_name("probed.html")
    source = page.read_text()
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    assert policy in source
    probed.write_text(
        source.replace(policy, policy + "; script-src 'unsafe-inline'").replace("</body>", _PROBE + "</body>")
    )
    done = subprocess.run(
        [
            *chromium(page.parent / "profile"),
            f"--window-size={width},1400",
            f"--blink-settings=preferredColorScheme={0 if dark else 1}",
            "--virtual-time-budget=5000",
            "--dump-dom",
            probed.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=180,
        check=True,
    )
    shutil.rmtree(page.parent / "profile", ignore_errors=True)
    text = done.stdout.partition("SAID")[2].partition("DIAS")[0]
    found: dict[str, object] = json.loads(text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
    return found


def a_run(outcome: Outcome) -> RunRecord:
    record = a_failed_run()
    record.outcome, record.exit_code = outcome, outcome.exit_code
    names = (StepName.LOCK, StepName.PREFLIGHT, StepName.MAINTAIN, StepName.BACK_UP, StepName.APPLY, StepName.VERIFY)
    record.steps = [
        StepRecord(name=name, status="done", started_at=STARTED + timedelta(seconds=4 * at), duration_s=3.5)
        for at, name in enumerate(names)
    ]
    record.maintenance = MaintenanceRecord(mode="offline", started_at=STARTED + timedelta(seconds=8))
    if outcome is Outcome.MIGRATED:
        record.error, record.next_command = None, None
    record.tables[0].name = "public." + "a_name_that_goes_on_" * 3
    return record


@pytest.mark.parametrize("outcome", [Outcome.MIGRATED, Outcome.ROLLED_BACK, Outcome.RESTORED, Outcome.HALTED])
def test_a_report_is_whole_and_fits_any_window(tmp_path: Path, outcome: Outcome) -> None:
    for second in range(30):
        at = STARTED + timedelta(seconds=second)
        samples.append(tmp_path, Sample(at=at, waiting=second % 4, longest_s=0.5, locked=2, unreadable=1))
    page = html.write(a_run(outcome), tmp_path / "report.html")
    papers = []
    for width, dark in ((1280, False), (400, False), (1280, True), (400, True)):
        found = seen(page, width=width, dark=dark)
        assert found["wide"] == [], (width, found["wide"])
        assert found["requests"] == []
        assert isinstance(found["bars"], int)
        assert found["bars"] >= 7
        assert str(found["title"]).startswith(str(found["h1"]))
        papers.append(found["paper"])
    assert papers[0] == papers[1] != papers[2] == papers[3]


def test_the_page_over_runs_fits_any_window(tmp_path: Path) -> None:
    records = []
    for number in range(80):
        record = a_run(list(Outcome)[number % len(list(Outcome))])
        record.started_at += timedelta(days=number)
        record.ended_at = record.started_at + timedelta(seconds=10 + number)
        records.append(record)
    page = overview.write(records, tmp_path / "history.html", now=STARTED)
    for width in (1280, 400):
        found = seen(page, width=width)
        assert found["wide"] == []
        assert found["bars"] == 80


def test_a_report_is_printed_on_white_paper(tmp_path: Path) -> None:
    """Also by one whose screen is dark."""
    page = html.write(a_run(Outcome.ROLLED_BACK), tmp_path / "report.html")
    paper = page.with_suffix(".pdf")
    subprocess.run(
        [
            *chromium(tmp_path / "profile"),
            "--blink-settings=preferredColorScheme=0",
            "--no-pdf-header-footer",
            f"--print-to-pdf={paper}",
            page.as_uri(),
        ],
        capture_output=True,
        timeout=180,
        check=True,
    )
    said = b"".join(_inflated(paper.read_bytes()))
    fills = {tuple(round(255 * float(part)) for part in one.split()) for one in re.findall(rb"([\d. ]+) rg\b", said)}
    assert {INK, PAPER} <= fills
    assert INK_OF_DARK not in fills


def _inflated(pdf: bytes) -> Iterator[bytes]:
    for stream in re.findall(rb"stream\r?\n(.*?)endstream", pdf, re.DOTALL):
        with suppress(zlib.error):
            yield zlib.decompress(stream)
