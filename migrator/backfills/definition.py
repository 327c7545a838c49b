"""A backfill as its file defines it: which rows are walked through, what is done for them, and how that is proven."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, ValidationError, model_validator

from migrator.config import document
from migrator.config.problems import explained
from migrator.config.settings import Flag, Identifier, Seconds, Settings, Text
from migrator.errors import ConfigError, Place, Refused

SUFFIX = ".backfill.toml"
RESTORE = "restore"  # as `undo`: only the backup leads back
_VERSION = "1"  # of how the checksum is computed
_PAUSE = Annotated[float, Field(strict=True, ge=0, le=3600, allow_inf_nan=False)]
_COUNT = Annotated[int, Field(strict=True, gt=0)]
# Part of the names of functions and triggers in the database.
_NAME = StringConstraints(min_length=1, max_length=63, pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")
# What decides which rows become what. The rest is about pace, and may change on the way.
DECISIVE = (
    "name",
    "table",
    "key",
    "where",
    "statement",
    "python",
    "verify",
    "undo",
    "undo_where",
    "capture",
    "columns",
    "on_delete",
)


def _function(value: str) -> str:
    module, colon, name = value.partition(":")
    if not (colon and name.isidentifier() and all(part.isidentifier() for part in module.split("."))):
        raise ValueError(f"{value!r} names no function; write module:function")
    return value


def _after(value: str) -> str:
    if len([part for part in value.split("::") if part.strip()]) < 2:
        raise ValueError(f"{value!r} names no changeset; write id::author, or path::id::author")
    return value


class Backfill(Settings):
    """One data migration. Exactly one of `statement` and `python` is there."""

    name: Annotated[str, _NAME]
    """Its identity in the database's ledger; letters, digits, `-` and `_`."""
    after: Annotated[Text, AfterValidator(_after)]
    """The changeset that it follows: `id::author`, or `path::id::author` where that is ambiguous."""
    table: Text
    """The table whose rows are walked through, as SQL names it: `customer`, `sales.customer`."""
    key: Annotated[tuple[Identifier, ...], Field(min_length=1, max_length=32)]
    """Its columns by which the rows are walked through, in the order of a unique index; none of them nullable."""
    where: Text | None = None
    """A condition on the table's columns: only these rows are moved. Default: all."""
    statement: Text | None = None
    """What is done for a batch: one statement that uses the relation `batch`, which has the key's columns."""
    python: Annotated[str, AfterValidator(_function)] | None = None
    """Instead of a statement, `module:function`: called with a psycopg connection, in the batch's transaction, and a
    list of the batch's keys, a tuple each. The module is looked for beside the file first. It must not end that
    transaction: one that does is refused, and its batch counts as not done."""
    verify: Text
    """A query that returns what is wrong: no row when every row has been moved."""
    undo: Text | None = None
    """What is done for a batch to take it back: a statement like `statement`, or `restore` where only the backup leads
    back. Default: nothing leads back but the backup."""
    undo_where: Text | None = None
    """A condition like `where`, for the rows that `undo` is for. Default: that of `where`."""
    batch_rows: Annotated[int, Field(strict=True, gt=0, le=1_000_000)] = 5000
    """Keys in the first batch; later ones adapt to `target_batch_s`."""
    target_batch_s: Seconds = 0.5
    """How long a batch is meant to take."""
    pause_s: _PAUSE = 0.0
    """What every worker waits between two batches."""
    max_lag_bytes: _COUNT | None = 16_000_000
    """It pauses while a standby is further behind than this."""
    max_active_sessions: _COUNT | None = None
    """It pauses while more sessions of others than this are at work in the database."""
    max_blocked_s: Seconds = 1.0
    """A batch on which somebody has waited longer than this is cancelled, and done again as smaller ones."""
    lock_timeout_s: Seconds = 0.5
    """How long a batch waits for a row or table that somebody else holds, before it is tried again."""
    jobs: Annotated[int, Field(strict=True, gt=0, le=32)] = 2
    """Workers, each with a session of its own and on rows of its own."""
    inside: Flag = False
    """Done in the run's own transaction, all at once: for small tables."""
    capture: Literal["trigger", "application", "none"] = "none"
    """How rows are caught that are written meanwhile: by a trigger that is put on the table, by the application, which
    writes old and new alike, or not at all: nobody writes."""
    columns: tuple[Identifier, ...] = ()
    """The columns that the statement reads: a change of one of them, or of the key, is caught. Default: any column."""
    on_delete: Text | None = None
    """With `capture = "trigger"`: a statement like `statement`, for rows that are deleted or no longer selected."""
    file: Path = Field(exclude=True, default=Path())
    """Where it was read from."""

    @model_validator(mode="after")
    def _belongs_together(self) -> Self:
        if (self.statement is None) == (self.python is None):
            raise ValueError("one of statement and python is wanted" + (", not both" if self.python else ""))
        if len(set(self.key)) < len(self.key):
            raise ValueError("key names a column twice")
        if self.inside and self.python is not None:
            raise ValueError("python cannot be done inside the run's transaction, which is Liquibase's")
        if self.inside and self.capture == "trigger":
            raise ValueError("a backfill that is inside catches nothing: write capture = 'none'")
        if self.python is not None and self.capture == "trigger":
            raise ValueError("a trigger cannot call python: write a statement, or capture = 'application'")
        if self.on_delete is not None and self.capture != "trigger":
            raise ValueError("on_delete is for capture = 'trigger'")
        if self.undo_where is not None and self.undo_statement is None:
            raise ValueError("undo_where is for an undo that is a statement")
        return self

    @property
    def undo_statement(self) -> str | None:
        """The statement that takes a batch back; None where there is none."""
        return None if self.undo == RESTORE else self.undo

    @property
    def undone_where(self) -> str | None:
        """The condition on the rows that are taken back; None: all that were walked through."""
        return self.where if self.undo_where is None else self.undo_where

    @property
    def checksum(self) -> str:
        """SHA-256 over what decides which rows become what; a module beside the file counts, pace does not."""
        decisive: dict[str, object] = {name: _normal(getattr(self, name)) for name in DECISIVE}
        if self.python_file is not None:
            decisive["source"] = hashlib.sha256(self.python_file.read_bytes()).hexdigest()
        text = json.dumps(decisive, sort_keys=True, ensure_ascii=False)
        return f"{_VERSION}:{hashlib.sha256(text.encode()).hexdigest()}"

    @property
    def python_file(self) -> Path | None:
        """The file of the `python` module, where it lies beside the backfill's."""
        if self.python is None:
            return None
        file = self.file.parent / (self.python.partition(":")[0].replace(".", "/") + ".py")
        return file if file.is_file() else None

    @property
    def place(self) -> Place:
        return Place(file=str(self.file))


def read(file: Path, *, shown: str | None = None) -> Backfill:
    """The backfill of a file; `shown` is the file's name in messages. Raises: Refused, with the place."""
    name = shown or str(file)
    try:
        found = document.read(file)
        if "file" in found.data:
            raise ConfigError(f"{found.where(('file',))}: unknown key")
        return Backfill.model_validate({**found.data, "file": file})
    except ConfigError as error:
        said = error
    except ValidationError as error:
        said = explained(error, Backfill, found.where)
    message = re.sub(rf"(?m)^(?:.*?{re.escape(file.name)})(:\d+)?:( :)? ", rf"{name}\1: ", said.message)
    line = re.match(rf"{re.escape(name)}:(\d+):", message)
    place = Place(file=name, line=int(line[1]) if line else None)
    raise Refused(message, hint=said.hint, code="backfill", place=place) from None


def _normal(value: object) -> object:
    """The same for a text that was only laid out anew at its ends."""
    return value.strip().removesuffix(";").rstrip() if isinstance(value, str) else value
