"""A look at a changelog and everything it includes, before Liquibase parses any of it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from migrator.errors import Place, Refused
from migrator.liquibase import elements, sql_findings
from migrator.liquibase.elements import Element, NotReadable

SUFFIXES = (".xml", ".yaml", ".yml", ".json", ".sql")
COMPANION = ".rollback.sql"
_FORMATTED = re.compile(r"\s*--\s*liquibase\s*formatted", re.IGNORECASE)
_SCHEME = re.compile(r"^[A-Za-z][A-Za-z0-9+.\-]*:")
_PARAMETER = re.compile(r"\$\{([^}]+)\}")
_FORBIDDEN = {
    "executecommand": ("executeCommand", "runs a program on this machine"),
    "customchange": ("customChange", "loads a Java class by name"),
    "customprecondition": ("customPrecondition", "loads a Java class by name"),
}
_SQL_ELEMENTS = {"sql", "createprocedure", "rollback", "createview"}
_VALUE_FILES = ("valueblobfile", "valueclobfile")
_FILE_ELEMENTS = {
    "sqlfile": ("path",),
    "createprocedure": ("path",),
    "createview": ("path",),
    "loaddata": ("file",),
    "loadupdatedata": ("file",),
    "column": _VALUE_FILES,
    **dict.fromkeys(_VALUE_FILES, ("#text",)),
}
# What must be clear of an element that names a file
_ABOUT_FILES = {
    *("#text", "file", "path", *_VALUE_FILES, "relativetochangelogfile", "encoding"),
    *("errorifmissing", "errorifmissingorempty", "filter", "resourcefilter", "resourcecomparator", "endswithfilter"),
}


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What stands in a file's SQL: code `transaction_control`, `outside_database` or `psql_command`.

    The rules of `migrator.plans.findings` say what of it counts.
    """

    code: str
    message: str
    file: str
    line: int | None = None


@dataclass(frozen=True, kw_only=True)
class Screened:
    files: tuple[str, ...]  # everything that the changelog is made of, relative to the root, in reading order
    findings: tuple[Seen, ...]


def screen(root: Path, changelog: str, parameters: Mapping[str, str] | None = None) -> Screened:
    """The changelog is made of files below `root` only, all readable, and asks for nothing that is not SQL.

    Raises: Refused, naming file and line, for: a missing, empty or malformed file; a path that is absolute, remote,
    `classpath:` or leaves the root, through a symbolic link too; an include cycle; a DOCTYPE; executeCommand,
    customChange, customPrecondition; a class named as filter or comparator; a path with an unknown parameter.
    """
    return _Screening(root, dict(parameters or {})).of(changelog)


