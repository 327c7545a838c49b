"""A jar is asked for again after a passing network error, and only then."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import requests

from migrator.errors import ToolFailed
from migrator.liquibase import jars
from migrator.liquibase.jars import Pin

TEXT = b"a jar"
PIN = Pin(group="g", artifact="a", version="1", sha256=hashlib.sha256(TEXT).hexdigest())


def fetch(monkeypatch: pytest.MonkeyPatch, folder: Path, errors: list[Exception]) -> None:
    def resolve(_pin: Pin, staging: Path) -> Path:
        if errors:
            raise errors.pop(0)
        (staging / "fetched").write_bytes(TEXT)
        return staging / "fetched"

    monkeypatch.setattr(jars, "_resolve", resolve)
    monkeypatch.setattr(jars, "_LONGEST_PAUSE_S", 0.0)
    (folder / "staging").mkdir()
    jars._fetch(PIN, folder / "staging", folder)


def test_a_passing_error_is_tried_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fetch(monkeypatch, tmp_path, [requests.exceptions.ConnectionError("reset"), requests.exceptions.Timeout("slow")])
    assert (tmp_path / PIN.file_name).read_bytes() == TEXT


@pytest.mark.parametrize(
    ("error", "tried"), [(requests.exceptions.ConnectionError("down"), 3), (requests.exceptions.HTTPError("404"), 1)]
)
def test_what_does_not_pass_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: Exception, tried: int
) -> None:
    errors = [error] * 5
    with pytest.raises(ToolFailed) as caught:
        fetch(monkeypatch, tmp_path, errors)
    assert caught.value.code == "download"
    assert len(errors) == 5 - tried
