"""Changes that keep everybody waiting: tables written anew, indexes built in place, locks that shut readers out."""

from __future__ import annotations

import re
from collections.abc import Iterator

from migrator.plans.findings import rewrites
from migrator.plans.findings.cursor import Name
from migrator.plans.findings.look import Look, rows_told
from migrator.plans.findings.model import Finding, Rule, Severity, are_empty
from migrator.plans.findings.statements import Action
from migrator.plans.words import count

TABLE_REWRITE = Rule(
    id="table-rewrite",
    severity=Severity.WARNING,
    finds="Every row of an existing table is written anew.",
    asks_database=True,
    why="Nobody can read or write the table (ACCESS EXCLUSIVE) while all of it and its indexes are written again, and "
    "the disk holds it twice until the transaction ends.",
    safer="Expand: add a column of the new kind, nullable and without a computed default. Move data: fill it in "
    "batches. Contract: drop the old one later.",
)
INDEX_BLOCKS_WRITES = Rule(
    id="index-blocks-writes",
    severity=Severity.WARNING,
    finds="An index is built on an existing table without CONCURRENTLY.",
    why="Nobody can write the table (SHARE) while the index is built; in one transaction, until its end.",
    safer='CREATE INDEX CONCURRENTLY in a changeset of its own with runInTransaction="false"; or build it while users '
    "are held off.",
)
ACCESS_EXCLUSIVE = Rule(
    id="access-exclusive",
    severity=Severity.INFO,
    finds="An existing table is altered under ACCESS EXCLUSIVE without a longer piece of work, and no other rule says "
    "so. A warning where others are at work on the table just now.",
    asks_database=True,
    why="The lock waits behind every running query of the table, and everybody else waits behind it; in one "
    "transaction it is held until the end.",
    safer="Keep limits.lock_timeout_s short, and put what takes long into another changelog.",
)
NEEDS_NO_TRANSACTION = Rule(
    id="needs-no-transaction",
    severity=Severity.ERROR,
    finds="A statement that PostgreSQL refuses inside a transaction stands in a changeset that runs in one.",
    why="It fails with SQLSTATE 25001.",
    safer='Give it a changeset of its own with runInTransaction="false"; the run is then stepwise or blue/green.',
)
RULES = (TABLE_REWRITE, INDEX_BLOCKS_WRITES, ACCESS_EXCLUSIVE, NEEDS_NO_TRANSACTION)
_NO_LOCK = {"VALIDATE", "CLUSTER", "OWNER"}
_LIGHT_SETS = {"STATISTICS", "(", "WITHOUT", "STORAGE"}
_ALONE = re.compile(
    r"^(CREATE (UNIQUE )?INDEX CONCURRENTLY|DROP INDEX CONCURRENTLY|REINDEX .*CONCURRENTLY|VACUUM|CREATE DATABASE"
    r"|DROP DATABASE|CREATE TABLESPACE|DROP TABLESPACE|ALTER SYSTEM|ALTER TABLE .* DETACH PARTITION .* CONCURRENTLY"
    r"|CREATE SUBSCRIPTION|REINDEX (DATABASE|SYSTEM|SCHEMA))\b"
)


def of(look: Look, *, is_known: bool) -> Iterator[Finding]:
    """Whom this statement keeps waiting; `is_known`: another rule has spoken of it already."""
    statement = look.statement
    if look.changeset.run_in_transaction and _ALONE.match(" ".join(statement.words)):
        told = f"{' '.join(statement.words[:3])} stands in a changeset that runs in a transaction"
        yield look.finding(NEEDS_NO_TRANSACTION, told, at=statement.start)
    if statement.verb == "CREATE" and statement.kind == "INDEX" and "CONCURRENTLY" not in statement.modifiers:
        yield from _indexed(look)
    elif statement.verb in {"VACUUM", "CLUSTER", "REFRESH", "LOCK"}:
        for name in statement.names:
            if not look.is_new(name):
                yield from _maintained(look, name, is_known=is_known)
    elif statement.verb == "ALTER" and statement.kind == "TABLE":
        for name in statement.names:
            if not look.is_new(name):
                yield from _altered(look, name, is_known=is_known)


