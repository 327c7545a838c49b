"""A changelog read with no database at hand: Liquibase writes its SQL for a PostgreSQL that it only imagines.

Runs in the worker.
"""

from __future__ import annotations

from typing import Any

from migrator.liquibase.worker.engine import project_scope
from migrator.liquibase.worker.failures import from_java
from migrator.liquibase.worker.parsing import Parsing
from migrator.liquibase.worker.status import Status


def changesets(changelog: str, *, options: dict[str, Any], server_major: int) -> list[dict[str, Any]]:
    """Every changeset of the changelog, in its order, as an empty database would see it. No file is written."""
    with project_scope(options["root"]):
        database = _imagined(server_major, options)
        parsing = Parsing(database, options)
        parsed = parsing.parse(changelog)
        contexts, labels = parsing.filters()
        return Status(database, contexts=contexts, labels=labels, has_ledger=False).of(parsed)


def _imagined(server_major: int, options: dict[str, Any]) -> Any:
    import jpype

    accessor = jpype.JClass("liquibase.Scope").getCurrentScope().getResourceAccessor()
    factory = jpype.JClass("liquibase.database.DatabaseFactory").getInstance()
    url = f"offline:postgresql?version={server_major}.0&caseSensitive=true&outputLiquibaseSql=none"
    try:
        database = factory.openDatabase(url, None, None, None, accessor)
        database.setOutputDefaultSchema(True)
        database.setOutputDefaultCatalog(True)
        if options["default_schema"]:
            database.setDefaultSchemaName(options["default_schema"])
    except jpype.JException as error:
        raise from_java(error, kind="bug") from error
    return database
