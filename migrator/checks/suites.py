"""Suites of Great Expectations: the native format, and what a suite is about.

Read without importing Great Expectations, which takes seconds; what only it can tell, `SuiteRunner.validate` tells.
"""

from __future__ import annotations

import difflib
import functools
import importlib.util
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast, get_args

from migrator.checks.documents import Document, complaint, read
from migrator.checks.results import Phase, Severity
from migrator.postgres.statement import NotOneStatement, single

PHASES: tuple[Phase, ...] = get_args(Phase)
_SEVERITIES: tuple[Severity, ...] = get_args(Severity)
_OURS = ("table", "query", "when", "inside", "allow_empty")
_NATIVE = ("name", "expectations", "suite_parameters", "meta", "notes", "id")
_EXPECTATION = (
    *("type", "kwargs", "severity", "description", "meta", "notes", "id"),
    *("expectation_context", "rendered_content", "success_on_last_run"),
)
# Renamed in Great Expectations 1.0.
_RENAMED = {
    "expectation_suite_name": "name",
    "expectation_type": "type",
    "ge_cloud_id": "id",
    "evaluation_parameters": "suite_parameters",
}
_NAME_PART = re.compile(r'\s*(?:"(?P<quoted>(?:[^"]|"")+)"|(?P<plain>[^\W\d][\w$]*))\s*')
_SUFFIXES = (".yaml", ".yml", ".json")


@dataclass(frozen=True, kw_only=True)
class TableName:
    """A table as PostgreSQL stores its name. Without a schema the search path decides."""

    schema: str | None
    name: str

    def __str__(self) -> str:
        return ".".join(_quoted(part) for part in (self.schema, self.name) if part is not None)


@dataclass(frozen=True, kw_only=True)
class Expectation:
    type: str  # expect_column_values_to_not_be_null
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    severity: Severity = "critical"
    line: int | None = None

    @property
    def columns(self) -> list[str]:
        """The columns that it is about."""
        return [
            str(column)
            for key in ("column", "column_A", "column_B", "column_list", "column_set")
            if (value := self.kwargs.get(key))
            for column in ([value] if isinstance(value, str) else value)
        ]

    @property
    def label(self) -> str:
        """The type and the columns that it is about."""
        columns = self.columns
        return f"{self.type}({', '.join(columns)})" if columns else self.type


@dataclass(frozen=True, kw_only=True)
class Suite:
    """Expectations of one table or of the result of one query."""

    name: str
    path: Path
    table: TableName | None
    query: str | None  # one statement without its semicolon
    expectations: tuple[Expectation, ...]
    when: frozenset[Phase] = frozenset(PHASES)
    inside: bool = False  # run it inside the transaction, where only marked suites are
    allow_empty: bool = False  # no rows are fine
    parameters: Mapping[str, Any] = field(default_factory=dict)
    redact: tuple[str, ...] = ()  # columns whose values are not shown

    @property
    def labels(self) -> tuple[str, ...]:
        """One name for each expectation, each different."""
        seen: dict[str, int] = {}
        found = []
        for expectation in self.expectations:
            count = seen[expectation.label] = seen.get(expectation.label, 0) + 1
            found.append(f"{self.name}: {expectation.label}{f' #{count}' if count > 1 else ''}")
        return tuple(found)

    @property
    def severity(self) -> Severity:
        """The gravest of its expectations."""
        return min((e.severity for e in self.expectations), key=_SEVERITIES.index, default="critical")


def load(paths: Sequence[Path], *, redact: Sequence[str] = ()) -> list[Suite]:
    """The suites of these files, in this order; a file that is named twice counts once.

    Raises: ConfigError with file, line and key.
    """
    suites: list[Suite] = []
    for path in dict.fromkeys(path.resolve() for path in paths):
        suite = replace(_suite(path), redact=tuple(redact))
        for other in suites:
            if other.name == suite.name:
                raise complaint(
                    path, None, f"the suite {suite.name!r} is in {other.path} too", hint="Give it another name."
                )
        suites.append(suite)
    return suites


@functools.cache
def known_types() -> frozenset[str]:
    """The expectation types of the installed Great Expectations: the names of its files, and a few it has not finished.

    Empty when it is not found.
    """
    spec = importlib.util.find_spec("great_expectations")
    folders = spec.submodule_search_locations if spec else None
    return frozenset(
        file.stem
        for folder in folders or ()
        for file in Path(folder, "expectations", "core").glob("*.py")
        if not file.stem.startswith("_")
    )


