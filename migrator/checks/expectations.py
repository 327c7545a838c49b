"""Great Expectations behind two functions: is this an expectation, and do these hold. Imported in the child only.

What the library does that would let a bad suite pass is caught here: expectations that it drops silently, results
that it does not give, metrics that raised, compiled statements that it mixes up between tables.
"""

from __future__ import annotations

import logging
import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import great_expectations as gx
import numpy as np
import psycopg
from great_expectations.data_context.types.base import (
    DataContextConfig,
    InMemoryStoreBackendDefaults,
    ProgressBarsConfig,
)
from great_expectations.expectations.expectation_configuration import ExpectationConfiguration
from psycopg import sql
from sqlalchemy.dialects.postgresql.base import ischema_names
from sqlalchemy.pool import StaticPool
from sqlalchemy.sql import quoted_name

from migrator.checks.dbapi import Connection, Memory, ResultSet, Transport

_SHOWN_VALUES = 5
_SHOWN_CHARACTERS = 80
_CANCELED = "(psycopg.errors.QueryCanceled)"
_CLASS = re.compile(r"^\((?:psycopg|sqlalchemy)[\w.]*\)\s*")
# What SQLAlchemy takes for a parameter or doubles, and what stands for it meanwhile, of the private use area.
_STAND_INS = {":": "\ue03a", "%": "\ue025"}
_BRIEF = {"result_format": "BOOLEAN_ONLY"}
_DETAILED = {"result_format": "BASIC", "partial_unexpected_count": _SHOWN_VALUES}
_RELATION = """
SELECT n.nspname, c.relname
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = pg_catalog.to_regclass({}) AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
"""

# The element's type stands for an array's.
_COLUMN_TYPES = """
SELECT a.attname, pg_catalog.format_type(b.oid, NULL), b.typtype
FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
JOIN pg_catalog.pg_type b ON b.oid = CASE WHEN t.typcategory = 'A' AND t.typelem <> 0 THEN t.typelem ELSE t.oid END
WHERE a.attrelid = pg_catalog.to_regclass({}) AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum
"""

_log = logging.getLogger(__name__)


