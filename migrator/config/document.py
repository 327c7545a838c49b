"""migrator.toml as text: what TOML itself has to say about it, with file and line."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from migrator.errors import ConfigError

_HEADER = re.compile(r"^\s*\[\[?(?P<name>[^\[\]]+)\]\]?\s*(#.*)?$")
_KEY = re.compile(
    r"^\s*(?P<key>(?:[A-Za-z0-9_-]+|\"[^\"]*\"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|\"[^\"]*\"|'[^']*'))*)\s*="
)
_PART = re.compile(r"[A-Za-z0-9_-]+|\"[^\"]*\"|'[^']*'")
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, kw_only=True)
class Document:
    """A parsed file. `where` tells a person the place of a key in it."""

    path: Path
    data: Mapping[str, object]
    text: str = field(repr=False)

    def where(self, keys: Sequence[str | int]) -> str:
        """`migrator.toml:12: limits.lock_timeout_s`, with the nearest line that is known."""
        names = tuple(str(key) for key in keys)
        lines = _lines(self.text)
        for length in range(len(names), 0, -1):
            line = lines.get(names[:length])
            if line is not None:
                return f"{self.path.name}:{line}: {'.'.join(names)}"
        return f"{self.path.name}: {'.'.join(names)}"


def read(path: Path) -> Document:
    """The file was read and is TOML. Raises: ConfigError with file and line."""
    try:
        raw = path.read_bytes()
    except FileNotFoundError as error:
        raise ConfigError(
            f"there is no {path}", hint="write one with `migrator init`, or name yours with --config PATH"
        ) from error
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    text = _decoded(raw, path)
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(_explained(str(error), text, path)) from error
    except RecursionError as error:
        raise ConfigError(f"{path} is nested too deeply to be a configuration") from error
    return Document(path=path, data=data, text=text)


def _decoded(raw: bytes, path: Path) -> str:
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ConfigError(f"{path}:1: the file is UTF-16", hint="save it as UTF-8 without a byte order mark")
    if raw.startswith(_BOM):
        raise ConfigError(f"{path}:1: the file starts with a byte order mark", hint="save it as UTF-8 without one")
    nul = raw.find(b"\0")
    if nul >= 0:
        raise ConfigError(f"{path}:{_line(raw, nul)}: a NUL byte", hint="remove it; the file is to be plain UTF-8 text")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path}:{_line(raw, error.start)}: not UTF-8 (byte 0x{raw[error.start]:02x})", hint="save it as UTF-8"
        ) from error


def _line(raw: bytes, offset: int) -> int:
    return raw.count(b"\n", 0, offset) + 1


def _explained(message: str, text: str, path: Path) -> str:
    place = re.search(r"\(at line (\d+), column \d+\)", message)
    if place is None:
        line = text.count("\n") + 1
        return f"{path}:{line}: not TOML: {_lower(message.partition(' (at')[0])} at the end of the file"
    line = int(place[1])
    said = message[: place.start()].strip()
    if "overwrite" in said or "twice" in said:
        name = _named_on(text.splitlines()[line - 1])
        return f"{path}:{line}: {name} stands twice"
    return f"{path}:{line}: not TOML: {_lower(said)}"


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


def _named_on(line: str) -> str:
    header = _HEADER.match(line)
    if header:
        return f"the section [{header['name'].strip()}]"
    key = _KEY.match(line)
    return f"the key {key['key']!r}" if key else "a key"


def _lines(text: str) -> dict[tuple[str, ...], int]:
    """The first line of every section and key that starts a line; what stands in inline tables is not listed."""
    found: dict[tuple[str, ...], int] = {}
    section: tuple[str, ...] = ()
    for number, line in enumerate(text.splitlines(), start=1):
        header = _HEADER.match(line)
        if header:
            section = _parts(header["name"])
            for length in range(1, len(section) + 1):
                found.setdefault(section[:length], number)
            continue
        key = _KEY.match(line)
        if key:
            names = section + _parts(key["key"])
            for length in range(len(section) + 1, len(names) + 1):
                found.setdefault(names[:length], number)
    return found


def _parts(dotted: str) -> tuple[str, ...]:
    return tuple(part.strip("\"'") for part in _PART.findall(dotted))
