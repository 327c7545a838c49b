"""Finds the functions of migrator that change the world outside any declared effect, by walking the source.

What counts: SQL that writes or may write, the journal's rows, files and folders, processes and signals, what is sent to
others, calls that change something at AWS; whether it is called or handed on, under whatever name it was imported.
A function may have it when it is marked with `@effect`, has it in a `with doing(...)`, or is called by such only.
What stands in no function is looked at as `<module>`; lambdas and functions in functions belong to what they stand in.

What the walk cannot see: a name that is put together (`getattr(path, "un" + "link")`), a file that a library writes,
SQL under another name than `execute`, `rows` and their like, a method of a foreign object that is named as no other,
and whatever the Java side does on its own (behind the effects `update`, `commit` and their like, which stand around
the whole request).
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from tests.writing_sql import reads, what_it_writes

PACKAGE = Path(__file__).parents[1] / "migrator"
MODULE = "<module>"

# Of these modules everything counts, but for what is named here: a new one is looked at by whoever adds it.
_HARMLESS = {
    "os": """path environ getenv getpid getppid geteuid getegid getuid getgroups getcwd cpu_count urandom stat lstat
        fstat statvfs listdir scandir walk access readlink close read fdopen fsync dup dup2 umask fspath fsdecode
        fsencode get_exec_path waitpid sysconf uname devnull sep linesep pathsep name supports_effective_ids error
        isatty strerror get_terminal_size times open _exit""",
    "shutil": "which disk_usage get_terminal_size",
    "subprocess": "list2cmdline",
    "tempfile": "gettempdir",
    "sqlite3": "",
    "multiprocessing": "cpu_count",
    "urllib": "parse error",
    "http": "",
    "requests": "exceptions",
    "httpx": "",
    "smtplib": "",
    "ftplib": "",
    "apprise": "",
    "shelve": "",
    "dbm": "",
    "pty": "",
}
_LISTED = {module: frozenset(names.split()) for module, names in _HARMLESS.items()}
# Classes and functions of other modules, and classes of the above.
_NAMES = """
    subprocess.Popen tempfile.TemporaryDirectory tempfile.NamedTemporaryFile tempfile.TemporaryFile
    tempfile.SpooledTemporaryFile multiprocessing.Process multiprocessing.Pool http.client.HTTPConnection
    http.client.HTTPSConnection smtplib.SMTP smtplib.SMTP_SSL requests.Session httpx.Client ftplib.FTP
    urllib.request.Request concurrent.futures.ProcessPoolExecutor logging.FileHandler logging.handlers.*
    signal.pidfd_send_signal signal.pthread_kill signal.raise_signal socket.create_connection socket.create_server
    asyncio.create_subprocess_exec asyncio.create_subprocess_shell webbrowser.open builtins.eval builtins.exec
    builtins.__import__
    """
_NAMED = frozenset(_NAMES.split())
_OPENERS = {"builtins.open", "io.open", "codecs.open", "gzip.open", "bz2.open", "lzma.open", "tarfile.open"}
_OPENERS |= {"zipfile.ZipFile"}
_FILE_METHODS = {"unlink", "rename", "mkdir", "write_text", "write_bytes", "touch", "rmdir", "symlink_to"}
_FILE_METHODS |= {"hardlink_to", "chmod", "lchmod", "extractall"}
_SENDING_METHODS = {"notify", "sendmail", "send_message", "urlopen"}
_PROCESS_METHODS = {"kill", "terminate", "send_signal"}  # where processes of the standard library are at hand
_PROCESS_MODULES = {"subprocess", "multiprocessing", "psutil", "asyncio"}
_ENDING_METHODS = {"commit"}  # where a database's driver is at hand
_DRIVERS = {"psycopg", "sqlite3", "sqlalchemy"}
_SQL_CALLS = {"execute", "rows", "exec_driver_sql", "executemany", "executescript", "scalar", "scalars", "copy_expert"}
_AWS_CALLS = {"idempotent", "once"}  # of migrator.aws.service
_SQLALCHEMY = {"insert", "delete", "update", "create_all", "drop_all"}
_PROVIDER_VERBS = re.compile(
    r"(put|create|delete|modify|update|register|deregister|start|stop|complete|abort|upload|restore|add|remove|copy|set"
    r"|tag|untag|reboot|run|associate|disassociate|invoke|publish|send|suspend|resume|terminate)_[a-z0-9_]+\Z"
)
_MODE = re.compile(r"(?=.*[wax+])[rwaxbt+]{1,4}(:\w*)?\Z")
_DEPTH = 6  # of names that stand for a statement
_Callable = (ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass
class Function:
    """A function of the package, those in it included; or what of a module stands in none."""

    module: str
    name: str  # Class.method for a method
    declared: bool = False  # marked with @effect
    found: list[str] = field(default_factory=list)  # effects outside `with doing(...)`: "line: what"
    uses: set[str] = field(default_factory=set)  # names and attributes that it mentions

    @property
    def key(self) -> str:
        return f"{self.module}:{self.name}"


def undeclared(exempt: dict[str, str]) -> dict[str, list[str]]:
    """`module:function` -> what it does, for all that no fail point stands around, but for those that are exempt.

    Who is exempt is so alone, by `module:function`: whom it calls is looked at all the same.
    """
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
        if function.found and key not in covered and key not in exempt
    }


def seen_in(text: str) -> list[str]:
    """What is found in a module of such a text, wherever it stands."""
    source = _Source(name="migrator.runs.probe", text=text, tree=ast.parse(text))
    return [what for function in _Module(source, _Package([source])).functions() for what in function.found]


@dataclass(frozen=True, kw_only=True)
class _Source:
    name: str
    text: str
    tree: ast.Module

    @classmethod
    @cache
    def of(cls, path: Path) -> _Source:
        text = path.read_text(encoding="utf-8")
        name = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
        return cls(name=name, text=text, tree=ast.parse(text))


class _Package:
    """What is known of all modules together: their functions' names, and the texts that their names stand for."""

    def __init__(self, sources: list[_Source]) -> None:
        self.sources = sources
        self.named = {node.name for source in sources for node in ast.walk(source.tree) if isinstance(node, _Callable)}
        self.texts: dict[str, ast.AST] = {}
        self.functions: set[str] = set()
        for source in sources:
            for node in source.tree.body:
                if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                    self.texts[f"{source.name}:{node.targets[0].id}"] = node.value
                elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
                    self.texts[f"{source.name}:{node.target.id}"] = node.value
                elif isinstance(node, _Callable):
                    self.texts[f"{source.name}:{node.name}"] = _without_docstring(node)
                    self.functions.add(f"{source.name}:{node.name}")


