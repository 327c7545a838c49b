"""Makes docs/images/report.png again: the report of the demo's last run, which is rolled back. `make screenshot`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.chromium import chromium  # noqa: E402

FOLDER = ROOT / "build" / "screenshot"
IMAGE = ROOT / "docs" / "images" / "report.png"
WIDTH, HEIGHT = 1000, 1266  # with the whole timeline


def main() -> None:
    program = Path(sys.executable).with_name("migrator")
    subprocess.run([program, "demo", "--folder", FOLDER], check=True, timeout=600)
    report = max((FOLDER / ".migrator" / "runs").glob("*/report.html"))  # their ids sort by time
    flags = [f"--window-size={WIDTH},{HEIGHT}", "--blink-settings=preferredColorScheme=1", f"--screenshot={IMAGE}"]
    subprocess.run(
        [*chromium(FOLDER / "profile"), *flags, report.as_uri()], check=True, capture_output=True, timeout=180
    )


if __name__ == "__main__":
    main()
