"""What a changelog's SQL does that a run should know before: ending transactions, reaching outside the database."""

from __future__ import annotations

from collections.abc import Iterator

from migrator.liquibase.sqltext import Statement, statements

_OUTSIDE: dict[tuple[str, ...], str] = {
    ("ALTER", "DATABASE"): "changes the database itself",
    ("CREATE", "DATABASE"): "creates another database",
    ("DROP", "DATABASE"): "drops a database",
    ("ALTER", "SYSTEM"): "changes the server's configuration",
    ("CREATE", "TABLESPACE"): "creates a tablespace",
    ("ALTER", "TABLESPACE"): "changes a tablespace",
    ("DROP", "TABLESPACE"): "drops a tablespace",
    ("CREATE", "SUBSCRIPTION"): "creates a subscription",
    ("DROP", "SUBSCRIPTION"): "drops a subscription",
    **{
        (verb, kind): "changes roles, which belong to the whole server"
        for verb in ("CREATE", "ALTER", "DROP")
        for kind in ("ROLE", "USER", "GROUP")
    },
}
_CONTROL = {"BEGIN", "COMMIT", "END", "ABORT", "ROLLBACK"}


def in_sql(text: str) -> Iterator[tuple[str, str, int]]:
    """Code, message and line of everything worth knowing; the line counts from 1 within the text."""
    for statement in statements(text):
        found = _of(statement)
        if found is not None:
            yield (*found, statement.line)


def _of(statement: Statement) -> tuple[str, str] | None:
    words = statement.words
    if words[0].startswith("\\"):
        return "psql_command", f"{words[0].lower()} is a command of psql; Liquibase cannot run it"
    if _is_transaction_control(words):
        return "transaction_control", f"{' '.join(words[:2])} ends or begins a transaction of its own"
    # CREATE USER MAPPING belongs to the database
    if words[:2] in _OUTSIDE and words[2:3] != ("MAPPING",):
        return "outside_database", f"{' '.join(words[:2])} {_OUTSIDE[words[:2]]}: no backup of the database holds it"
    if words[0] == "COPY" and "PROGRAM" in words:
        return "outside_database", "COPY ... PROGRAM runs a program on the server"
    return None


def _is_transaction_control(words: tuple[str, ...]) -> bool:
    if words[:2] in {("START", "TRANSACTION"), ("PREPARE", "TRANSACTION")}:
        return True
    if words[0] == "ROLLBACK" and "TO" in words:
        return False
    return words[0] in _CONTROL and len(words) <= 8
