"""Whatever comes in is understood or refused with a reason, never met as a bug. `make fuzz` draws many times more."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from migrator.backups import digests, manifest
from migrator.backups.manifest import Manifest
from migrator.backups.signing import PublicKeys
from migrator.cli import boundary
from migrator.cli.app import app
from migrator.config.load import load
from migrator.errors import BackupFailed, MigratorError, Refused, ToolFailed, UsageError
from migrator.liquibase.changelog import screen
from migrator.liquibase.session import Liquibase
from tests.unit.test_manifest import KEY, of

TIMES = int(os.environ.get("MIGRATOR_FUZZ", "1"))
CANARY = "cAnArY-53cr3t"


def examples(number: int) -> Any:
    return settings(
        max_examples=number * TIMES,
        deadline=None,
        derandomize=TIMES == 1,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
    )


any_text = st.text(max_size=12)
_ODD = (
    *("", " ", "\0", "\n", "--x", "-", "'; drop table x; --", '"', "$(id)", "`id`", "${env:X}", "${env:}", "../.."),
    *("\x1b[2J", "\u202e", "é", "\ud7ff", "a" * 64, "a" * 5000, "postgres", "template1", "//", "C:\\"),
    f"postgresql://u:{CANARY}@h/d",
)
odd_text = st.sampled_from(_ODD)
any_json: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | any_text | odd_text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(any_text | odd_text, inner, max_size=3),
    max_leaves=8,
)

# Configuration


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(str(key))} = {_toml(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if value is None:
        return '""'
    return json.dumps(value) if isinstance(value, str) else str(value)


SETTINGS = {
    "": [
        "url",
        "password",
        "profile",
        "way",
        "bluegreen",
        "contexts",
        "labels",
        "protected",
        "maintenance_database",
        "x",
    ],
    "maintenance": ["database", "outside", "nothing"],
    "backup": ["kinds", "store", "jobs"],
    "checks": ["suites", "invariants"],
    "limits": ["lock_timeout_s", "drain_s", "max_downtime_s", "lease_s", "proof_budget_s", "restore_max_s"],
}


@st.composite
def configurations(draw: st.DrawFn) -> str:
    lines = []
    for section in ("liquibase", "journal", "signing", "defaults"):
        if draw(st.integers(0, 3)) == 0:
            key = draw(st.sampled_from(["version", "root", "url", "key", "public_keys", "way", "x"]))
            lines += [f"[{section}]", f"{key} = {_toml(draw(any_json))}"]
    name = draw(st.sampled_from(["shop", "local", '"odd name"', '""']))
    for section, keys in SETTINGS.items():
        lines.append(f"[environments.{name}{'.' + section if section else ''}]")
        if not section:
            lines.append(f"url = {_toml(draw(st.just('postgresql://m@db/shop') | odd_text))}")
        for key in draw(st.lists(st.sampled_from(keys), max_size=3, unique=True)):
            if key != "url":
                lines.append(f"{key} = {_toml(draw(any_json))}")
    text = "\n".join(lines)
    if draw(st.integers(0, 5)) == 0:
        at = draw(st.integers(0, len(text)))
        text = text[:at] + draw(any_text | odd_text) + text[at:]
    return text


@examples(80)
@given(text=configurations() | any_text | st.binary(max_size=30).map(lambda b: b.decode("latin-1")))
def test_any_configuration_is_read_or_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "migrator.toml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    said = ""
    try:
        config = load(path, {"X": CANARY})
        for name in config.names:
            config.environment(name)
    except UsageError as error:  # ConfigError is one
        said = f"{error} {error.hint}"
    assert CANARY not in said


@examples(12)
@given(arguments=st.lists(any_text | odd_text | st.sampled_from(["run", "show", "--json", "-e", "resume"]), max_size=4))
@example(arguments=["show", "--", "-x"])
def test_any_argument_is_understood_or_refused(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("empty")
    monkeypatch.chdir(folder)
    (folder / "migrator.toml").write_text('[environments.shop]\nurl = "postgresql://m@127.0.0.1:1/shop"\n')
    reading = ["history", "show", "config"]
    code = boundary.run(app, [reading[len(arguments) % 3], *arguments])
    assert code in {0, 2, 3}
    assert sorted(path.name for path in folder.iterdir()) == ["migrator.toml"]


# Changelogs

NAMES = [
    "sql",
    "include",
    "includeAll",
    "sqlFile",
    "loadData",
    "createTable",
    "executeCommand",
    "customChange",
    "rollback",
]
KEYS = ["file", "path", "id", "author", "tableName", "class", "executable", "relativeToChangelogFile", "sql", "dbms"]
attributes = st.dictionaries(
    st.sampled_from(KEYS), any_text | odd_text | st.sampled_from(["a.sql", "b.xml", "."]), max_size=4
)
changes = st.lists(st.tuples(st.sampled_from(NAMES), attributes), max_size=4)
changesets = st.lists(st.tuples(any_text, any_text, changes), max_size=3)


def _as_json(found: list[Any]) -> str:
    return json.dumps(
        {
            "databaseChangeLog": [
                {"changeSet": {"id": one, "author": author, "changes": [{name: given} for name, given in inner]}}
                for one, author, inner in found
            ]
        }
    )


def _as_xml(found: list[Any]) -> str:
    from xml.sax.saxutils import quoteattr

    def tag(name: str, given: dict[str, str]) -> str:
        return f"<{name} {' '.join(f'{key}={quoteattr(value)}' for key, value in given.items())}/>"

    sets = "".join(
        f"<changeSet id={quoteattr(one)} author={quoteattr(author)}>"
        + "".join(tag(*change) for change in inner)
        + "</changeSet>"
        for one, author, inner in found
    )
    return f'<databaseChangeLog xmlns="http://www.liquibase.org/xml/ns/dbchangelog">{sets}</databaseChangeLog>'


def _as_sql(found: list[Any]) -> str:
    sets = "".join(
        f"--changeset {author}:{one}\n" + "".join(f"{name} {given};\n" for name, given in inner)
        for one, author, inner in found
    )
    return "--liquibase formatted sql\n" + sets


FORMATS = {"json": _as_json, "yaml": _as_json, "xml": _as_xml, "sql": _as_sql}


@examples(80)
@given(
    found=changesets,
    kind=st.sampled_from(sorted(FORMATS)),
    broken=st.none() | st.tuples(st.integers(0, 400), any_text | odd_text),
)
@example(found=[("1", "ann", [("include", {"file": "\U0001f600.sql"})])], kind="json", broken=None)
@example(found=[("1", "ann", [("include", {"file": "r"})])], kind="yaml", broken=(85, "\\ud83d"))
def test_any_changelog_is_screened_or_refused(
    tmp_path: Path, found: list[Any], kind: str, broken: tuple[int, str] | None
) -> None:
    text = FORMATS[kind](found)
    if broken is not None:
        text = text[: broken[0]] + broken[1] + text[broken[0] :]
    (tmp_path / "a.sql").write_text("select 1;")
    (tmp_path / f"main.{kind}").write_bytes(text.encode("utf-8", "surrogatepass"))
    with suppress(Refused):
        screened = screen(tmp_path, f"main.{kind}", {})
        assert all((tmp_path / file).resolve().is_relative_to(tmp_path.resolve()) for file in screened.files)


# Manifests


@pytest.fixture
def backup(tmp_path_factory: pytest.TempPathFactory) -> Path:
    top = tmp_path_factory.mktemp("store") / "20260101-aaaa"
    (top / "dump").mkdir(parents=True)
    (top / "dump" / "toc.dat").write_bytes(b"what a backup is made of")
    found = digests.of_files([path for path in top.rglob("*") if path.is_file()], jobs=1)
    manifest.write(top, of(manifest.entries(top, found)), KEY)
    return top


def _paths(value: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield before
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from _paths(inner, (*before, key))


@examples(60)
@given(data=st.data(), signed=st.booleans())
def test_any_change_of_a_manifest_is_refused(backup: Path, data: st.DataObject, signed: bool) -> None:
    """By its checksum where it was damaged, by its signature where somebody put the checksum right again."""
    file = backup / manifest.FILE_NAME
    whole = file.read_bytes()
    keys = PublicKeys(KEY.public.keys) if signed else None
    right: Manifest = manifest.read(backup, keys)
    document = json.loads(whole)
    path = data.draw(st.sampled_from([one for one in _paths(document) if one]))
    put = data.draw(any_json)
    at = document
    for key in path[:-1]:
        at = at[key]
    was, at[path[-1]] = at[path[-1]], put
    try:
        file.write_text(json.dumps(document), encoding="utf-8", errors="surrogatepass")
        try:
            found = manifest.read(backup, keys)
        except BackupFailed:
            return
        assert found == right or (path == ("signature",) and not signed), f"{path}: {was!r} became {put!r}, unnoticed"
    finally:
        file.write_bytes(whole)


# The worker's lines


class Said:
    """A worker that answers with these messages, then is gone."""

    def __init__(self, messages: list[Any]) -> None:
        self._messages = messages
        self.killed = False

    def send(self, message: dict[str, Any]) -> None:
        pass

    def receive(self, timeout_s: float) -> dict[str, Any]:
        if not self._messages:
            raise ToolFailed("it is gone", code="gone")
        message = self._messages.pop(0)
        if not isinstance(message, dict):
            raise ToolFailed("that is no message", code="protocol")
        return message

    def kill(self) -> None:
        self.killed = True


fields = st.sampled_from(["id", "ok", "error", "event", "changesets", "write_set", "kind", "message", "code"])
messages = st.lists(
    st.dictionaries(fields, st.sampled_from([1, 0, 2]) | any_json, max_size=4)
    | st.fixed_dictionaries({"id": st.just(1)}, optional={"ok": any_json, "error": any_json, "event": any_json})
    | any_json,
    max_size=3,
)


@examples(60)
@given(said=messages)
@example(said=[{}])
@example(said=[{"id": 1, "ok": {}}])
@example(said=[{"id": 1, "error": {"kind": "sql"}}])
@example(said=[{"id": 1, "event": {"kind": "will_run", "surprise": 1}}])
def test_any_line_of_a_worker_is_understood_or_an_error(said: list[Any]) -> None:
    liquibase = Liquibase(Said(said))  # type: ignore[arg-type]
    with pytest.raises(MigratorError):
        liquibase.update("a.sql", on_event=lambda _: None, timeout_s=5.0)
