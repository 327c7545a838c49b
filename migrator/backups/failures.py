"""What pg_dump and pg_restore said, as one readable line and the next thing to do."""

from __future__ import annotations

import errno
import re
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from migrator.errors import BackupFailed, MigratorError, StepFailed
from migrator.processes import Completed

ROOM = "Make room, or name another backup.store; each folder in it is one backup."
_PRIVILEGED = (
    'Use backup.kinds = ["clone"], which copies the database on the server and needs no superuser for it; '
    "or let a superuser be the login of this environment."
)

# What is found in the programs' words -> (code, what to do). The first that fits counts.
_REMEDIES: Mapping[str, tuple[str, str]] = {
    r"No space left on device|File too large|Disk quota exceeded|could not extend file": ("disk_full", ROOM),
    r"row-level security policy": (
        "row_security",
        "Row-level security would hide rows from the backup. Log in as a role with BYPASSRLS, or as the tables' owner "
        "without FORCE ROW LEVEL SECURITY.",
    ),
    # pg_dump limits its wait for a lock by a timeout of the statement; it sets no other.
    r"lock timeout|statement timeout|could not obtain lock|deadlock detected": (
        "lock_timeout",
        "Another session holds a lock that keeps readers out. End it, or raise limits.lock_timeout_s.",
    ),
    r"server version mismatch|unsupported version \(|unrecognized configuration parameter": (
        "client_version",
        "Use pg_dump and pg_restore of the version that fits the server; see: migrator doctor",
    ),
    r"invalid snapshot identifier|snapshot \"[^\"]*\" does not exist|could not import the requested snapshot": (
        "snapshot_gone",
        "The transaction that exported the snapshot has ended; the backup must be taken again from the start.",
    ),
    r"permission denied to (create (extension|event trigger)|set session auth)|[Mm]ust be (a )?superuser": (
        "restore_privileges",
        _PRIVILEGED,
    ),
    r"must be able to SET ROLE|must be (a )?member of role|must be owner of|permission denied to (change|set)": (
        "restore_privileges",
        "Grant the role that owns the object to this environment's login, with INHERIT and SET, or use "
        'backup.kinds = ["clone"].',
    ),
    r"no privileges (were granted|could be revoked)|not all privileges": (
        "restore_privileges",
        "The login may not give these privileges: it does not own the object. Grant it the owner's role, or use "
        'backup.kinds = ["clone"].',
    ),
    r"role \"[^\"]*\" does not exist": ("restore_requirements", "Create the role and restore again."),
    r"extension \"[^\"]*\" is not available|could not open extension control file": (
        "restore_requirements",
        "Install the extension's files on the server and restore again.",
    ),
    r"permission denied": ("privileges", "Grant this environment's login what the message names."),
    r"terminating connection|server closed the connection|connection to server .* failed|could not receive data": (
        "connection_lost",
        "The server or somebody on it ended the session; its log says why.",
    ),
}
_SHORTENED = "Command was:"


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Errors of the server and of the file system leave the block as BackupFailed; `doing` begins the message."""
    try:
        yield
    except BackupFailed:
        raise
    except StepFailed as error:
        raise BackupFailed(f"{doing}: {error.message}", hint=error.hint, code=error.code) from error
    except OSError as error:
        hint = ROOM if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) else None
        raise BackupFailed(f"{doing}: {error.strerror} ({error.filename})", hint=hint) from error


def tell(error: BaseException, what: str) -> None:
    """Whoever sees the error reads this too."""
    if isinstance(error, MigratorError):
        error.hint = f"{error.hint or ''} {what}".strip()
    else:
        error.add_note(what)


def failed(done: Completed, doing: str, *, hint: str | None = None) -> BackupFailed:
    """The error for a program that did not do what it should; `doing` begins its message."""
    said = _first_error(done.stderr) or _ending(done.exit_code)
    code, remedy = _remedy(said if done.exit_code != -signal.SIGXFSZ else "File too large")
    return BackupFailed(f"{doing}: {said}", hint=remedy or hint, code=code)


def refused_warning(done: Completed) -> str | None:
    """The first complaint of a program with exit code 0 after which its work cannot count as done; None if none."""
    for line in done.stderr.splitlines():
        own = re.match(r"pg_(dump|restore): (error|warning|fatal):", line)
        if (own and not re.search(_HARMLESS, line)) or re.search(_PRIVILEGES_LOST, line):
            return line.strip()
    return None


def warnings(done: Completed) -> tuple[str, ...]:
    """What a program said though it did its work."""
    return tuple(
        " ".join(line.split()) for line in done.stderr.splitlines() if re.search(r"warning:", line, re.IGNORECASE)
    )


def without_statements(stderr: str) -> str:
    """The text without the statements and rows that it quotes: they may hold passwords and people's data."""
    kept = []
    quoting = False
    for line in stderr.splitlines():
        if line.startswith((_SHORTENED, "CONTEXT:", "pg_dump: detail: Command was", "DETAIL:")):
            quoting = True
        elif re.match(r"pg_(dump|restore): |[A-Z]+:  ", line):
            quoting = False
        if not quoting:
            kept.append(line)
    return "\n".join(kept)


# Publications that cannot work yet are created all the same; subscriptions are refused by preflight.
_HARMLESS = r"wal_level|subscriptions not dumped"
_PRIVILEGES_LOST = r"no privileges (were granted|could be revoked)|not all privileges"


def _first_error(stderr: str) -> str:
    """The first error with the object that it is about, in one line, without the statement that failed."""
    entry = ""
    lines = without_statements(stderr).splitlines()
    for number, line in enumerate(lines):
        found = re.match(r"pg_\w+: from TOC entry \S+ \S+ \S+ (.*)", line)
        if found:
            entry = found[1].strip()
        if not re.match(r"pg_\w+: (error|fatal|warning):|.*(ERROR|FATAL):", line):
            continue
        more = []
        for following in lines[number + 1 :]:
            if following.startswith("pg_") or not following.strip():
                break
            more.append(following.strip())
        said = " ".join([re.sub(r"^pg_\w+: (error|fatal|warning): ", "", line), *more])
        return " ".join(f"{said}{f' (for {entry})' if entry else ''}".split())[:1000]
    return " ".join(" ".join(lines[-3:]).split())[:1000]


def _ending(exit_code: int) -> str:
    if exit_code >= 0:
        return f"it ended with exit code {exit_code} and said nothing"
    try:
        return f"it was ended by {signal.Signals(-exit_code).name}"
    except ValueError:
        return f"it was ended by the signal {-exit_code}"


def _remedy(said: str) -> tuple[str, str | None]:
    for pattern, (code, remedy) in _REMEDIES.items():
        if re.search(pattern, said):
            return code, remedy
    return BackupFailed.code, None
