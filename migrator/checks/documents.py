"""A YAML or JSON file as plain data that knows in which line everything stands."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from migrator.errors import ConfigError

_MOST_BYTES = 10 * 1024 * 1024
_MOST_NODES = 500_000  # an alias of an alias of an alias is a small file and a large document

Keys = tuple[str | int, ...]


@dataclass(frozen=True, kw_only=True)
class Document:
    """What a file holds; `lines` tells where each key path begins."""

    path: Path
    data: Any
    lines: Mapping[Keys, int] = field(repr=False)

    def line(self, *keys: str | int) -> int | None:
        """The line of that key, or of the nearest thing around it that is known."""
        for length in range(len(keys), -1, -1):
            if keys[:length] in self.lines:
                return self.lines[keys[:length]]
        return None

    def error(self, message: str, *keys: str | int, hint: str | None = None) -> ConfigError:
        """The error that names the file, the line and the key."""
        return complaint(self.path, self.line(*keys), message, hint=hint)


def complaint(path: Path, line: int | None, message: str, *, hint: str | None = None) -> ConfigError:
    """`path:line: message` as a ConfigError."""
    return ConfigError(f"{path}{f':{line}' if line else ''}: {message}", hint=hint)


def read_text(path: Path) -> str:
    """The file's text. Raises: ConfigError when it cannot be read or is not plain UTF-8, with the line."""
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise complaint(path, None, f"is larger than {_MOST_BYTES // 2**20} MiB", hint="Split it.")
        raw = path.read_bytes()
    except OSError as error:
        raise complaint(path, None, f"cannot be read: {error.strerror}", hint="Check the path.") from error
    if raw.startswith(b"\xef\xbb\xbf"):
        raise complaint(path, 1, "begins with a byte order mark", hint="Save it as UTF-8 without a byte order mark.")
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise complaint(path, line, "is not UTF-8", hint="Save it as UTF-8.") from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise complaint(path, line, "holds a NUL character", hint="Remove it; the file may be UTF-16.")
    return text


def read(path: Path) -> Document:
    """The file as data. JSON is what ends in `.json`, everything else YAML with the scalars of YAML 1.2.

    So `no` is a word and `2024-01-31` a string, as both are in JSON, where Great Expectations keeps its suites.

    Raises: ConfigError with file and line: unreadable, malformed, a key twice, a tag, several documents.
    """
    text = read_text(path)
    if path.suffix.lower() == ".json":
        return _json(path, text)
    data, lines = _yaml(path, text)
    return Document(path=path, data=data, lines=lines)


def _json(path: Path, text: str) -> Document:
    # A raw tab in JSON is white space; YAML knows no tabs there. YAML is read for the lines only.
    try:
        _, lines = _yaml(path, text.replace("\t", " "))
    except ConfigError:
        lines = {}

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in pairs:
            if key in found:
                line = next((n for n, content in enumerate(text.splitlines(), 1) if json.dumps(key) in content), None)
                raise complaint(path, line, f"the key {key!r} stands twice in one object", hint="Keep one of them.")
            found[key] = value
        return found

    def refuse(constant: str) -> None:
        raise complaint(path, None, f"holds {constant}, which is no JSON", hint="Use a number or a string.")

    try:
        data = json.loads(text, object_pairs_hook=unique, parse_constant=refuse)
    except json.JSONDecodeError as error:
        raise complaint(path, error.lineno, f"is not JSON: {error.msg} (column {error.colno})") from error
    except RecursionError as error:
        raise complaint(path, None, "is nested too deeply") from error
    return Document(path=path, data=data, lines=lines)


class _Loader(yaml.SafeLoader):
    """YAML with the scalars of the 1.2 core schema."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  declared so by PyYAML


_NULL, _BOOL, _INT, _FLOAT, _STR = (f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "int", "float", "str"))
_Loader.add_implicit_resolver(_NULL, re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""])
_Loader.add_implicit_resolver(_BOOL, re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))
_Loader.add_implicit_resolver(_INT, re.compile(r"^[-+]?[0-9]+$"), list("-+0123456789"))
_Loader.add_implicit_resolver(
    _FLOAT, re.compile(r"^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$"), list("-+.0123456789")
)


def _yaml(path: Path, text: str) -> tuple[Any, dict[Keys, int]]:
    try:
        # Composed and not constructed: nodes know their lines.
        node = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = " ".join(part for part in (error.context, error.problem) if part)
        raise complaint(path, mark.line + 1 if mark else None, f"is not YAML: {what}") from error
    except yaml.YAMLError as error:
        raise complaint(path, None, f"is not YAML: {error}") from error
    except RecursionError as error:
        raise complaint(path, None, "is nested too deeply") from error
    builder = _Builder(path)
    return (None if node is None else builder.build(node, ())), builder.lines


class _Builder:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: dict[Keys, int] = {}
        self._open: set[int] = set()
        self._count = 0

    def build(self, node: yaml.Node, keys: Keys) -> Any:
        line = node.start_mark.line + 1
        self.lines.setdefault(keys, line)
        self._count += 1
        if self._count > _MOST_NODES or id(node) in self._open:
            raise complaint(self.path, line, "repeats itself without end", hint="Write aliases (*name) out.")
        self._open.add(id(node))
        try:
            if isinstance(node, yaml.MappingNode):
                return self._mapping(node, keys)
            if isinstance(node, yaml.SequenceNode):
                return [self.build(item, (*keys, i)) for i, item in enumerate(node.value)]
            return self._scalar(node, line)
        finally:
            self._open.discard(id(node))

    def _mapping(self, node: yaml.MappingNode, keys: Keys) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                raise complaint(self.path, line, "a key is not a word", hint="Write `key: value`.")
            key = str(key_node.value)
            if key in found:
                raise complaint(self.path, line, f"the key {key!r} stands twice", hint="Keep one of them.")
            self.lines[(*keys, key)] = line
            found[key] = self.build(value_node, (*keys, key))
        return found

    def _scalar(self, node: yaml.Node, line: int) -> Any:
        value = str(node.value)
        if node.tag == _STR:
            return value
        if node.tag == _NULL:
            return None
        if node.tag == _BOOL:
            return value.lower() == "true"
        try:
            if node.tag == _INT:
                return int(value)
            if node.tag == _FLOAT:
                return float(value)
        except ValueError as error:
            raise complaint(self.path, line, f"{value!r} is no number") from error
        raise complaint(self.path, line, f"the tag {node.tag} is not known", hint="Write a plain value.")
