"""In a job of GitHub Actions no secret of the configuration is seen, and one that cannot be had stops nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest

from migrator.cli import job
from migrator.config.configuration import Config
from migrator.config.load import load
from migrator.config.login import Login, Secret
from migrator.config.models import Environment
from migrator.errors import ConnectionFailed
from migrator.runs.run import Run

TEXT = """
[journal]
url = "postgresql://j@127.0.0.1/journal"
password = "${env:JOURNAL_PW}"
[signing]
key = "${env:KEY}"
[environments.shop]
url = "postgresql://migrator@127.0.0.1/shop"
parameters = { token = "${env:TOKEN}", region = "eu-central-1" }
notifications.urls = ["slack://${env:TELL}"]
"""
ENVIRON = {"JOURNAL_PW": "p@ss/word 1", "KEY": "key-line-1\nkey-line-2", "TOKEN": "canary4", "TELL": "canary5"}


@dataclass
class Rotating:
    """A password that stands elsewhere; None: its place does not answer."""

    password: str | None

    def current(self) -> Secret:
        if self.password is None:
            raise ConnectionFailed("Secrets Manager does not answer")
        return Secret(self.password)


@dataclass
class Asked:
    """As much of a run as is asked of it here."""

    config: Config
    environment: Environment
    login: Login


def a_run(folder: Path, *, password: str | None, environ: Mapping[str, str] = ENVIRON) -> Run:
    file = folder / "migrator.toml"
    file.write_text(TEXT)
    config = load(file, environ)
    login = Login(host="127.0.0.1", database="shop", user="migrator", password=Rotating(password))
    return cast("Run", Asked(config=config, environment=config.environment("shop"), login=login))


def test_every_secret_is_masked_in_each_of_its_spellings(tmp_path: Path) -> None:
    found = job.secrets(a_run(tmp_path, password="rotated"))
    assert {"rotated", "p@ss/word 1", "p%40ss%2Fword%201", "key-line-1", "canary4", "slack://canary5"} <= set(found)
    assert "eu-central-1" not in found
    assert all(len(one) > 3 for one in found)


def test_a_secret_that_cannot_be_had_is_left_out(tmp_path: Path) -> None:
    found = job.secrets(a_run(tmp_path, password=None, environ={"TOKEN": "canary4", "TELL": "canary5"}))
    assert {"canary4", "slack://canary5"} <= set(found)


def test_nothing_is_written_where_there_is_no_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    job.hide(a_run(tmp_path, password="rotated"))
    assert capsys.readouterr().err == ""
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    job.hide(a_run(tmp_path, password="rotated"))
    assert "::add-mask::rotated\n" in capsys.readouterr().err


@pytest.mark.parametrize(("root", "prefix"), [("repository/db", "db/"), ("repository", ""), ("elsewhere", "")])
def test_a_file_is_named_from_the_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: str, prefix: str
) -> None:
    monkeypatch.setenv("GITHUB_WORKSPACE", str(tmp_path / "repository"))
    assert job.prefix(tmp_path / root) == prefix
