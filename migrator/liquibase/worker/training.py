"""What the JVM does once so that its start-up cache knows the classes of a run. No database is needed."""

from __future__ import annotations

import json
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

# Classes that only a connection would load; those that need an absent library say so and are passed over.
_CONNECTED = (
    "org/postgresql/",
    *(
        f"liquibase/{package}/"
        for package in (
            "changelog",
            "command/core",
            "database",
            "datatype",
            "executor",
            "lockservice",
            "precondition",
            "snapshot",
            "sqlgenerator/core",
            "statement",
            "structure",
        )
    ),
)
_NOT = ("osgi", "translation", "org/postgresql/shaded", "org/postgresql/replication", "org/postgresql/xa")

_CHANGES: list[dict[str, Any]] = [
    {
        "createTable": {
            "tableName": "a",
            "columns": [
                {"column": {"name": "id", "type": "bigint", "constraints": {"primaryKey": True, "nullable": False}}},
                {"column": {"name": "b", "type": "varchar(20)", "defaultValue": "x"}},
            ],
        }
    },
    {"addColumn": {"tableName": "a", "columns": [{"column": {"name": "c", "type": "timestamp with time zone"}}]}},
    {"createIndex": {"tableName": "a", "indexName": "a_b", "columns": [{"column": {"name": "b"}}]}},
    {"addNotNullConstraint": {"tableName": "a", "columnName": "b", "columnDataType": "varchar(20)"}},
    {"insert": {"tableName": "a", "columns": [{"column": {"name": "id", "valueNumeric": 1}}]}},
    {"sql": {"sql": "update a set b = 'y'"}},
    {"dropColumn": {"tableName": "a", "columnName": "c"}},
]
_XML = """<?xml version="1.0" encoding="UTF-8"?>
<databaseChangeLog xmlns="http://www.liquibase.org/xml/ns/dbchangelog"
    xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:schemaLocation="http://www.liquibase.org/xml/ns/dbchangelog
    http://www.liquibase.org/xml/ns/dbchangelog/dbchangelog-latest.xsd">
  <changeSet id="1" author="t">
    <preConditions onFail="MARK_RAN"><dbms type="postgresql"/></preConditions>
    <createTable tableName="x"><column name="id" type="int"><constraints primaryKey="true"/></column></createTable>
    <addForeignKeyConstraint baseTableName="x" baseColumnNames="id" referencedTableName="a"
        referencedColumnNames="id" constraintName="x_a"/>
    <rollback><dropTable tableName="x"/></rollback>
  </changeSet>
</databaseChangeLog>
"""
_SQL = """--liquibase formatted sql
--changeset t:1 context:all labels:one
create table s(id int);
--rollback drop table s;
"""


def train(jars: Sequence[str]) -> None:
    """The classes that a run needs have been loaded, and most of them used."""
    import jpype

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        _write_changelogs(root)
        ledger = root / "ledger.csv"  # its default is the working folder, which is somebody's project
        database = (
            jpype.JClass("liquibase.database.DatabaseFactory")
            .getInstance()
            .openDatabase(
                f"offline:postgresql?version=16.0&outputLiquibaseSql=all&changeLogFile={ledger}",
                None,
                None,
                None,
                _accessor(root),
            )
        )
        for name in ("main.yaml", "one.json", "one.xml", "one.sql", "raw.sql"):
            _update_sql(root, database, name)
        _connect_to_nothing()
    loader = jpype.JClass("java.lang.ClassLoader").getSystemClassLoader()
    for name in _class_names(jars):
        try:
            jpype.JClass("java.lang.Class").forName(name, False, loader)
        except jpype.JException:
            continue


def _update_sql(root: Path, database: Any, changelog: str) -> None:
    import jpype

    scope = jpype.JClass("liquibase.Scope")
    values = jpype.JClass("java.util.HashMap")()
    values.put("resourceAccessor", _accessor(root))
    entered = scope.enter(None, values)
    try:
        command = jpype.JClass("liquibase.command.CommandScope")("updateSql")
        command.addArgumentValue("database", database)
        command.addArgumentValue("changelogFile", changelog)
        command.setOutput(jpype.JClass("java.io.ByteArrayOutputStream")())
        command.execute()
    except jpype.JException as error:
        # Offline, some versions cannot do all; what they did up to here has taught the JVM enough.
        sys.stderr.write(f"training: {changelog}: {error}\n")
    finally:
        scope.exit(entered)


def _connect_to_nothing() -> None:
    import jpype

    try:
        jpype.JClass("org.postgresql.Driver")().connect(
            "jdbc:postgresql://127.0.0.1:1/none?user=none&loginTimeout=2", jpype.JClass("java.util.Properties")()
        )
    except jpype.JException:
        return


def _accessor(root: Path) -> Any:
    import jpype

    return jpype.JClass("liquibase.resource.DirectoryResourceAccessor")(jpype.JClass("java.io.File")(str(root)))


def _write_changelogs(root: Path) -> None:
    changelog = {"databaseChangeLog": [{"changeSet": {"id": "1", "author": "t", "changes": _CHANGES}}]}
    text = json.dumps(changelog)
    (root / "one.json").write_text(text, encoding="utf-8")
    (root / "one.yaml").write_text(text, encoding="utf-8")  # JSON is YAML
    (root / "one.xml").write_text(_XML, encoding="utf-8")
    (root / "one.sql").write_text(_SQL, encoding="utf-8")
    (root / "raw.sql").write_text("create table r(id int);\n", encoding="utf-8")
    (root / "main.yaml").write_text(
        "databaseChangeLog:\n  - include: {file: one.yaml}\n  - include: {file: one.xml}\n", encoding="utf-8"
    )


def _class_names(jars: Sequence[str]) -> Iterator[str]:
    for path in jars:
        with zipfile.ZipFile(path) as jar:
            for entry in jar.namelist():
                if (
                    entry.endswith(".class")
                    and entry.startswith(_CONNECTED)
                    and not any(part in entry for part in _NOT)
                ):
                    yield entry.removesuffix(".class").replace("/", ".")
