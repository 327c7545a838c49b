"""What a changelog's SQL does that a run should know before: ending transactions, reaching outside the database."""

from __future__ import annotations

from collections.abc import Iterator

from migrator.liquibase.sqltext import Body, Statement, statements

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
# The kinds of objects that belong to the whole server, or are the database itself.
_SHARED = {"DATABASE", "TABLESPACE", "PARAMETER", "ROLE"}
_PROGRAM = "COPY ... PROGRAM runs a program on the server"
_DBLINK = "dblink works in a session of its own, which no rollback reaches"
_VERBS = {"REASSIGN", "DROP", "GRANT", "REVOKE", "COMMENT", "COPY", *(words[0] for words in _OUTSIDE)}
_BODIES_OF = {"FUNCTION", "PROCEDURE"}
_CONTROL = {"BEGIN", "COMMIT", "END", "ABORT", "ROLLBACK"}


def in_sql(text: str) -> Iterator[tuple[str, str, int]]:
    """Code, message and line of everything worth knowing; the line counts from 1 within the text."""
    for statement in statements(text):
        found = _of(statement)
        if found is not None:
            yield (*found, statement.line)
        elif _is_code(statement.words):
            for body in statement.bodies:
                for message, line in _in_body(body):
                    yield "outside_database", message, line


def _of(statement: Statement) -> tuple[str, str] | None:
    words = statement.words
    if words[0].startswith("\\"):
        return "psql_command", f"{words[0].lower()} is a command of psql; Liquibase cannot run it"
    if _is_transaction_control(words):
        return "transaction_control", f"{' '.join(words[:2])} ends or begins a transaction of its own"
    outside = _outside(words) or _reaches_out(words)
    return None if outside is None else ("outside_database", outside)


def is_irreversible(message: str) -> bool:
    """Whether what was found outside the database has happened though its transaction is rolled back."""
    return message.startswith((_PROGRAM, _DBLINK))


def _outside(words: tuple[str, ...]) -> str | None:
    """What the statement that begins with these words does outside the database."""
    # CREATE USER MAPPING belongs to the database
    if words[:2] in _OUTSIDE and words[2:3] != ("MAPPING",):
        return f"{' '.join(words[:2])} {_OUTSIDE[words[:2]]}: no backup of the database holds it"
    if words[:2] in {("REASSIGN", "OWNED"), ("DROP", "OWNED")}:
        return f"{' '.join(words[:2])} reaches into every database and their owners: no backup of the database holds it"
    if words[0] in {"GRANT", "REVOKE"}:
        return _of_rights(words)
    if words[:2] == ("COMMENT", "ON") and words[2:3] and words[2] in _SHARED:
        return f"COMMENT ON {words[2]} is kept for the whole server: no backup of the database holds it"
    return None


def _of_rights(words: tuple[str, ...]) -> str | None:
    end = "TO" if words[0] == "GRANT" else "FROM"
    if end not in words:
        return None
    given = words[: words.index(end)]
    if "ON" not in given:
        return f"{words[0]} {end} changes the members of a role, which belongs to the whole server"
    kind = given[given.index("ON") + 1 :][:1]
    if kind and kind[0] in _SHARED:
        return f"{words[0]} ON {kind[0]} is kept for the whole server: no backup of the database holds it"
    return None


def _reaches_out(words: tuple[str, ...]) -> str | None:
    """What is done by other means than the transaction, so that nothing takes it back."""
    if words[0] == "COPY" and "PROGRAM" in words:
        return _PROGRAM
    if "EXTENSION" not in words[:3] and any(word.startswith("DBLINK") for word in words):
        return _DBLINK
    return None


def _is_code(words: tuple[str, ...]) -> bool:
    return words[0] == "DO" or not _BODIES_OF.isdisjoint(words[:4])


def _in_body(body: Body) -> Iterator[tuple[str, int]]:
    """The same in a function's text, what it puts together in strings and executes included."""
    for statement in statements(body.text.replace("'", " "), every_body=True):
        words = statement.words
        begins = [words[start:] for start, word in enumerate(words) if word in _VERBS]
        found = next(filter(None, (_outside(part) or _reaches_out(part) for part in (*begins, words))), None)
        if found is not None:
            yield found, body.line + statement.line - 1
        for inner in statement.bodies:
            yield from _in_body(Body(text=inner.text, line=body.line + inner.line - 1))


def _is_transaction_control(words: tuple[str, ...]) -> bool:
    if words[:2] in {("START", "TRANSACTION"), ("PREPARE", "TRANSACTION")}:
        return True
    if words[0] == "ROLLBACK" and "TO" in words:
        return False
    return words[0] in _CONTROL and len(words) <= 8
