"""Changelogs of every format as somebody hostile would write them, and whether they must be refused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import yaml
from hypothesis import strategies as st

FORBIDDEN = ("executeCommand", "customChange", "customPrecondition")
OUTSIDE = "../outside.sql"  # is there, and readable
NAMES_A_FILE = {
    "include": "file",
    "sqlFile": "path",
    "loadData": "file",
    "createProcedure": "path",
    "column": "valueBlobFile",
}
_NAMES = [*NAMES_A_FILE, *FORBIDDEN, "includeAll", "sql", "createTable", "rollback", "preConditions", "property"]
_KEYS = ["file", "path", "id", "author", "tableName", "class", "executable", "relativeToChangelogFile", "sql", "dbms"]
_FILES = ["a.sql", "a.sql", "b.xml", ".", OUTSIDE, "sub/../../outside.sql"]
_TAGS = [
    *("!!python/object/apply:os.system", "!!python/name:os.system", "!!javax.script.ScriptEngineManager"),
    *("!own", "!!binary", "!!set"),
]
_NAMESPACE = "http://www.liquibase.org/xml/ns/dbchangelog"
_DOCTYPES = [
    '<!DOCTYPE a SYSTEM "file:///etc/passwd">',
    "<!DOCTYPE databaseChangeLog>",
    '<!DOCTYPE a [<!ENTITY b "c">]>',
]

Change = tuple[str, Mapping[str, str]]
Found = list[tuple[str, str, list[Change]]]  # id, author, changes


@dataclass(frozen=True, kw_only=True)
class Hostile:
    suffix: str
    data: bytes
    refused: bool  # it must be


@st.composite
def changelogs(draw: st.DrawFn, texts: st.SearchStrategy[str]) -> Hostile:
    attributes = st.dictionaries(st.sampled_from(_KEYS), texts | st.sampled_from(_FILES), max_size=3)
    changes = st.lists(st.tuples(st.sampled_from(_NAMES), attributes).map(_with_file(draw)), max_size=3)
    found: Found = draw(st.lists(st.tuples(texts, texts, changes), max_size=3))
    refused = any(
        name in FORBIDDEN or given.get(NAMES_A_FILE.get(name, ""), "").endswith("outside.sql")
        for _, _, inner in found
        for name, given in inner
    )
    suffix = draw(st.sampled_from(["json", "yaml", "xml", "sql"]))
    if suffix == "json":
        return Hostile(suffix=suffix, data=_json(found, spaced=draw(st.booleans())), refused=refused)
    if suffix == "sql":
        return Hostile(suffix=suffix, data=_sql(draw, found, texts), refused=False)
    data, more = (_yaml if suffix == "yaml" else _xml)(draw, found)
    return Hostile(suffix=suffix, data=data, refused=refused or more)


def _with_file(draw: st.DrawFn) -> Any:
    def given(change: tuple[str, dict[str, str]]) -> Change:
        name, attributes = change
        if name in NAMES_A_FILE and NAMES_A_FILE[name] not in attributes:
            attributes = attributes | {NAMES_A_FILE[name]: draw(st.sampled_from(_FILES))}
        return name, attributes

    return given


def _document(found: Found) -> dict[str, Any]:
    return {
        "databaseChangeLog": [
            {"changeSet": {"id": one, "author": author, "changes": [{name: dict(given)} for name, given in inner]}}
            for one, author, inner in found
        ]
    }


def _json(found: Found, *, spaced: bool) -> bytes:
    return json.dumps(_document(found), indent="\t" if spaced else None, ensure_ascii=not spaced).encode()


# YAML: what is written twice may be an anchor and its aliases, and a mapping may merge others in


def _yaml(draw: st.DrawFn, found: Found) -> tuple[bytes, bool]:
    graph = _Graph(draw)
    root = graph.node(_document(found))
    documents = [root] * draw(st.sampled_from([1, 1, 1, 2]))
    text = yaml.serialize_all(
        documents,
        Dumper=yaml.SafeDumper,
        allow_unicode=draw(st.booleans()),
        explicit_start=len(documents) > 1 or draw(st.booleans()),
        width=draw(st.sampled_from([20, 80, 10_000])),
    )
    return str(text).encode(), graph.has_tag or len(documents) > 1


class _Graph:
    def __init__(self, draw: st.DrawFn) -> None:
        self._draw = draw
        self._made: dict[str, Any] = {}
        self._tag = draw(st.none() | st.none() | st.none() | st.sampled_from(_TAGS))
        self.has_tag = False

    def node(self, value: Any) -> Any:
        """The nodes of the value; an equal one that was made before may be used again: an alias."""
        key = json.dumps(value)
        if key in self._made and self._draw(st.booleans()):
            return self._made[key]
        self._made[key] = made = self._one(value)
        if self._tag and self._draw(st.integers(0, 5)) == 0:
            made.tag = self._tag.replace("!!", "tag:yaml.org,2002:")
            self.has_tag = True
        return made

    def _one(self, value: Any) -> Any:
        flow = self._draw(st.booleans())
        if isinstance(value, str):
            return yaml.ScalarNode(
                "tag:yaml.org,2002:str", value, style=self._draw(st.sampled_from([None, "'", '"', "|", ">"]))
            )
        if isinstance(value, list):
            return yaml.SequenceNode("tag:yaml.org,2002:seq", [self.node(one) for one in value], flow_style=flow)
        pairs = [(self.node(key), self.node(inner)) for key, inner in value.items()]
        if pairs and self._draw(st.integers(0, 3)) == 0:
            merged = yaml.MappingNode("tag:yaml.org,2002:map", pairs, flow_style=flow)
            pairs = [(yaml.ScalarNode("tag:yaml.org,2002:merge", "<<"), merged)]
        return yaml.MappingNode("tag:yaml.org,2002:map", pairs, flow_style=flow)


# XML: prefixes, attributes as elements, encodings, a DOCTYPE


def _xml(draw: st.DrawFn, found: Found) -> tuple[bytes, bool]:
    prefix = draw(st.sampled_from(["", "", "x:"]))
    encoding = draw(st.sampled_from(["utf-8", "utf-8", "utf-16"]))
    doctype = draw(st.sampled_from([*[""] * 12, *_DOCTYPES]))

    def tag(name: str, given: Mapping[str, str], inside: str = "") -> str:
        if draw(st.integers(0, 3)) == 0:
            inside += "".join(f"<{prefix}{key}>{escape(value)}</{prefix}{key}>" for key, value in given.items())
            given = {}
        shown = "".join(f" {key}={quoteattr(value)}" for key, value in given.items())
        return f"<{prefix}{name}{shown}>{inside}</{prefix}{name}>"

    sets = "".join(
        tag("changeSet", {"id": one, "author": author}, "".join(tag(*change) for change in inner))
        for one, author, inner in found
    )
    space = f"xmlns{':x' if prefix else ''}={quoteattr(_NAMESPACE)}"
    root = f"{prefix}databaseChangeLog"
    text = f'<?xml version="1.0" encoding="{encoding}"?>{doctype}<{root} {space}>{sets}</{root}>'
    return text.encode(encoding), bool(doctype)


# SQL: every line that means something to Liquibase

_ATTRIBUTES = [
    *("runInTransaction:false", "splitStatements:false", 'endDelimiter:"\n"', "context:@test", "labels:!x and (y)"),
    *(
        "logicalFilePath:../../etc/passwd",
        "failOnError:false",
        "dbms:postgresql,!h2",
        "runOnChange:TRUE",
        "runWith:psql",
    ),
    *('id:"; drop', "stripComments:", ":::", "runWithSpoolFile:/etc/passwd"),
]
_LINES = [
    *("--property name:x value:${env:X}", '--property name:"a b" value:c dbms:h2', "--property", "--property name:x"),
    *("--preconditions onFail:HALT onError:MARK_RAN", "--precondition-sql-check expectedResult:0 select 1"),
    *("--precondition-customPrecondition class:a.b.C", "--rollback drop table t;", "--rollback changesetId:1"),
    *(
        "/* liquibase rollback\ndrop table t\n*/",
        "--validCheckSum: 8:x",
        "--comment: $$",
        "--ignoreLines:3",
        "$a$ ' \\",
    ),
    *("--executeCommand executable:id", "--include file:../outside.sql", "create function f() returns int as $$begin"),
]


def _sql(draw: st.DrawFn, found: Found, texts: st.SearchStrategy[str]) -> bytes:
    lines = [draw(st.sampled_from(["--liquibase formatted sql", "-- Liquibase Formatted SQL  x:y", "select 1;"]))]
    for one, author, inner in found:
        given = draw(st.lists(st.sampled_from(_ATTRIBUTES) | texts, max_size=3))
        lines.append(" ".join([draw(st.sampled_from(["--changeset ", "-- changeset "])), f"{author}:{one}", *given]))
        lines += draw(st.lists(st.sampled_from(_LINES) | texts, max_size=3))
        lines += [f"{name} {dict(attributes)};" for name, attributes in inner]
    return "\n".join(lines).encode(errors="replace")