def _without_docstring(node: ast.FunctionDef | ast.AsyncFunctionDef) -> ast.AST:
    """A statement that it returns stands somewhere in it."""
    body = node.body[1:] if ast.get_docstring(node, clean=False) is not None else node.body
    return ast.Module(body=body, type_ignores=[])


@cache
def _package() -> _Package:
    return _Package([_Source.of(path) for path in sorted(PACKAGE.rglob("*.py")) if "testing" not in path.parts])


@cache
def _functions() -> dict[str, Function]:
    package = _package()
    return {function.key: function for source in package.sources for function in _Module(source, package).functions()}


def effects_used() -> set[str]:
    """The members of Effect that stand somewhere in the package."""
    return {
        node.attr
        for source in _package().sources
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "Effect"
    }


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
    def __init__(self, source: _Source, package: _Package) -> None:
        self._source = source
        self._name = source.name
        self._package = package
        self._imported = dict(self._imports())
        self._own = {node.name for node in source.tree.body if isinstance(node, _Callable)}
        roots = {name.partition(".")[0] for name in self._imported.values()}
        self._has_processes = bool(roots & _PROCESS_MODULES)
        self._has_driver = bool(roots & _DRIVERS)
        self._is_sqlalchemy = "sqlalchemy" in roots
        self._is_provider = re.search(r"\b(boto3|botocore)\b|\.aws\b", source.text) is not None

    def functions(self) -> Iterator[Function]:
        rest: list[ast.AST] = []
        yield from self._of(self._source.tree.body, "", rest)
        yield self._function(rest, MODULE)

    def _of(self, body: list[ast.stmt], prefix: str, rest: list[ast.AST]) -> Iterator[Function]:
        for node in body:
            if isinstance(node, _Callable):
                rest += [*node.decorator_list, *node.args.defaults, *(one for one in node.args.kw_defaults if one)]
                yield self._function([node], prefix + node.name)
            elif isinstance(node, ast.ClassDef):
                rest += [*node.decorator_list, *node.bases]
                yield from self._of(node.body, f"{prefix}{node.name}.", rest)
            elif isinstance(node, ast.If | ast.Try):
                inner = [*node.body, *node.orelse, *getattr(node, "finalbody", [])]
                for handler in getattr(node, "handlers", []):
                    inner += handler.body
                yield from self._of(inner, prefix, rest)
                rest += [node.test] if isinstance(node, ast.If) else []
            else:
                rest.append(node)

    def _function(self, nodes: list[ast.AST], name: str) -> Function:
        function = Function(module=self._name, name=name)
        walked: list[ast.AST] = []
        for node in nodes:
            if isinstance(node, _Callable):
                function.declared = any(self._is_mark(mark, "effect") for mark in node.decorator_list)
                walked += [part for inner in [node.args, *node.body] for part in _walk(inner)]
            else:
                walked += _walk(node)
        local = {
            target.id: part.value
            for part in walked
            if isinstance(part, ast.Assign)
            for target in part.targets
            if isinstance(target, ast.Name)
        }
        called = {id(part.func): part for part in walked if isinstance(part, ast.Call)}
        owners = {id(part.value) for part in walked if isinstance(part, ast.Attribute)}
        inside = self._inside_effects(walked)
        for part in walked:
            if not isinstance(part, ast.Name | ast.Attribute):
                continue
            function.uses.add(self._used(part))
            if isinstance(part.ctx, ast.Load) and id(part) not in inside:
                what = self._effect_of(part, called.get(id(part)), local, is_owner=id(part) in owners)
                if what is not None:
                    function.found.append(f"{part.lineno}: {what}")
        return function

    def _effect_of(
        self, named: ast.Name | ast.Attribute, call: ast.Call | None, local: dict[str, ast.expr], *, is_owner: bool
    ) -> str | None:
        dotted = self._dotted(named)
        if dotted:
            return self._of_foreign(dotted, call, is_owner=is_owner)
        if isinstance(named, ast.Attribute):
            return self._of_method(named, call, local)
        return None

    def _of_foreign(self, dotted: str, call: ast.Call | None, *, is_owner: bool) -> str | None:
        """What a name that was imported does: called, or handed to somebody who calls it."""
        root, _, rest = dotted.partition(".")
        name = dotted.rpartition(".")[2]
        if dotted in _OPENERS:
            return self._file_opened(call) if call is not None else f"{dotted} is handed on"
        if dotted == "os.open":
            return self._file_opened_by_flags(call)
        if dotted in _NAMED or f"{dotted.rpartition('.')[0]}.*" in _NAMED:
            return dotted if call is not None or name.islower() else None
        if root in _LISTED and not rest:
            return None if is_owner else f"{root} is handed on as a whole"
        if root in _LISTED and name.islower():
            within = rest.partition(".")[0]
            module = within in {"request", "client"} and name == within
            return dotted if within not in _LISTED[root] and not (module and is_owner) else None
        if root == "pathlib" and name in _FILE_METHODS | {"replace"}:
            return f"a file is changed by {name}"
        if self._is_sqlalchemy and root == "sqlalchemy" and name in _SQLALCHEMY and call is not None:
            return f"the journal's {name}"
        return None

    def _of_method(self, named: ast.Attribute, call: ast.Call | None, local: dict[str, ast.expr]) -> str | None:
        """What a method does, by its name: nobody knows here of which class it is."""
        name = named.attr
        if self._used(named) in self._package.functions:
            return None  # looked at itself
        if name in _SQL_CALLS and call is not None:
            return self._sql(call, local, name)
        if name in _SQL_CALLS and name not in {"rows", "scalar", "scalars"}:  # which are fields, too
            return f"{name} is handed on"
        if what := self._told_by_name(name):
            return f"{what} by {name}"
        return self._of_call(named, call) if call is not None else None

    def _told_by_name(self, name: str) -> str:
        """What a method of such a name does, called or handed on."""
        if name in _FILE_METHODS:
            return "a file is changed"
        if name in _SENDING_METHODS:
            return "something is sent"
        if name in _PROCESS_METHODS and self._has_processes:
            return "a process is ended"
        return "a transaction is ended" if name in _ENDING_METHODS and self._has_driver else ""

    def _of_call(self, named: ast.Attribute, call: ast.Call) -> str | None:
        name = named.attr
        if name == "replace" and len(call.args) == 1 and not call.keywords:
            return "a file is changed by replace"
        if name == "open":
            return self._file_opened(call)
        if name == "_transaction" and self._name == "migrator.runs.journal":
            return None if "writes=False" in ast.unparse(call) else "the journal is written"
        if self._is_sqlalchemy and name in _SQLALCHEMY:
            return f"the journal's {ast.unparse(named)}"
        if self._is_provider and _PROVIDER_VERBS.match(name) and name not in self._package.named:
            return f"AWS is told to {name}"
        return None

    def _file_opened(self, call: ast.Call) -> str | None:
        by_name = isinstance(call.func, ast.Name) or self._dotted(call.func) in _OPENERS
        given = call.args[1:2] if by_name else call.args[:1]
        given = [*given, *(keyword.value for keyword in call.keywords if keyword.arg == "mode")]
        # a descriptor was opened by os.open, which was looked at
        first = call.args[0] if call.args else None
        if isinstance(first, ast.Name) and first.id == "descriptor":
            return None
        for mode in given:
            unseen = not isinstance(mode, ast.Constant) and (by_name or "mode" in ast.unparse(mode))
            writes = isinstance(mode, ast.Constant) and isinstance(mode.value, str) and _MODE.match(mode.value)
            if unseen or writes:
                return f"a file is opened to write: {ast.unparse(call)[:60]}"
        return None

    def _file_opened_by_flags(self, call: ast.Call | None) -> str | None:
        flags = set(re.findall(r"O_[A-Z]+", ast.unparse(call))) if call is not None else set()
        if "O_RDONLY" in flags and not flags & {"O_CREAT", "O_WRONLY", "O_RDWR", "O_TRUNC", "O_APPEND"}:
            return None
        return "os.open"

    def _sql(self, call: ast.Call, local: dict[str, ast.expr], how: str) -> str | None:
        if not call.args:
            return None
        texts = self._texts(call.args[0], local, depth=0)
        for text in texts:
            if found := what_it_writes(text):
                return f"SQL: {found}"
        if any(reads(text) for text in texts) or (how == "scalars" and not texts):
            return None
        if self._is_sqlalchemy and re.search(r"\bselect\(", ast.unparse(call.args[0])):
            return None
        return f"SQL that cannot be seen: {ast.unparse(call.args[0])[:60]}"

    def _texts(self, node: ast.AST, local: dict[str, ast.expr], *, depth: int) -> list[str]:
        """The strings of which the statement is made, as far as they can be seen from here."""
        if depth > _DEPTH:
            return []
        found: list[str] = []
        for part in _walk(node):
            if isinstance(part, ast.Constant) and isinstance(part.value, str):
                found.append(part.value)
            elif isinstance(part, ast.Name) and part.id in local and local[part.id] is not node:
                found += self._texts(local[part.id], {**local, part.id: ast.Constant(0)}, depth=depth + 1)
            elif isinstance(part, ast.Name | ast.Attribute):
                meant = self._package.texts.get(self._used(part))
                if meant is not None and meant is not node:
                    found += self._texts(meant, {}, depth=depth + 1)
        return found

    def _imports(self) -> Iterator[tuple[str, str]]:
        for node in ast.walk(self._source.tree):
            if isinstance(node, ast.ImportFrom) and node.module is not None:
                for name in node.names:
                    yield name.asname or name.name, f"{node.module}.{name.name}"
            elif isinstance(node, ast.Import):
                for name in node.names:
                    root = name.name.partition(".")[0]
                    yield name.asname or root, name.name if name.asname else root

    def _dotted(self, node: ast.expr) -> str:
        """The full name of what was imported or is built in; empty for all else and for what is migrator's."""
        names: list[str] = []
        while isinstance(node, ast.Attribute):
            names.append(node.attr)
            node = node.value
        if not isinstance(node, ast.Name):
            return ""
        if not names and node.id in {"open", "eval", "exec", "__import__"} and node.id not in self._imported:
            return f"builtins.{node.id}"
        start = self._imported.get(node.id, "migrator")
        return "" if start.partition(".")[0] == "migrator" else ".".join([start, *reversed(names)])

    def _used(self, node: ast.Name | ast.Attribute) -> str:
        """`module:name` of migrator, or an attribute of whatever it is."""
        if isinstance(node, ast.Name):
            if node.id in self._own:
                return f"{self._name}:{node.id}"
            module, _, name = self._imported.get(node.id, f"{self._name}.{node.id}").rpartition(".")
            return f"{module}:{name}"
        if isinstance(node.value, ast.Name) and node.value.id in self._imported:
            return f"{self._imported[node.value.id]}:{node.attr}"
        return node.attr

    def _is_mark(self, node: ast.expr, name: str) -> bool:
        """Whether it is `effect(...)` or `doing(...)` of migrator.failpoints, and none that is only named so."""
        return isinstance(node, ast.Call) and (
            isinstance(node.func, ast.Name | ast.Attribute) and self._used(node.func) == f"migrator.failpoints:{name}"
        )

    def _inside_effects(self, walked: list[ast.AST]) -> set[int]:
        """What stands in a `with doing(...)`, or is handed to an AWS service to be called, which has the effect."""
        found: set[int] = set()
        for part in walked:
            bodies: list[ast.AST] = []
            if isinstance(part, ast.With) and any(self._is_mark(item.context_expr, "doing") for item in part.items):
                bodies += part.body
            if isinstance(part, ast.Call) and isinstance(part.func, ast.Attribute) and part.func.attr in _AWS_CALLS:
                bodies += part.args
            found |= {id(inner) for body in bodies for inner in ast.walk(body)}
        return found


def _walk(node: ast.AST) -> Iterator[ast.AST]:
    """All of it, but for what only says of which type something is, and the values and names that SQL is given."""
    yield node
    values = isinstance(node, ast.Call) and ast.unparse(node.func) in {"sql.Literal", "sql.Identifier"}
    for name, value in ast.iter_fields(node):
        if name in {"annotation", "returns", "type_params"} or (values and name == "args"):
            continue
        for inner in value if isinstance(value, list) else [value]:
            if isinstance(inner, ast.AST):
                yield from _walk(inner)