class NotChecked(Exception):
    """The suite has nothing to look at; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    index: int  # of the expectation in its suite
    success: bool
    detail: str | None = None
    raised: bool = False  # the expectation could not be looked at
    final: bool = False  # looking again would not help


def problem(expectation: Mapping[str, Any]) -> str | None:
    """Why Great Expectations would not take this expectation, on one line; None when it would."""
    try:
        _domain_object(expectation, 0)
    except Exception as error:  # noqa: BLE001  whatever it raises is its answer
        return _message(error)
    return None


def evaluate(suite: Mapping[str, Any], transport: Transport) -> Iterator[Verdict]:
    """One verdict for each expectation of the suite, in order.

    Raises: NotChecked when there is no such table, or no row and the suite does not allow that.
    """
    memory = Memory(transport)
    try:
        batch = _batch(suite, memory)
    except NotChecked:
        raise
    except Exception as error:
        raise NotChecked(f"nothing can be read: {_message(error)}") from error
    pending = range(len(suite["expectations"]))
    verdicts = {v.index: v for v in _validate(batch, suite, pending, _BRIEF)}
    # An error in a statement that several share, or one that ended the whole pass: each is asked alone.
    if len(pending) > 1:
        for index in pending:
            verdict = verdicts[index]
            if verdict.raised and not verdict.final:
                verdicts[index] = _validate(batch, suite, [index], _BRIEF)[0]
    failed = [v.index for v in verdicts.values() if not v.success and not v.raised]
    if failed:
        for found in _validate(batch, suite, failed, _DETAILED):
            # What failed has failed, whatever the second look says.
            verdicts[found.index] = Verdict(index=found.index, success=False, detail=found.detail)
    yield from (verdicts[index] for index in pending)


def _batch(suite: Mapping[str, Any], memory: Memory) -> Any:
    table, query = suite["table"], suite["query"]
    if table is not None:
        schema, name = _relation(table, memory)
        selectable = sql.Identifier(schema, name)
        _has_rows(suite, sql.SQL("SELECT 1 FROM {} LIMIT 1").format(selectable), memory)
        _distinct(sql.SQL("SELECT * FROM {} LIMIT 0").format(selectable), memory)
        readable = _readable(selectable, memory)
        if readable is not None:
            return _of_query(_Query(readable, memory))
        # `quoted_name` with quotes: otherwise Great Expectations folds the schema to lower case.
        return (
            _source(memory)
            .add_table_asset("batch", table_name=quoted_name(name, True), schema_name=quoted_name(schema, True))
            .add_batch_definition_whole_table("batch")
            .get_batch()
        )
    batch = _Query(query, memory)
    _has_rows(suite, f"{batch.text} LIMIT 1", memory)
    _distinct(f"{batch.text} LIMIT 0", memory)
    return _of_query(batch)


def _of_query(batch: _Query) -> Any:
    asset = _source(batch).add_query_asset("batch", query=batch.spelled)
    return asset.add_batch_definition_whole_table("batch").get_batch()


def _readable(relation: sql.Identifier, memory: Memory) -> str | None:
    """A query in which columns of types that SQLAlchemy does not know are text; None where it knows all of them.

    Great Expectations asks for the type of every column of a table, and fails at one that has none: a composite.
    """
    literal = sql.Literal(relation.as_string(None))
    columns = memory.query(sql.SQL(_COLUMN_TYPES).format(literal).as_string(None)).rows
    strange = {str(name) for name, base, kind in columns if kind not in ("e", "d") and base not in ischema_names}
    if not strange:
        return None
    fields = sql.SQL(", ").join(
        sql.SQL("{0}::text AS {0}" if str(name) in strange else "{0}").format(sql.Identifier(str(name)))
        for name, _, _ in columns
    )
    return sql.SQL("SELECT {} FROM {}").format(fields, relation).as_string(None)


def _source(transport: Transport) -> Any:
    # A context and an engine for each suite: SQLAlchemy's cache of compiled statements once gave the statement
    # for the column "id" of one table to the column "Id" of another.
    context = gx.get_context(mode="ephemeral", project_config=_configuration())
    sources: Any = context.data_sources
    return sources.add_postgres(
        "held",
        connection_string="postgresql+psycopg://checks@held/held",
        kwargs={
            "creator": lambda: Connection(transport),
            "poolclass": StaticPool,
            "use_native_hstore": False,
            "query_cache_size": 0,
        },
    )


def _configuration() -> DataContextConfig:
    return DataContextConfig(
        # Without the sites: they are folders that a killed child would leave behind.
        store_backend_defaults=InMemoryStoreBackendDefaults(init_temp_docs_sites=False),
        progress_bars=ProgressBarsConfig(globally=False, metric_calculations=False),
        analytics_enabled=False,
    )


class _Query:
    """A suite's query, in a spelling that gets through Great Expectations unharmed, and the transport that undoes it.

    Great Expectations would read it whole to learn its columns' names; it is answered without rows.
    """

    def __init__(self, query: str, transport: Transport) -> None:
        # The alias belongs to no other statement, so that no other one is answered without rows.
        self.text = f"SELECT * FROM (\n{query}\n) AS batch_{uuid.uuid4().hex[:12]}"  # noqa: S608  it is the user's SQL
        self._transport = transport

    @property
    def spelled(self) -> str:
        text = self.text
        for character, stand_in in _STAND_INS.items():
            text = text.replace(character, stand_in)
        return text

    def query(self, sql: str) -> ResultSet:
        for character, stand_in in _STAND_INS.items():
            sql = sql.replace(stand_in, character)
        return self._transport.query(f"{sql} LIMIT 0" if sql.strip() == self.text else sql)


def _relation(table: Mapping[str, Any], memory: Memory) -> tuple[str, str]:
    parts = [part for part in (table["schema"], table["name"]) if part is not None]
    name = sql.Identifier(*parts).as_string(None)
    try:
        rows = memory.query(sql.SQL(_RELATION).format(sql.Literal(name)).as_string(None)).rows
    except psycopg.Error as error:
        raise NotChecked(f"the table {name} cannot be looked at: {_message(error)}") from error
    if not rows:
        raise NotChecked(f"there is no table {name}")
    return str(rows[0][0]), str(rows[0][1])


def _has_rows(suite: Mapping[str, Any], query: sql.Composable | str, memory: Memory) -> None:
    text = query if isinstance(query, str) else query.as_string(None)
    if not memory.query(text).rows and not suite["allow_empty"]:
        raise NotChecked("there is not one row, so nothing was checked; if that is fine, set `allow_empty: true`")


def _distinct(query: sql.Composable | str, memory: Memory) -> None:
    text = query if isinstance(query, str) else query.as_string(None)
    seen: set[str] = set()
    for name, _ in memory.query(text).columns:
        if name.casefold() in seen:
            raise NotChecked(
                f"two columns are called {name!r} but for the case, and Great Expectations takes one for the other; "
                "use a query that names the columns apart"
            )
        seen.add(name.casefold())


def _validate(
    batch: Any, suite: Mapping[str, Any], indexes: Sequence[int], result_format: Mapping[str, Any]
) -> list[Verdict]:
    try:
        expectations = [_domain_object(suite["expectations"][index], index) for index in indexes]
        results = batch.validate(
            gx.ExpectationSuite(name=suite["name"], expectations=expectations),
            result_format=dict(result_format),
            expectation_parameters=suite["parameters"] or None,
        ).results
    except Exception as error:  # noqa: BLE001  becomes the verdict of every expectation that was asked about
        _log.warning("the suite %s could not be validated", suite["name"], exc_info=True)
        return [_raised(index, str(error) or type(error).__name__) for index in indexes]
    found = {int(result.expectation_config.meta["index"]): result for result in results}
    hidden = [bool(one.get("hidden")) for one in suite["expectations"]]
    return [_verdict(index, found.get(index), hidden=hidden[index]) for index in indexes]


def _domain_object(expectation: Mapping[str, Any], index: int) -> Any:
    configuration = ExpectationConfiguration(
        type=expectation["type"],
        kwargs=dict(expectation["kwargs"]),
        severity=expectation["severity"],
        meta={"index": index},  # results come in another order
    )
    return configuration.to_domain_obj()


def _verdict(index: int, result: Any, *, hidden: bool) -> Verdict:
    if result is None:
        return _raised(index, "Great Expectations gave no result")
    errors = list(_exceptions(result.exception_info))
    if errors:
        return _raised(index, *errors)
    if not isinstance(result.success, bool | np.bool_):
        return _raised(index, "Great Expectations gave neither a success nor a failure")
    detail = None if result.success else _detail(dict(result.result or {}), hidden=hidden)
    return Verdict(index=index, success=bool(result.success), detail=detail)


def _raised(index: int, *errors: str) -> Verdict:
    messages = dict.fromkeys(_message(error) for error in errors)
    if "'type'" in messages:
        messages = {"the types of a query's columns are not known here; name a `table`, or check values": None}
    return Verdict(
        index=index,
        success=False,
        raised=True,
        final=any(_CANCELED in error for error in errors),
        detail="; ".join(messages),
    )


def _exceptions(info: Any) -> Iterator[str]:
    """The messages of an exception_info, which is one exception, or one for each metric."""
    if not isinstance(info, Mapping):
        return
    if "raised_exception" in info:
        if info["raised_exception"]:
            yield str(info.get("exception_message") or "an exception without a message")
        return
    for entry in info.values():
        yield from _exceptions(entry)


def _message(error: BaseException | str) -> str:
    text = error if isinstance(error, str) else str(error) or type(error).__name__
    # SQLAlchemy adds the class, the statement, its parameters and a link; PostgreSQL the place.
    lines = (line.strip() for line in _CLASS.sub("", text.split("[SQL:")[0].strip()).splitlines())
    kept = [line for line in lines if line and not line.startswith(("LINE ", "^", "(Background on"))]
    return " ".join(kept)[:1000] or "an error without a message"


def _detail(result: Mapping[str, Any], *, hidden: bool) -> str | None:
    parts = []
    if result.get("unexpected_count"):
        percent = result.get("unexpected_percent")
        share = f" ({percent:.3g} %)" if isinstance(percent, int | float) else ""
        parts.append(f"{result['unexpected_count']} of {result.get('element_count')} values are unexpected{share}")
        samples = [_short(value) for value in result.get("partial_unexpected_list") or []]
        if samples and hidden:
            parts.append("their values are hidden by checks.redact")
        elif samples:
            parts.append(f"such as {', '.join(dict.fromkeys(samples))}")
    elif result.get("observed_value") is not None:
        parts.append(
            "what was observed is hidden by checks.redact" if hidden else f"observed {_short(result['observed_value'])}"
        )
    elif "observed_value" in result:
        parts.append("observed no value (NULL, or not a number)")
    return ", ".join(parts) or None


def _short(value: object) -> str:
    text = value if isinstance(value, str) else "NULL" if value is None else repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[: _SHOWN_CHARACTERS - 1]}…"
