"""What is read out of the words and listings of pg_dump and pg_restore."""

from __future__ import annotations

import errno
import signal

import pytest

from migrator.backups import archive, failures
from migrator.backups.requirements import Prepared
from migrator.errors import BackupFailed, StepFailed
from migrator.processes import Completed


def done(stderr: str, exit_code: int = 1) -> Completed:
    return Completed(argv=("pg_restore",), exit_code=exit_code, stdout="", stderr=stderr, duration_s=0.1)


SECRET_MAPPING = """pg_restore: while PROCESSING TOC:
pg_restore: from TOC entry 2590; 1418 16391 USER MAPPING USER MAPPING app SERVER s postgres
pg_restore: error: could not execute query: ERROR:  permission denied for foreign server s
HINT:  Ask somebody.
Command was: CREATE USER MAPPING FOR app SERVER s OPTIONS (
    password 'hunter2'
);


pg_restore: warning: errors ignored on restore: 1
"""


def test_failed_statement_is_neither_told_nor_logged() -> None:
    error = failures.failed(done(SECRET_MAPPING), "Restoring into x failed")
    assert error.message == (
        "Restoring into x failed: could not execute query: ERROR: permission denied for foreign server s "
        "HINT: Ask somebody. (for USER MAPPING USER MAPPING app SERVER s postgres)"
    )
    assert "hunter2" not in failures.without_statements(SECRET_MAPPING)
    assert "errors ignored" in failures.without_statements(SECRET_MAPPING)


def test_rows_in_a_failed_copy_are_neither_told_nor_logged() -> None:
    said = (
        'pg_restore: error: COPY failed for table "people": ERROR:  invalid input syntax for type integer: "x"\n'
        'CONTEXT:  COPY people, line 1, column a: "Ada Lovelace"\n'
    )
    assert "Lovelace" not in failures.failed(done(said), "x").message + failures.without_statements(said)


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ("pg_dump: error: could not write to file: No space left on device", "disk_full"),
        ("pg_dump: error: query failed: ERROR:  canceling statement due to statement timeout", "lock_timeout"),
        (
            'pg_dump: error: query failed: ERROR:  query would be affected by row-level security policy for table "t"',
            "row_security",
        ),
        ("pg_dump: error: aborting because of server version mismatch", "client_version"),
        (
            'pg_restore: error: could not execute query: ERROR:  unrecognized configuration parameter "x"',
            "client_version",
        ),
        (
            'pg_restore: error: could not execute query: ERROR:  permission denied to create extension "x"',
            "restore_privileges",
        ),
        ('pg_restore: error: could not execute query: ERROR:  must be able to SET ROLE "x"', "restore_privileges"),
        ('pg_restore: error: could not execute query: ERROR:  role "x" does not exist', "restore_requirements"),
        (
            "pg_dump: error: query failed: FATAL:  terminating connection due to administrator command",
            "connection_lost",
        ),
        ("pg_dump: error: query failed: ERROR:  permission denied for table t", "privileges"),
    ],
)
def test_known_failures_come_with_a_code_and_the_next_thing_to_do(said: str, code: str) -> None:
    error = failures.failed(done(said), "x")
    assert (error.code, bool(error.hint)) == (code, True)


def test_unknown_failure_says_where_to_look() -> None:
    assert failures.failed(done("pg_dump: error: odd"), "x", hint="See the log.").hint == "See the log."
    assert "SIGKILL" in failures.failed(done("", -signal.SIGKILL), "x").message
    assert failures.failed(done("", -signal.SIGXFSZ), "x").code == "disk_full"
    assert "exit code 3" in failures.failed(done("", 3), "x").message


@pytest.mark.parametrize(
    "said",
    [
        'pg_restore: WARNING:  no privileges were granted for "public"',
        'WARNING:  not all privileges were granted for "t"',
        "pg_restore: warning: errors ignored on restore: 3",
        "pg_restore: error: odd",
    ],
)
def test_exit_code_0_with_such_words_is_a_failure(said: str) -> None:
    assert failures.refused_warning(done(f"pg_restore: hello\n{said}\n", 0)) == said


@pytest.mark.parametrize(
    "said",
    [
        "",
        "pg_restore: connecting",
        'WARNING:  "wal_level" is insufficient to publish logical changes',
        "pg_dump: warning: subscriptions not dumped because current user is not a superuser",
    ],
)
def test_exit_code_0_with_other_words_is_none(said: str) -> None:
    assert failures.refused_warning(done(said, 0)) is None
    assert failures.warnings(done(said, 0)) == ((said.replace("  ", " "),) if "arning" in said.lower() else ())


LISTING = """;
; Archive created at 2026-01-01 00:00:00 UTC
;
2585; 0 0 COMMENT - SCHEMA public pg_database_owner
2586; 0 0 ACL - SCHEMA public pg_database_owner
6; 2615 16390 SCHEMA - extensions owner
7; 2615 16391 SCHEMA - extensions of ours some owner
2; 3079 16392 EXTENSION - citext\x20
2587; 0 0 COMMENT - EXTENSION citext\x20
2588; 0 0 COMMENT - EXTENSION citext2\x20
219; 1259 16395 TABLE public ACL - SCHEMA public migrator
2589; 0 0 ACL public TABLE t migrator
"""


def numbers(listing: str) -> list[int]:
    return [int(line.partition(";")[0]) for line in listing.splitlines() if line[0].isdigit()]


def test_schemas_come_first_with_their_privileges() -> None:
    schemas, others = archive.split(LISTING, Prepared())
    assert numbers(schemas) == [2586, 6, 7]
    assert numbers(others) == [2585, 2, 2587, 2588, 219, 2589]


def test_what_is_there_already_is_left_out_and_nothing_else() -> None:
    prepared = Prepared(schemas=frozenset({"extensions of ours"}), extension_comments=frozenset({"citext"}))
    schemas, others = archive.split(LISTING, prepared)
    assert numbers(schemas) == [2586, 6]
    assert numbers(others) == [2585, 2, 2588, 219, 2589]


def test_errors_of_server_and_disk_become_errors_of_the_backup() -> None:
    with pytest.raises(BackupFailed, match="doing it: odd") as caught, failures.translated("doing it"):
        raise StepFailed("odd", hint="look", code="x")
    assert (caught.value.hint, caught.value.code) == ("look", "x")
    with pytest.raises(BackupFailed, match="No space left") as caught, failures.translated("doing it"):
        raise OSError(errno.ENOSPC, "No space left on device", "/backups/x")
    assert caught.value.hint == failures.ROOM
