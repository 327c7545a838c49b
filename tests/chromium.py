"""Debian's Chromium, for the tests that look at pages."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

_QUIET = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


def chromium(profile: Path) -> list[str]:
    """Its program and flags, installed where that is allowed. Fails the test where it is not to be had."""
    program = shutil.which("chromium") or _install()
    return [program, *_QUIET, f"--user-data-dir={profile}"]


def _install() -> str:
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        pytest.fail("these tests need Debian's chromium, and only root may install it: apt-get install chromium")
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for argv in (["apt-get", "update", "-qq"], ["apt-get", "install", "-y", "-qq", "chromium"]):
        subprocess.run(argv, env=env, capture_output=True, timeout=500, check=False)
    program = shutil.which("chromium")
    if program is None:
        pytest.fail("chromium could not be installed: apt-get install chromium")
    return program
