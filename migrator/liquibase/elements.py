"""A changelog file of any format as a flat list of named elements, each with its line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from xml.parsers import expat

_TEXT = "#text"


class NotReadable(Exception):
    """The file is not what its name says."""

    def __init__(self, message: str, *, line: int | None = None, code: str = "malformed") -> None:
        super().__init__(message)
        self.message = message
        self.line = line
        self.code = code


@dataclass(kw_only=True)
class Element:
    name: str
    line: int | None
    attributes: dict[str, str] = field(default_factory=dict)

    def get(self, *names: str) -> str | None:
        return next((self.attributes[name] for name in names if self.attributes.get(name)), None)

    def is_set(self, name: str, *, default: bool) -> bool:
        value = self.attributes.get(name)
        return default if value is None else value.strip().lower() == "true"

    @property
    def text(self) -> str:
        return self.attributes.get(_TEXT, "")


def of_xml(data: bytes) -> list[Element]:
    """The elements in document order, without namespaces. Raises: NotReadable, code `doctype` for any DOCTYPE."""
    found: list[Element] = []
    open_elements: list[Element] = []
    parser = expat.ParserCreate()

    def doctype(*_: object) -> None:
        raise NotReadable("it has a DOCTYPE", line=parser.CurrentLineNumber, code="doctype")

    def start(name: str, attributes: Mapping[str, str]) -> None:
        local = {key.rpartition(":")[2]: value for key, value in attributes.items()}
        element = Element(name=name.rpartition(":")[2], line=parser.CurrentLineNumber, attributes=local)
        found.append(element)
        open_elements.append(element)

    def text(piece: str) -> None:
        attributes = open_elements[-1].attributes
        attributes[_TEXT] = attributes.get(_TEXT, "") + piece

    parser.StartDoctypeDeclHandler = doctype
    parser.StartElementHandler = start
    parser.EndElementHandler = lambda _: open_elements.pop()
    parser.CharacterDataHandler = text
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        raise NotReadable(f"it is no well-formed XML: {error}", line=error.lineno) from error
    except (ValueError, LookupError) as error:  # an encoding that expat does not know
        raise NotReadable(f"it is no readable XML: {error}") from error
    return found


def of_yaml(text: str) -> list[Element]:
    """One element for each key of a mapping, with the plain values below it as attributes. JSON is read as YAML too.

    Raises: NotReadable.
    """
    import yaml

    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        raise NotReadable(f"it is no well-formed YAML: {error.problem or error.context}", line=line) from error
    except yaml.YAMLError as error:
        raise NotReadable(f"it is no well-formed YAML: {error}") from error
    found: list[Element] = []
    _walk(root, found, set())
    return found


def of_json(text: str) -> list[Element]:
    """As `of_yaml`. Raises: NotReadable."""
    import json

    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        raise NotReadable(f"it is no well-formed JSON: {error.msg}", line=error.lineno) from error
    # JSON allows tabs between tokens and YAML does not; inside its strings they are escaped
    return of_yaml(text.replace("\t", " "))


def _walk(node: Any, found: list[Element], seen: set[int]) -> None:
    import yaml

    if node is None or id(node) in seen:  # an alias may point to itself
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _walk(item, found, seen)
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            element = Element(name=_said(key), line=key.start_mark.line + 1, attributes=_plain(value))
            found.append(element)
            _walk(value, found, seen)


def _plain(node: Any) -> dict[str, str]:
    import yaml

    if isinstance(node, yaml.ScalarNode):
        return {_TEXT: _said(node)}
    if not isinstance(node, yaml.MappingNode):
        return {}
    return {_said(key): _said(value) for key, value in node.value if isinstance(value, yaml.ScalarNode)}


def _said(node: Any) -> str:
    """What a key or value says; two escapes that make up one character, as JSON writes an emoji, are that character.

    Raises: NotReadable where one of the two stands alone.
    """
    try:
        return str(node.value).encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError as error:
        raise NotReadable(
            "it holds half a character, an escape such as \\ud83d without its other half",
            line=node.start_mark.line + 1,
        ) from error
