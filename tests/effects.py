"""Finds the functions of migrator that change the world outside any declared effect, by walking the source.

What counts: SQL that writes, the journal's rows, files and folders, processes, calls that change something at AWS.
A function may have it when it is marked with `@effect`, has it in a `with doing(...)`, or is called by such only.
What the walk cannot see: a statement that is put together elsewhere and handed to something that is not called
`execute` or `rows`, a file that a library writes, and whatever the Java side does on its own (it is behind the
effects `update`, `commit` and their like, which stand around the whole request).
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "migrator"

_WRITING_SQL = re.compile(
    r"\s*(ALTER|CREATE|DROP|GRANT|REVOKE|INSERT|UPDATE|DELETE|TRUNCATE|COMMENT|COMMIT|ANALYZE|VACUUM|REFRESH|REINDEX"
    r"|CALL|DO|COPY|PREPARE|MERGE|CLUSTER|SECURITY)\b|.*\b(pg_terminate_backend|setval|pg_try_advisory_lock|lo_(put|create|creat|unlink|import|from_bytea|truncate)|lowrite)\(",
    re.IGNORECASE | re.DOTALL,
)
_READING_SQL = re.compile(
    r"\s*(BEGIN|SET|SAVEPOINT|ROLLBACK|RESET|RELEASE|SELECT|SHOW|WITH|PRAGMA|DECLARE|FETCH|TABLE|VALUES|EXPLAIN|\Z)",
    re.IGNORECASE,
)
_SQL_CALLS = {"execute", "rows", "exec_driver_sql"}
_FILE_METHODS = {"unlink", "rename", "mkdir", "write_text", "write_bytes", "touch", "rmdir", "symlink_to"}
_CALLS = {
    "os": {"replace", "rename", "unlink", "remove", "link", "symlink", "mkfifo", "makedirs", "rmdir"},
    "shutil": {"rmtree", "move", "copy", "copy2", "copyfile", "copytree", "copyfileobj", "unpack_archive"},
    "tempfile": {"mkstemp", "mkdtemp"},
    "subprocess": {"Popen", "run", "check_output", "check_call"},
}
_AWS_CALLS = {"idempotent", "once"}  # of migrator.aws.service
_SQLALCHEMY = {"insert", "delete", "update", "create_all", "drop_all"}
_PROVIDER_VERBS = re.compile(
    r"(put|create|delete|modify|update|register|deregister|start|stop|complete|abort|upload|restore|add|remove|copy|set"
    r"|tag|untag|reboot|run|associate|disassociate|invoke|publish|send|suspend|resume|terminate)_[a-z0-9_]+\Z"
)


@dataclass
class Function:
    """A function of the package, the nested ones of it included."""

    module: str
    name: str  # Class.method for a method
    line: int
    declared: bool = False  # marked with @effect
    found: list[str] = field(default_factory=list)  # effects outside `with doing(...)`: "line: what"
    uses: set[str] = field(default_factory=set)  # names and attributes that it mentions

    @property
    def key(self) -> str:
        return f"{self.module}:{self.name}"


def undeclared(exempt: dict[str, str]) -> dict[str, list[str]]:
    """`module:function` -> what it does, for all that no fail point stands around; `exempt` by the start of the key."""
    functions = _functions()
    callers = _callers(functions)
    covered = {key for key, function in functions.items() if function.declared}
    while True:
        more = {key for key in functions if key not in covered and callers[key] and callers[key] <= covered}
        if not more:
            break
        covered |= more
    return {
        key: function.found
        for key, function in functions.items()
        if function.found and key not in covered and not key.startswith(tuple(exempt))
    }


@cache
def _functions() -> dict[str, Function]:
    return {function.key: function for path in _files() for function in _Module(path).functions()}


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def effects_used() -> set[str]:
    """The members of Effect that stand somewhere in the package."""
    return {
        node.attr
        for path in _files()
        for node in ast.walk(_tree(path))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "Effect"
    }


def _files() -> list[Path]:
    return [path for path in sorted(PACKAGE.rglob("*.py")) if "testing" not in path.parts]


def _callers(functions: dict[str, Function]) -> dict[str, set[str]]:
    """Who mentions whom. By name: one that is not certain counts, so that nothing is taken for covered too easily."""
    by_name = defaultdict(set)
    for function in functions.values():
        by_name[function.name.rpartition(".")[2]].add(function.key)
    callers: dict[str, set[str]] = defaultdict(set)
    for function in functions.values():
        for used in function.uses:
            where, _, name = used.rpartition(":")
            known = {f"{where}:{name}"} & functions.keys() if where else set()
            methods = {key for key in by_name[name] if "." in key.partition(":")[2]}
            for key in known or (set() if where else methods):
                if key != function.key:
                    callers[key].add(function.key)
    return callers


class _Module:
    def __init__(self, path: Path) -> None:
        self._name = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
        self._text = path.read_text(encoding="utf-8")
        self._tree = _tree(path)
        self._constants = dict(self._module_constants())
        self._imported = dict(self._imports())
        self._own = {node.name for node in self._tree.body if isinstance(node, ast.FunctionDef)}
        self._is_sqlalchemy = "sqlalchemy" in self._text
        self._is_provider = re.search(r"\b(boto3|botocore)\b|\.aws\b", self._text) is not None

    def functions(self) -> Iterator[Function]:
        for node in self._tree.body:
            if isinstance(node, ast.FunctionDef):
                yield self._function(node, node.name)
            elif isinstance(node, ast.ClassDef):
                for inner in node.body:
                    if isinstance(inner, ast.FunctionDef):
                        yield self._function(inner, f"{node.name}.{inner.name}")

    def _function(self, node: ast.FunctionDef, name: str) -> Function:
        function = Function(module=self._name, name=name, line=node.lineno)
        function.declared = any(
            isinstance(mark, ast.Call) and isinstance(mark.func, ast.Name) and mark.func.id == "effect"
            for mark in node.decorator_list
        )
        local = {
            target.id: statement.value
            for statement in ast.walk(node)
            if isinstance(statement, ast.Assign)
            for target in statement.targets
            if isinstance(target, ast.Name)
        }
        inside = _inside_effects(node)
        for part in ast.walk(node):
            if isinstance(part, ast.Name):
                function.uses.add(self._resolved(part.id))
            elif isinstance(part, ast.Attribute):
                function.uses.add(self._resolved_attribute(part))
            if isinstance(part, ast.Call) and id(part) not in inside:
                what = self._effect_of(part, local)
                if what is not None:
                    function.found.append(f"{part.lineno}: {what}")
        return function

    def _effect_of(self, call: ast.Call, local: dict[str, ast.expr]) -> str | None:
        called = call.func
        if isinstance(called, ast.Name):
            return self._file_opened(call) if called.id == "open" else None
        if not isinstance(called, ast.Attribute):
            return None
        owner = called.value.id if isinstance(called.value, ast.Name) else ""
        if called.attr in _SQL_CALLS and owner not in {"engine"}:
            return self._sql(call, local, called.attr)
        if called.attr in _CALLS.get(owner, ()) or (owner == "os" and "O_CREAT" in ast.unparse(call)):
            return f"{owner}.{called.attr}"
        if called.attr in _FILE_METHODS or (called.attr == "replace" and len(call.args) == 1 and not call.keywords):
            return f"a file is changed by {called.attr}" if owner != "dataclasses" else None
        if called.attr == "open":
            return self._file_opened(call)
        if called.attr == "_transaction" and self._name == "migrator.runs.journal":
            return None if "writes=False" in ast.unparse(call) else "the journal is written"
        if self._is_sqlalchemy and called.attr in _SQLALCHEMY:
            return f"the journal's {ast.unparse(called)}"
        if self._is_provider and _PROVIDER_VERBS.match(called.attr) and called.attr not in _own_names():
            return f"AWS is told to {called.attr}"
        return None

    def _file_opened(self, call: ast.Call) -> str | None:
        given = [*call.args, *(keyword.value for keyword in call.keywords if keyword.arg == "mode")]
        modes = [one.value for one in given if isinstance(one, ast.Constant) and isinstance(one.value, str)]
        # a descriptor was opened by os.open, which was looked at
        first = call.args[0] if call.args else None
        by_descriptor = isinstance(first, ast.Name) and first.id == "descriptor"
        writes = any(re.fullmatch(r"[wax]b?\+?|r\+b?", mode) for mode in modes) and not by_descriptor
        return f"a file is opened to write: {ast.unparse(call)}" if writes else None

    def _sql(self, call: ast.Call, local: dict[str, ast.expr], how: str) -> str | None:
        if not call.args:
            return None
        texts = self._texts(call.args[0], local, depth=0)
        for text in texts:
            if _WRITING_SQL.match(text):
                return f"SQL: {' '.join(text.split())[:60]}"
        if how == "rows" or any(_READING_SQL.match(text) for text in texts):
            return None
        return f"SQL that cannot be seen: {ast.unparse(call.args[0])[:60]}"

    def _texts(self, node: ast.expr, local: dict[str, ast.expr], *, depth: int) -> list[str]:
        """The string constants of which the statement begins, as far as they can be seen from here."""
        if depth > 6:
            return []
        found: list[str] = []
        for part in ast.walk(node):
            if isinstance(part, ast.Constant) and isinstance(part.value, str):
                found.append(part.value)
            elif isinstance(part, ast.Name) and part.id in self._constants:
                found.append(self._constants[part.id])
            elif isinstance(part, ast.Name) and part.id in local and local[part.id] is not node:
                found += self._texts(local[part.id], {**local, part.id: ast.Constant(0)}, depth=depth + 1)
        return found

    def _module_constants(self) -> Iterator[tuple[str, str]]:
        for node in self._tree.body:
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                parts = [
                    part.value
                    for part in ast.walk(node.value)
                    if isinstance(part, ast.Constant) and isinstance(part.value, str)
                ]
                if parts:
                    yield node.targets[0].id, " ".join(parts)

    def _imports(self) -> Iterator[tuple[str, str]]:
        for node in ast.walk(self._tree):
            if isinstance(node, ast.ImportFrom) and node.module is not None and node.module.startswith("migrator"):
                for name in node.names:
                    yield name.asname or name.name, f"{node.module}:{name.name}"

    def _resolved(self, name: str) -> str:
        if name in self._own:
            return f"{self._name}:{name}"
        return self._imported.get(name, f"?:{name}")

    def _resolved_attribute(self, node: ast.Attribute) -> str:
        if isinstance(node.value, ast.Name) and node.value.id in self._imported:
            module, _, name = self._imported[node.value.id].partition(":")
            return f"{module}.{name}:{node.attr}"
        return node.attr


@cache
def _own_names() -> set[str]:
    return {node.name for path in _files() for node in ast.walk(_tree(path)) if isinstance(node, ast.FunctionDef)}


def _inside_effects(node: ast.FunctionDef) -> set[int]:
    """What stands in a `with doing(...)`, or is handed to an AWS service to be called, which has the effect."""
    found: set[int] = set()
    for part in ast.walk(node):
        bodies: list[ast.AST] = []
        if isinstance(part, ast.With) and any(_is_doing(item.context_expr) for item in part.items):
            bodies += part.body
        if isinstance(part, ast.Call) and isinstance(part.func, ast.Attribute) and part.func.attr in _AWS_CALLS:
            bodies += part.args
        found |= {id(inner) for body in bodies for inner in ast.walk(body)}
    return found


def _is_doing(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "doing"
