"""What went wrong in the worker, in a form that can be sent to the parent."""

from __future__ import annotations

from typing import Any, Literal

Kind = Literal["connection", "sql", "migration", "lost", "changelog", "locked", "usage", "bug"]

# Liquibase's exceptions about the changelog itself, by simple name
_CHANGELOG = (
    "ChangeLogParseException",
    "SetupException",
    "ValidationFailedException",
    "UnknownChangelogFormatException",
    "ParsedNodeException",
    "UnknownChangeLogParameterException",
    "SAXParseException",
    "CommandValidationException",
)


class Failure(Exception):
    """Something failed and the parent is to know: `kind` chooses the error that it raises."""

    def __init__(
        self,
        kind: Kind,
        message: str,
        *,
        code: str | None = None,
        sqlstate: str | None = None,
        changeset: str | None = None,
        committed: bool = False,
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.code = code
        self.sqlstate = sqlstate
        self.changeset = changeset
        self.committed = committed

    def payload(self) -> dict[str, Any]:
        return dict(vars(self))


def causes(error: Any) -> list[Any]:
    """The throwable and everything that it was caused by, outermost first."""
    found = [error]
    while (cause := found[-1].getCause()) is not None and len(found) < 50:
        found.append(cause)
    return found


def sqlstate_of(error: Any) -> str | None:
    """The SQLSTATE of the innermost SQLException among the causes."""
    import jpype

    sql_exception = jpype.JClass("java.sql.SQLException")
    states = [str(e.getSQLState()) for e in causes(error) if isinstance(e, sql_exception) and e.getSQLState()]
    return states[-1] if states else None


def from_java(error: Any, *, kind: Kind | None = None) -> Failure:
    """The innermost cause, which is what a person needs to read."""
    chain = causes(error)
    names = [str(type(cause).class_.getSimpleName()) for cause in chain]
    if kind is None:
        kind = "migration"
        if "LockException" in names:
            kind = "locked"
        elif any(name in _CHANGELOG for name in names) and sqlstate_of(error) is None:
            kind = "changelog"
    return Failure(kind, _message(chain), sqlstate=sqlstate_of(error))


def _message(chain: list[Any]) -> str:
    for cause in reversed(chain):
        text = cause.getMessage()
        if text is not None and str(text).strip():
            return str(text).strip()
    return str(chain[-1].toString())
