"""The pages say what is so: tables, commands, options, examples and links."""

from __future__ import annotations

import importlib.util
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from typer.main import get_command

from migrator.backfills import definition
from migrator.checks import rules, suites
from migrator.cli.app import app
from migrator.config.load import load

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
INLINE = re.compile(r"`(migrator [^`]+)`")
LINK = re.compile(r"\[[^]]+\]\((?!https?:)([^)#]*)(?:#([^)]+))?\)")

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def blocks(page: Path, language: str) -> list[str]:
    return [text for kind, text in BLOCK.findall(page.read_text(encoding="utf-8")) if kind == language]


def commands(page: Path) -> Iterator[list[str]]:
    """The words of every call of migrator on the page."""
    text = page.read_text(encoding="utf-8")
    yield from (shlex.split(call)[1:] for call in INLINE.findall(text))
    for block in blocks(page, "sh"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words[:1] == ["migrator"]:
                yield words[1 : words.index("|") if "|" in words else None]


def tables() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_tables", ROOT / "docs" / "tables.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_tables_are_those_of_the_code() -> None:
    for page, text in tables().pages().items():
        assert page.read_text(encoding="utf-8") == text, f"{page.name} is stale: make docs"


@each_page
def test_every_command_and_every_option_exists(page: Path) -> None:
    for words in commands(page):
        command: Any = get_command(app)
        rest = list(words)
        while rest and rest[0] in getattr(command, "commands", {}):
            command = command.commands[rest.pop(0)]
        assert not rest or rest[0].startswith("-") or not hasattr(command, "commands"), f"there is no command {words}"
        known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
        for word in rest[: rest.index("--") if "--" in rest else None]:  # behind it: what another machine is told
            assert not word.startswith("-") or word in known, f"migrator {' '.join(words)}: there is no {word}"


@each_page
def test_every_configuration_is_accepted(page: Path, tmp_path: Path) -> None:
    for text in blocks(page, "toml"):
        file = tmp_path / "migrator.toml"
        file.write_text(text)
        if page.name == "backfills.md":
            assert definition.read(file).name
        else:
            assert load(file, {}).names


@each_page
def test_every_check_is_accepted(page: Path, tmp_path: Path) -> None:
    for number, text in enumerate(block for block in blocks(page, "yaml") if "expectations:" in block):
        file = tmp_path / f"{number}.yaml"
        file.write_text(text)
        assert suites.load([file])
    for number, text in enumerate(block for block in blocks(page, "sql") if "-- migrator:" in block):
        file = tmp_path / f"{number}.sql"
        file.write_text(text)
        assert rules.load([file])


@each_page
def test_every_link_leads_somewhere(page: Path) -> None:
    for path, anchor in LINK.findall(page.read_text(encoding="utf-8")):
        target = (page.parent / path) if path else page
        assert target.exists(), f"{page.name}: {path}"
        if anchor:
            text = target.read_text(encoding="utf-8")
            titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
            places = {title.strip().lower().replace(" ", "-") for title in titles}
            places |= set(re.findall(r'<a id="([^"]+)">', text))
            assert anchor in places, f"{page.name}: #{anchor}"
