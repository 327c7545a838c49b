"""Whatever comes in is understood or refused with a reason, never met as a bug. `make fuzz` draws many times more."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import fields as dataclass_fields
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from migrator.backups import digests, manifest
from migrator.backups.manifest import Manifest
from migrator.backups.signing import PublicKeys
from migrator.checks.results import CheckResult
from migrator.checks.runner import SuiteRunner
from migrator.checks.suites import Expectation, Suite
from migrator.cli import boundary
from migrator.cli.app import app
from migrator.config.load import load
from migrator.config.login import Login
from migrator.errors import BackupFailed, MigratorError, Refused, ToolFailed, UsageError
from migrator.liquibase.changelog import screen
from migrator.liquibase.models import LiquibaseOptions
from migrator.liquibase.session import Liquibase
from migrator.liquibase.worker.__main__ import _OPERATIONS
from migrator.postgres.session import Row
from migrator.processes import Child
from tests.unit.hostile_changelogs import Hostile, changelogs
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


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    (tmp_path / "outside.sql").write_text("select 1;")
    (root / "a.sql").write_text("select 1;")
    return root


def _screened(root: Path, suffix: str, data: bytes) -> bool:
    """Whether it was accepted; then it is made of files below the root."""
    (root / f"main.{suffix}").write_bytes(data)
    with suppress(Refused):
        screened = screen(root, f"main.{suffix}", {})
        for file in screened.files:
            assert (root / file).resolve().is_relative_to(root.resolve())
            assert (root / file).is_file()
        return True
    return False


@examples(120)
@given(found=changelogs(any_text | odd_text))
def test_any_changelog_is_screened_or_refused(root: Path, found: Hostile) -> None:
    """Refused wherever it runs a program, loads a class, has a DOCTYPE or a tag, or names a file outside the root."""
    accepted = _screened(root, found.suffix, found.data)
    assert not (accepted and found.refused)


@examples(60)
@given(found=changelogs(any_text | odd_text), at=st.integers(0, 400), put=any_text | odd_text)
def test_any_damaged_changelog_is_screened_or_refused(root: Path, found: Hostile, at: int, put: str) -> None:
    _screened(root, found.suffix, found.data[:at] + put.encode() + found.data[at:])


FIRST = "databaseChangeLog: [{changeSet: {id: 1, author: a, changes: [%s]}}]"


@pytest.mark.parametrize(
    "text",
    [
        FIRST % "{sqlFile: {<<: {path: ../outside.sql}}}",
        FIRST % "{sqlFile: {<<: [{dbms: x}, {<<: {path: ../outside.sql}}]}}",
        FIRST % "{sqlFile: {PATH: ../outside.sql}}",
        FIRST % "{sqlFile: [{path: ../outside.sql}]}",
        FIRST % "{sqlFile: {path: [../outside.sql]}}",
        FIRST % "{sqlFile: {path: ../outside.sql, path: a.sql}}",
        FIRST % "{insert: {columns: [{column: {name: a, valueClobFile: ../outside.sql}}]}}",
        FIRST % "{insert: {columns: [{column: [{valueBlobFile: [../outside.sql]}]}]}}",
        FIRST % "{ExecuteCommand: {executable: id}}",
        FIRST % "{? {executeCommand: {executable: id}} : 1}",
        FIRST % "{!!str executeCommand: {executable: id}}",
        FIRST % "!!python/object/apply:os.system [id]",
        FIRST % '{sql: "\\U00110000"}',
        FIRST % ("[" * 3000 + "]" * 3000),
        "a: 1\n---\n" + FIRST % "{sql: select 1}",
    ],
)
def test_yaml_that_hides_what_it_asks_for_is_refused(root: Path, text: str) -> None:
    assert not _screened(root, "yaml", text.encode())


@pytest.mark.parametrize("change", ["{sql: select 1}", "{sqlFile: {<<: {path: a.sql}}}", "{sqlFile: &x {path: a.sql}}"])
def test_yaml_that_hides_nothing_is_accepted(root: Path, change: str) -> None:
    assert _screened(root, "yaml", (FIRST % change).encode())


def test_json_that_is_nested_without_end_is_refused(root: Path) -> None:
    assert not _screened(root, "json", b"[" * 100_000)
    assert not _screened(root, "json", b"[" + b"1" * 5000 + b"]")


@pytest.mark.parametrize("kind", ["json", "yaml"])
def test_a_file_may_be_named_by_an_emoji(root: Path, kind: str) -> None:
    (root / "\U0001f600.sql").write_text("select 1;")
    document = {"databaseChangeLog": [{"include": {"file": "\U0001f600.sql"}}]}
    assert _screened(root, kind, json.dumps(document).encode())
    assert not _screened(root, kind, json.dumps(document).replace("\\ude00", "").encode())


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


# What children say


class Said:
    """A child that says these messages, then is gone; dead, it hears and says nothing more."""

    def __init__(self, messages: Iterable[Any]) -> None:
        self._messages = iter(messages)
        self.killed = False

    def send(self, message: dict[str, Any]) -> None:
        if self.killed:
            raise ToolFailed("it is dead", code="gone")

    def receive(self, timeout_s: float) -> dict[str, Any]:
        message = next(self._messages, None)
        if message is None or self.killed:
            raise ToolFailed("it is gone", code="gone")
        if not isinstance(message, dict):
            raise ToolFailed("that is no message", code="protocol")
        return json.loads(json.dumps(message))  # type: ignore[no-any-return]

    def kill(self) -> None:
        self.killed = True

    close = kill


LOGIN = Login(host="h", port=1, database="d", user="u")
OPTIONS = LiquibaseOptions(version="5.0.4", root=Path(__file__).parent)
NAMED = {"id": "1", "author": "a", "path": "a.sql"}
KNOWN = {"state": "pending", "checksum": None, "statements": ["select 1"], "origins": [0], "tables": ["t"], "line": 3}
UNDOABLE = {"marked_only": False, "is_known": True, "left_out": None, "forward": ["select 1"]}
UPDATED = {
    "changesets": [{**NAMED, "status": "executed", "duration_s": 1, "message": None}],
    "write_set": ["public.t"],
    "counts": {"public.t": {"inserted": 1, "updated": 0, "deleted": 0}},
    "outside_transaction": [],
    "savepoints": 0,
}
FAILED = {"message": "no", "code": None, "sqlstate": "42601", "changeset": "a.sql::1::a", "committed": False}
EVENT = {"kind": "ran", **NAMED, "status": "executed", "duration_s": 0.5, "message": None}
Verb = Callable[[Liquibase], object]


def _ignore(_event: object) -> None:
    pass


VERBS: dict[str, tuple[Verb, dict[str, Any]]] = {
    "connect": (
        lambda it: it.connect(LOGIN, application_name="x", options=OPTIONS, mode="held", lock_timeout_s=1),
        {"pid": 1, "liquibase_version": "5", "java_version": "21"},
    ),
    "disconnect": (Liquibase.disconnect, {}),
    "begin": (Liquibase.begin, {"xid": "731", "snapshot": "0003-1"}),
    "commit": (Liquibase.commit, {}),
    "rollback": (Liquibase.rollback, {}),
    "rows": (lambda it: it.rows("select"), {"rows": [["1", None]]}),
    "execute": (lambda it: it.execute("select"), {}),
    "query_typed": (lambda it: it.query_typed("select", 9), {"columns": [["a", 23], ["b", 25]], "rows": [["1", None]]}),
    "changesets": (lambda it: it.changesets("a.sql"), {"changesets": [NAMED | KNOWN]}),
    "offline_changesets": (
        lambda it: it.offline_changesets("a.sql", options=OPTIONS, server_major=18),
        {"changesets": [NAMED | KNOWN]},
    ),
    "update": (lambda it: it.update("a.sql", on_event=_ignore, timeout_s=5), UPDATED),
    "rollback_count": (lambda it: it.rollback_count("a.sql", 1, timeout_s=5), UPDATED),
    "changelog_sync": (lambda it: it.changelog_sync("a.sql"), UPDATED),
    "undoable": (lambda it: it.undoable("a.sql", 1), {"changesets": [NAMED | UNDOABLE]}),
    "rollback_count_sql": (lambda it: it.rollback_count_sql("a.sql", 1), {"text": "select"}),
    "update_sql": (lambda it: it.update_sql("a.sql"), {"text": "select"}),
    "snapshot": (Liquibase.snapshot, {"text": "{}"}),
}
KINDS = ["connection", "sql", "migration", "lost", "changelog", "locked", "usage", "bug"]


@st.composite
def spoilt(draw: st.DrawFn, right: dict[str, Any]) -> dict[str, Any]:
    """The same with one thing changed: another value, a field more or a field less. By chance it is still right."""
    said: dict[str, Any] = json.loads(json.dumps(right))
    path = draw(st.sampled_from(list(_paths(said))[1:]) if said else st.just(()))
    at: Any = said
    for key in path[:-1]:
        at = at[key]
    how = draw(st.sampled_from(["put", "null", "drop", "more"]))
    if not path or how == "more":
        said[draw(any_text)] = draw(any_json)
    elif how == "drop":
        del at[path[-1]]
    else:
        at[path[-1]] = None if how == "null" else draw(any_json)
    return said


def _told(verb: str, said: list[Any]) -> tuple[object, MigratorError | None]:
    """What came of it. Of whoever was not understood nothing more is asked."""
    child = Said(said)
    liquibase = Liquibase(child)  # type: ignore[arg-type]
    try:
        return VERBS[verb][0](liquibase), None
    except MigratorError as error:
        if error.code == "protocol":
            assert child.killed
            with pytest.raises(MigratorError) as caught:
                liquibase.rows("select 1")
            assert caught.value.code == "gone"
        return None, error


def _is_of_the_types(value: Any) -> bool:
    """Of what a record says of itself, everywhere below; a text that is none would be written as one somewhere."""
    if is_dataclass(value):
        hints = get_type_hints(type(value))
        return all(_fits(getattr(value, one.name), hints[one.name]) for one in dataclass_fields(value))
    if isinstance(value, list | tuple | frozenset):
        return all(map(_is_of_the_types, value))
    return value is None or isinstance(value, str | int)


def _fits(value: Any, hint: Any) -> bool:
    plain = {str: str, int: int, bool: bool, float: float}
    if hint in plain:
        return type(value) is plain[hint]
    return value is not None and _is_of_the_types(value) if hint == tuple[str, ...] else True


def test_the_verbs_are_all_that_a_worker_is_asked() -> None:
    assert set(VERBS) == set(_OPERATIONS)


@pytest.mark.parametrize("verb", VERBS)
def test_a_right_answer_is_understood(verb: str) -> None:
    right = VERBS[verb][1]
    _, error = _told(verb, [{"id": 1, "event": EVENT}, {"id": 1, "ok": right}])
    assert error is None
    for kind in KINDS:
        _, error = _told(verb, [{"id": 1, "error": {"kind": kind, **FAILED}}])
        assert error is not None
        assert error.code != "protocol"


@examples(250)
@given(data=st.data(), verb=st.sampled_from(sorted(VERBS)))
def test_an_answer_that_is_not_right_is_refused(data: st.DataObject, verb: str) -> None:
    right = VERBS[verb][1]
    said = data.draw(spoilt({"id": 1, "ok": right}) | spoilt(right).map(lambda one: {"id": 1, "ok": one}))
    told, error = _told(verb, [said])
    assert error is None or error.code == "protocol"
    assert error is not None or _is_of_the_types(told)


@examples(60)
@given(data=st.data(), verb=st.sampled_from(sorted(VERBS)), kind=st.sampled_from(KINDS))
def test_an_error_or_an_event_that_is_not_right_is_refused(data: st.DataObject, verb: str, kind: str) -> None:
    error = spoilt({"kind": kind, **FAILED}).map(lambda one: {"id": 1, "error": one})
    event = spoilt(EVENT).map(lambda one: {"id": 1, "event": one})
    _told(verb, [data.draw(error | event), {"id": 1, "ok": VERBS[verb][1]}])


words = st.sampled_from(["id", "ok", "error", "event", "changesets", "rows", "text", "kind", "message", "code"])
messages = st.lists(
    st.dictionaries(words, st.sampled_from([1, 0, 2]) | any_json, max_size=4)
    | st.fixed_dictionaries({"id": st.just(1)}, optional={"ok": any_json, "error": any_json, "event": any_json})
    | any_json,
    max_size=3,
)


@examples(100)
@given(said=messages, verb=st.sampled_from(sorted(VERBS)))
@example(said=[{}], verb="update")
@example(said=[{"id": 1, "ok": {}}], verb="update")
@example(said=[{"id": 1, "ok": {"text": None}}], verb="snapshot")
@example(said=[{"id": 1, "ok": {"text": "\ud83d"}}], verb="update_sql")
@example(said=[{"id": 1, "ok": {"xid": "1'; drop", "snapshot": "x"}}], verb="begin")
@example(said=[{"id": 1, "ok": {"changesets": [{**NAMED, **KNOWN, "file": "/etc/passwd\0"}]}}], verb="changesets")
@example(said=[{"id": 1, "error": {"kind": "sql"}}], verb="rows")
@example(said=[{"id": 1, "event": {"kind": "will_run", "surprise": 1}}], verb="update")
@example(said=[{"id": True, "ok": {}}], verb="commit")
@example(said=[{"id": 2, "ok": {}}], verb="commit")
@example(said=[{"id": 0, "error": 7}], verb="begin")
def test_any_line_of_a_worker_is_understood_or_an_error(said: list[Any], verb: str) -> None:
    told, error = _told(verb, said)
    assert error is not None or _is_of_the_types(told)


def test_a_worker_that_only_tells_events_is_not_heard_for_ever() -> None:
    child = Said(itertools.repeat({"id": 1, "event": EVENT}))
    with pytest.raises(MigratorError) as caught:
        Liquibase(child).update("a.sql", on_event=_ignore, timeout_s=0.01)  # type: ignore[arg-type]
    assert caught.value.code == "timeout"
    assert child.killed


# The process that runs the suites

EXPECTATIONS = tuple(Expectation(type=f"expect_{number}") for number in (1, 2))
SUITES = [
    Suite(name=name, path=Path("s.yaml"), table=None, query="select 1", expectations=EXPECTATIONS)
    for name in ("first", "second")
]
READY = {"event": "ready", "version": "1", "import_s": 3.1}
VERDICTS = [
    {"event": "verdict", "suite": suite, "index": index, "success": True, "detail": None}
    for suite in (0, 1)
    for index in (0, 1)
]
QUERY = {"event": "query", "sql": "select 1", "max_rows": 10}
NOT_CHECKED = {"event": "not_checked", "suite": 1, "detail": "there is no table"}
FAILURE = {"event": "failed", "message": "no", "code": "connection", "hint": None, "connection": True}
PROBLEM = {"event": "done", "problems": [{"suite": 0, "index": 1, "message": "no"}]}
SAYINGS = [READY, {"event": "working"}, QUERY, *VERDICTS, NOT_CHECKED, FAILURE, PROBLEM, {"event": "done"}]


class Migration:
    """The session that holds it."""

    def rows(self, sql: str) -> list[Row]:
        return [("off",)]

    def execute(self, sql: str) -> None:
        pass

    def query_typed(
        self, sql: str, max_rows: int, *, timeout_s: float
    ) -> tuple[Sequence[tuple[str, int]], Sequence[Row]]:
        assert max_rows > 0
        return [("a", 23)], [("1",)]


def _judged(
    monkeypatch: pytest.MonkeyPatch, said: Iterable[Any], via: Login | Migration | None
) -> tuple[list[CheckResult] | None, MigratorError | None]:
    """Of `run`, or of `validate` without a `via`; a process that was not understood is dead."""
    child = Said(said)
    monkeypatch.setattr(Child, "start", lambda *_, **__: child)
    runner = SuiteRunner.start(Path("log"))
    found, error = None, None
    try:
        if via is None:
            runner.validate(SUITES)
        else:
            found = runner.run(SUITES, phase="after", via=via, run_id="r", statement_timeout_s=1)
    except MigratorError as raised:
        error = raised
    assert error is None or child.killed or error.code != "protocol"
    return found, error


WAYS = st.sampled_from([LOGIN, Migration(), None])
sayings = st.sampled_from(SAYINGS) | st.sampled_from(SAYINGS).flatmap(spoilt) | any_json


@examples(150)
@given(said=st.lists(sayings, max_size=8), ready=st.booleans(), via=WAYS)
@example(said=[*VERDICTS, {"event": "done"}], ready=True, via=LOGIN)
@example(said=[{"event": "verdict", "suite": -1, "index": 0, "success": True, "detail": None}], ready=True, via=LOGIN)
@example(said=[{"event": "done"}], ready=True, via=None)
@example(said=[{}], ready=False, via=LOGIN)
def test_any_line_of_the_suites_process_is_understood_or_an_error(
    monkeypatch: pytest.MonkeyPatch, said: list[Any], ready: bool, via: Login | Migration | None
) -> None:
    """Whatever else was said: only what was told once to have held has held, and of nothing is there no result."""
    heard = [READY, *said] if ready else said
    found, error = _judged(monkeypatch, heard, via)
    assert error is not None or found is not None or via is None
    if found is not None:
        verdicts = [
            (one["suite"], one["index"]) for one in said if isinstance(one, dict) and one.get("success") is True
        ]
        assert sum(one.success for one in found) <= len(set(verdicts))
        assert {one.name.partition(":")[0] for one in found} == {"first", "second"}


@pytest.mark.parametrize("via", [LOGIN, Migration()])
@pytest.mark.parametrize("first", [True, False])
def test_a_verdict_is_given_once(monkeypatch: pytest.MonkeyPatch, via: Login | Migration, first: bool) -> None:
    one = VERDICTS[0] | {"success": first}
    _, error = _judged(monkeypatch, [READY, one, VERDICTS[0], {"event": "done"}], via)
    assert error is not None
    assert error.code == "protocol"


@pytest.mark.parametrize("via", [LOGIN, Migration()])
def test_a_process_that_never_comes_to_an_end_is_not_heard_for_ever(
    monkeypatch: pytest.MonkeyPatch, via: Login | Migration
) -> None:
    asked = {"event": "working"} if isinstance(via, Login) else QUERY
    _, error = _judged(monkeypatch, itertools.chain([READY], itertools.repeat(asked)), via)
    assert error is not None
    assert "no end" in error.message