def _suite(path: Path) -> Suite:
    if path.suffix.lower() not in _SUFFIXES:
        raise complaint(
            path, None, "is no suite: its name ends in something else", hint=f"Suites end in {', '.join(_SUFFIXES)}."
        )
    document = read(path)
    data = document.data
    if not isinstance(data, dict):
        raise document.error(
            "is no suite: at the top there must be keys", hint="See `name`, `table`, `expectations` in the guide."
        )
    _only(document, data, (*_NATIVE, *_OURS))
    query = data.get("query")
    table = data.get("table")
    if (table is None) == (query is None):
        said = "both `table` and `query`" if table is not None else "neither `table` nor `query`"
        raise document.error(f"has {said}", hint="Name one of them: what the expectations are about.")
    parameters = data.get("suite_parameters") or {}
    if not isinstance(parameters, dict):
        raise document.error("`suite_parameters` is not a mapping", "suite_parameters")
    return Suite(
        name=_text(document, "name"),
        path=path,
        table=None if table is None else _table(document),
        query=None if query is None else _query(document),
        expectations=_expectations(document),
        when=_when(document),
        inside=_flag(document, "inside"),
        allow_empty=_flag(document, "allow_empty"),
        parameters=parameters,
    )


def _expectations(document: Document) -> tuple[Expectation, ...]:
    entries = document.data.get("expectations")
    if not isinstance(entries, list) or not entries:
        raise document.error(
            "`expectations` is not a list of at least one", "expectations", hint="A suite without any cannot fail."
        )
    return tuple(_expectation(document, i) for i in range(len(entries)))


def _expectation(document: Document, index: int) -> Expectation:
    here: tuple[str | int, ...] = ("expectations", index)
    entry = document.data["expectations"][index]
    if not isinstance(entry, dict):
        raise document.error(f"expectations[{index}] is not a mapping", *here, hint="Write `type:` and `kwargs:`.")
    _only(document, entry, _EXPECTATION, *here)
    kind = _text(document, "type", *here)
    known = known_types()
    if known and kind not in known:
        raise document.error(f"there is no expectation {kind!r}", *here, "type", hint=_nearest(kind, known))
    kwargs = entry.get("kwargs") or {}
    if not isinstance(kwargs, dict):
        raise document.error("`kwargs` is not a mapping", *here, "kwargs", hint="Write `kwargs: {column: name}`.")
    severity = entry.get("severity") or "critical"
    if severity not in _SEVERITIES:
        raise document.error(
            f"`severity` is {severity!r}", *here, "severity", hint=f"It is one of {', '.join(_SEVERITIES)}."
        )
    return Expectation(type=kind, kwargs=kwargs, severity=cast("Severity", severity), line=document.line(*here))


def _only(document: Document, found: Mapping[str, Any], allowed: Sequence[str], *here: str | int) -> None:
    for key in found:
        if key not in allowed:
            renamed = _RENAMED.get(key)
            hint = f"It is called `{renamed}` now." if renamed in allowed else _nearest(key, allowed)
            raise document.error(f"the key {key!r} is not known", *here, key, hint=hint)


def _text(document: Document, key: str, *here: str | int) -> str:
    place = document.data
    for step in here:
        place = place[step]
    value = place.get(key)
    if not isinstance(value, str) or not value.strip():
        said = "is missing" if key not in place else "is empty or not a text"
        raise document.error(f"`{key}` {said}", *here, key, hint=f"Write `{key}: ...`.")
    return value.strip()


def _table(document: Document) -> TableName:
    text = _text(document, "table")
    parts: list[str] = []
    position = 0
    while match := _NAME_PART.match(text, position):
        parts.append(match["quoted"].replace('""', '"') if match["quoted"] else match["plain"].lower())
        position = match.end()
        if position == len(text) or text[position] != ".":
            break
        position += 1
    if position != len(text) or not 1 <= len(parts) <= 2 or text.endswith("."):
        raise document.error(
            f"`table` is {text!r}", "table", hint='Write schema.table; a name with other characters as "My table".'
        )
    return TableName(schema=parts[0] if len(parts) == 2 else None, name=parts[-1])


def _query(document: Document) -> str:
    try:
        return single(_text(document, "query"), first_words=("select", "with", "values", "table"))
    except NotOneStatement as error:
        raise document.error(f"`query` {error}", "query", hint="Write one SELECT.") from error


def _when(document: Document) -> frozenset[Phase]:
    value = document.data.get("when", list(PHASES))
    phases = [value] if isinstance(value, str) else value
    if not isinstance(phases, list) or not phases or any(phase not in PHASES for phase in phases):
        raise document.error(f"`when` is {value!r}", "when", hint="Write [before], [after] or [before, after].")
    return frozenset(phases)


def _flag(document: Document, key: str) -> bool:
    value = document.data.get(key, False)
    if not isinstance(value, bool):
        raise document.error(f"`{key}` is {value!r}", key, hint="Write true or false.")
    return value


def _nearest(word: str, known: Sequence[str] | frozenset[str]) -> str:
    close = difflib.get_close_matches(word, sorted(known), n=1, cutoff=0.0)
    return f"The nearest is {close[0]!r}." if close else f"Known are {', '.join(sorted(known))}."


def _quoted(part: str) -> str:
    if re.fullmatch(r"[a-z_][a-z0-9_$]*", part):
        return part
    return '"' + part.replace('"', '""') + '"'