def _indexed(look: Look) -> Iterator[Finding]:
    table = look.statement.table
    if table is not None and not look.is_new(table):
        stakes = look.stakes(table)
        told = f"builds an index on {look.named(table)} while nobody can write it{rows_told(stakes)}"
        severity = _if_nobody_waits(look, table)
        yield look.finding(INDEX_BLOCKS_WRITES, told, at=look.statement.start, stakes=stakes, severity=severity)


def _maintained(look: Look, table: Name, *, is_known: bool) -> Iterator[Finding]:
    verb, at = look.statement.verb, look.statement.start
    if verb in {"VACUUM", "CLUSTER"}:
        yield from _rewritten(look, table, f"{verb} writes {look.named(table)} anew", at)
    elif verb == "LOCK":
        yield from _locked(look, table, f"locks {look.named(table)}", at, is_known=is_known)
    elif "CONCURRENTLY" not in look.statement.modifiers:
        told = f"refreshes {look.named(table)} while nobody can read it"
        yield from _locked(look, table, told, at, is_known=is_known)


def _altered(look: Look, table: Name, *, is_known: bool) -> Iterator[Finding]:
    quick = []
    is_rewritten = False
    for action in look.statement.actions:
        what = rewrites.cause(look, table, action)
        if what is not None:
            is_rewritten = True
            told = f"{what} writes every row of {look.named(table)} anew"
            yield from _rewritten(look, table, told, action.start)
        elif not _takes_less(action):
            quick.append(action)
    if quick and not is_rewritten:
        told = f"alters {look.named(table)} under ACCESS EXCLUSIVE"
        yield from _locked(look, table, told, quick[0].start, is_known=is_known)


def _takes_less(action: Action) -> bool:
    """Whether a weaker lock is enough, or another rule speaks of it already."""
    words = action.words
    if words[0] in _NO_LOCK or words[:2] in {("ATTACH", "PARTITION"), ("DETACH", "PARTITION")}:
        return True
    if words[0] == "SET" and len(words) > 1 and words[1] in _LIGHT_SETS:
        return True
    if words[0] in {"ENABLE", "DISABLE"} and "TRIGGER" in words:
        return True
    if words[0] == "ALTER" and "STATISTICS" in words:
        return True
    if words[0] == "ADD":
        return words[1] in {"CONSTRAINT", "CHECK", "UNIQUE", "PRIMARY", "FOREIGN", "EXCLUDE"}
    return words[0] == "ALTER" and "SET" in words and words[-2:] == ("NOT", "NULL")


def _rewritten(look: Look, table: Name, told: str, at: int) -> Iterator[Finding]:
    stakes = look.stakes(table)
    severity = Severity.INFO if are_empty(stakes) else None
    yield look.finding(TABLE_REWRITE, told + rows_told(stakes), at=at, stakes=stakes, severity=severity)


def _locked(look: Look, table: Name, told: str, at: int, *, is_known: bool) -> Iterator[Finding]:
    facts = look.table(table)
    is_busy = facts is not None and facts.held_by > 0 and look.circumstances.others_work
    if is_known and not is_busy:
        return
    stakes = look.stakes(table)
    severity = None
    if facts is not None:
        used = f"{count(facts.reads, 'scan')} and {count(facts.writes, 'written row')} since its statistics were reset"
        told += f"{rows_told(stakes)}; {used}"
        if is_busy:
            told += f"; {count(facts.held_by, 'session')} {'holds' if facts.held_by == 1 else 'hold'} it now"
            severity = Severity.WARNING
    yield look.finding(ACCESS_EXCLUSIVE, told, at=at, stakes=stakes, severity=severity)


def _if_nobody_waits(look: Look, table: Name) -> Severity | None:
    return Severity.INFO if are_empty(look.stakes(table)) or not look.circumstances.others_work else None
