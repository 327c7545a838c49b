"""A changelog file of any format as a flat list of named elements, each with its line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from xml.parsers import expat

_TEXT = "#text"
# What a changelog is made of; snakeyaml would make something else of any other tag, or an object
_TAGS = {
    f"tag:yaml.org,2002:{name}"
    for name in ("str", "int", "float", "bool", "null", "map", "seq", "timestamp", "merge", "value")
}
_MERGE = "tag:yaml.org,2002:merge"


class NotReadable(Exception):
    """The file is not what its name says."""

    def __init__(self, message: str, *, line: int | None = None, code: str = "malformed") -> None:
        super().__init__(message)
        self.message = message
        self.line = line
        self.code = code


@dataclass(kw_only=True)
class Element:
    """Names of elements and attributes are in lower case: Liquibase does not tell them apart by it."""

    name: str
    line: int | None
    attributes: dict[str, str] = field(default_factory=dict)
    # Attributes of which Liquibase may take another value: given twice, or as a list; "#text" for the whole element
    unclear: set[str] = field(default_factory=set)

    def get(self, name: str) -> str | None:
        return self.attributes.get(name.lower()) or None

    def is_set(self, name: str, *, default: bool) -> bool:
        value = self.get(name)
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
        element = Element(name=_local(name), line=parser.CurrentLineNumber)
        for key, value in attributes.items():
            _give(element, _local(key), value)
        found.append(element)
        open_elements.append(element)

    def text(piece: str) -> None:
        attributes = open_elements[-1].attributes
        attributes[_TEXT] = attributes.get(_TEXT, "") + piece

    def end(_: str) -> None:
        closed = open_elements.pop()
        if open_elements and closed.text.strip():  # an attribute may be written as an element
            _give(open_elements[-1], closed.name, closed.text.strip())

    parser.StartDoctypeDeclHandler = doctype
    parser.StartElementHandler = start
    parser.EndElementHandler = end
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

    found: list[Element] = []
    try:
        _walk(yaml.compose(text, Loader=yaml.SafeLoader), found, set())
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        raise NotReadable(f"it is no well-formed YAML: {error.problem or error.context}", line=line) from error
    except yaml.YAMLError as error:
        raise NotReadable(f"it is no well-formed YAML: {error}") from error
    except (ValueError, OverflowError) as error:  # an escape that is no character
        raise NotReadable(f"it is no well-formed YAML: {error}") from error
    except RecursionError as error:
        raise NotReadable("it is nested too deeply") from error
    return found


def of_json(text: str) -> list[Element]:
    """As `of_yaml`. Raises: NotReadable."""
    import json

    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        raise NotReadable(f"it is no well-formed JSON: {error.msg}", line=error.lineno) from error
    except ValueError as error:  # a number of thousands of digits
        raise NotReadable(f"it is no readable JSON: {error}") from error
    except RecursionError as error:
        raise NotReadable("it is nested too deeply") from error
    # JSON allows tabs between tokens and YAML does not; inside its strings they are escaped
    return of_yaml(text.replace("\t", " "))


def _walk(node: Any, found: list[Element], seen: set[int]) -> None:
    import yaml

    if node is None or id(node) in seen:  # an alias may point to itself
        return
    seen.add(id(node))
    line = node.start_mark.line + 1
    if node.tag not in _TAGS:
        raise NotReadable(f"it has the tag {node.tag!r}, which no changelog needs", line=line, code="tag")
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _walk(item, found, seen)
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise NotReadable("it has a key that is no text", line=line)
            _walk(key, found, seen)
            element = Element(name=_said(key).lower(), line=key.start_mark.line + 1)
            _fill(element, value)
            found.append(element)
            _walk(value, found, seen)


def _fill(element: Element, node: Any) -> None:
    """The plain values below a key become its attributes."""
    import yaml

    if isinstance(node, yaml.ScalarNode):
        _give(element, _TEXT, _said(node))
    elif isinstance(node, yaml.SequenceNode):
        element.unclear.add(_TEXT)
    else:
        for key, value in _entries(node, set()):
            if isinstance(value, yaml.ScalarNode):
                _give(element, _said(key).lower(), _said(value))
            else:
                element.unclear.add(_said(key).lower())


def _entries(node: Any, seen: set[int]) -> list[tuple[Any, Any]]:
    """The keys and values of a mapping, and those that it merges in and does not have itself."""
    import yaml

    if id(node) in seen or not isinstance(node, yaml.MappingNode):
        return []
    seen.add(id(node))
    own = [(key, value) for key, value in node.value if key.tag != _MERGE]
    merged = [value for key, value in node.value if key.tag == _MERGE]
    for value in merged:
        for one in value.value if isinstance(value, yaml.SequenceNode) else [value]:
            names = {str(key.value) for key, _ in own}
            own += [(key, given) for key, given in _entries(one, seen) if str(key.value) not in names]
    return own


def _give(element: Element, name: str, value: str) -> None:
    if element.attributes.get(name, value) != value:
        element.unclear.add(name)
    element.attributes[name] = value


def _local(name: str) -> str:
    return name.rpartition(":")[2].lower()


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