class _Screening:
    def __init__(self, root: Path, parameters: dict[str, str]) -> None:
        self._root = Path(os.path.normpath(root.absolute()))
        self._parameters = parameters
        self._files: dict[str, None] = {}
        self._seen: list[Seen] = []
        self._open: list[str] = []

    def of(self, changelog: str) -> Screened:
        if not self._root.is_dir():
            raise Refused(f"liquibase.root {self._root} is no folder", code="root")
        self._changelog(self._inside(changelog, base="", where=None), where=None)
        return Screened(files=tuple(self._files), findings=tuple(self._seen))

    def _changelog(self, path: str, *, where: str | None) -> None:
        if path in self._open:
            chain = " -> ".join([*self._open[self._open.index(path) :], path])
            place = Place(file=self._open[-1])
            raise Refused(f"the changelog includes itself: {chain}", code="include_cycle", place=place)
        if path in self._files:
            return
        suffix = PurePosixPath(path).suffix.lower()
        if suffix not in SUFFIXES:
            raise _refused(f"{path} is no changelog: its name ends in none of {', '.join(SUFFIXES)}", where, "format")
        data = self._read(path, where=where)
        self._open.append(path)
        if suffix == ".sql":
            self._sql_changelog(path, _text(path, data))
        else:
            for element in _elements(path, suffix, data):
                self._element(path, element)
        self._open.pop()

    def _element(self, path: str, element: Element) -> None:
        where = f"{path}:{element.line}" if element.line else path
        if element.name in _FORBIDDEN:
            spelled, does = _FORBIDDEN[element.name]
            raise _refused(f"{spelled} {does}, which is not done here", where, spelled)
        names_files = element.name in _FILE_ELEMENTS or element.name in {"property", "include", "includeall"}
        unclear = element.unclear & _ABOUT_FILES
        if names_files and unclear and element.name != "column":  # a key of its own tells of a column's files
            what = "is a list" if "#text" in unclear else f"has {min(unclear)} twice, or as a list"
            raise _refused(f"{element.name} {what}; give one plain value", where, "malformed")
        match element.name:
            case "property":
                name, value = element.get("name"), element.attributes.get("value")
                if name is not None and value is not None:
                    self._parameters.setdefault(name, value)
                elif file := element.get("file"):
                    self._extra(file, element, path, where)
            case "include":
                self._include(element, path, where)
            case "includeall":
                self._include_all(element, path, where)
        for name in _FILE_ELEMENTS.get(element.name, ()):
            if file := element.get(name):
                self._extra(file, element, path, where)
        if element.name in _SQL_ELEMENTS:
            self._sql(element.text, path, element.line)

    def _include(self, element: Element, path: str, where: str) -> None:
        file = element.get("file")
        if file is None:
            raise _refused("an include names no file", where, "include")
        target = self._inside(file, base=_base(element, path), where=where)
        if not (self._root / target).exists() and not element.is_set("errorIfMissing", default=True):
            return
        self._changelog(target, where=where)

    def _include_all(self, element: Element, path: str, where: str) -> None:
        for attribute in ("filter", "resourceFilter", "resourceComparator"):
            if element.get(attribute):
                raise _refused(f"includeAll loads a Java class by name ({attribute})", where, "includeAll")
        folder = element.get("path")
        if folder is None:
            raise _refused("an includeAll names no path", where, "include")
        target = self._inside(folder, base=_base(element, path), where=where)
        found = sorted(self._below(target))
        if not found and element.is_set("errorIfMissingOrEmpty", default=True):
            raise _refused(f"includeAll: there is no changelog in {target}", where, "missing")
        ending = element.get("endsWithFilter") or ""
        for file in found:
            if file.lower().endswith(COMPANION):
                self._files.setdefault(file)
            elif file.endswith(ending):
                self._changelog(self._inside(file, base="", where=where), where=where)

    def _below(self, folder: str) -> list[str]:
        return [
            (Path(parent) / name).relative_to(self._root).as_posix()
            for parent, _, names in os.walk(self._root / folder)
            for name in names
            if name.lower().endswith(SUFFIXES)
        ]

    def _extra(self, file: str, element: Element, path: str, where: str) -> None:
        # Liquibase looks for the value of a column beside the changelog.
        is_value = element.name in {"column", *_VALUE_FILES}
        base = str(PurePosixPath(path).parent) if is_value else _base(element, path)
        target = self._inside(file, base=base, where=where)
        data = self._read(target, where=where)
        if element.name == "sqlfile":
            self._sql(_text(target, data, encoding=element.get("encoding") or "utf-8"), target, 1)

    def _sql_changelog(self, path: str, text: str) -> None:
        if not text.strip():
            raise Refused(f"{path} is empty", code="empty", place=Place(file=path))
        if not _FORMATTED.match(text):
            companion = path[: -len(".sql")] + COMPANION
            if (self._root / companion).is_file():
                self._read(self._inside(companion, base="", where=path), where=path)
        self._sql(text, path, 1)

    def _sql(self, text: str, path: str, first_line: int | None) -> None:
        for code, message, line in sql_findings.in_sql(text):
            at = None if first_line is None else first_line + line - 1
            self._seen.append(Seen(code=code, message=message, file=path, line=at))

    def _inside(self, path: str, *, base: str, where: str | None) -> str:
        """The path relative to the root. Raises: Refused when it is not below it."""
        path = self._expand(path, where)
        if _SCHEME.match(path) or path.startswith("//"):
            raise _refused(f"{path!r} is a remote, classpath or drive path", where, "outside_root")
        if path.startswith(("/", "\\")):
            raise _refused(f"{path!r} is an absolute path", where, "outside_root")
        if "\0" in path or "\n" in path:
            raise _refused(f"{path!r} is no path", where, "outside_root")
        joined = os.path.normpath(PurePosixPath(base, path.replace("\\", "/")))
        if joined == ".." or joined.startswith("../"):
            raise _refused(f"{path!r} leaves the root {self._root}", where, "outside_root")
        real = (self._root / joined).resolve()
        if not real.is_relative_to(self._root.resolve()):
            raise _refused(f"{path!r} leaves the root {self._root} through a symbolic link", where, "outside_root")
        return PurePosixPath(joined).as_posix()

    def _expand(self, text: str, where: str | None) -> str:
        def value(match: re.Match[str]) -> str:
            name = match.group(1).strip()
            if name not in self._parameters:
                raise _refused(f"the path {text!r} has a parameter that is not known here: {name}", where, "parameter")
            return self._parameters[name]

        return _PARAMETER.sub(value, text)

    def _read(self, path: str, *, where: str | None) -> bytes:
        try:
            data = (self._root / path).read_bytes()
        except FileNotFoundError:
            raise _refused(f"there is no file {path} below {self._root}", where, "missing") from None
        except OSError as error:
            raise _refused(f"{path} cannot be read: {error.strerror}", where, "missing") from error
        if not data.strip():
            raise _refused(f"{path} is empty", where, "empty")
        self._files.setdefault(path)
        return data


def _elements(path: str, suffix: str, data: bytes) -> list[Element]:
    try:
        if suffix == ".xml":
            return elements.of_xml(data)
        text = _text(path, data)
        return elements.of_json(text) if suffix == ".json" else elements.of_yaml(text)
    except NotReadable as error:
        where = f"{path}:{error.line}" if error.line else path
        raise _refused(f"the changelog cannot be used: {error.message}", where, error.code) from error


def _text(path: str, data: bytes, encoding: str = "utf-8") -> str:
    try:
        text = data.decode(encoding).removeprefix("\ufeff")
    except (UnicodeDecodeError, LookupError) as error:
        line = data.count(b"\n", 0, error.start) + 1 if isinstance(error, UnicodeDecodeError) else None
        place = Place(file=path, line=line)
        raise Refused(f"{path}:{line or ''} is not {encoding}: {error}", code="encoding", place=place) from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        place = Place(file=path, line=line)
        raise Refused(f"{path}:{line} holds a NUL character", code="encoding", place=place)
    return text


def _base(element: Element, path: str) -> str:
    return str(PurePosixPath(path).parent) if element.is_set("relativeToChangelogFile", default=False) else ""


def _refused(message: str, where: str | None, code: str) -> Refused:
    """`where` is a file of the changelog, or file:line."""
    if where is None:
        return Refused(message, code=code)
    file, colon, line = where.rpartition(":")
    place = Place(file=file, line=int(line)) if colon and line.isdigit() else Place(file=where)
    return Refused(f"{message} ({where})", code=code, place=place)
