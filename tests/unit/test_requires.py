"""A changeset says in a comment which backfill it cannot do without."""

from __future__ import annotations

from pathlib import Path

import pytest

from migrator.errors import Refused
from migrator.liquibase.models import Changeset, ChangesetState
from migrator.plans import requires
from migrator.plans.findings.places import Places


def _of(folder: Path, name: str, text: str, *, comment: str | None = None) -> dict[str, tuple[str, ...]]:
    (folder / name).write_text(text, encoding="utf-8")
    changeset = Changeset(
        id="2", author="shop", path=name, checksum="9:a", state=ChangesetState.PENDING, file=name, comment=comment
    )
    return requires.of([changeset], Places(folder, [changeset], [name]))


SQL = "--liquibase formatted sql\n--changeset shop:2\n{}\nalter table customer drop column name;\n"


def test_sql_comment(tmp_path: Path) -> None:
    found = _of(tmp_path, "a.sql", SQL.format("-- migrator:requires split-name, other"))
    assert found == {"a.sql::2::shop": ("split-name", "other")}


def test_comment_of_the_changeset_in_any_format(tmp_path: Path) -> None:
    found = _of(tmp_path, "a.json", "{}", comment="Drops the name. migrator:requires split-name")
    assert found == {"a.json::2::shop": ("split-name",)}


def test_no_comment_is_no_requirement(tmp_path: Path) -> None:
    assert _of(tmp_path, "a.sql", SQL.format("insert into note values ('see migrator:requires x');")) == {}
    assert _of(tmp_path, "b.sql", SQL.format("")) == {}


def test_comment_without_a_name_is_refused_with_its_place(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"a\.sql:3: migrator:requires names no backfill"):
        _of(tmp_path, "a.sql", SQL.format("-- migrator:requires"))


@pytest.mark.parametrize(
    "text",
    [
        "-- migrator:requires split-name other",
        "-- migrator:requires split-name and other",
        "-- migrator:requires split-name,\n-- other",
        "-- migrator:requires split-name,",
        "-- migrator:requires split-name; other",
        "/* migrator:requires split-name\n, other */",
        "-- migrator:requires split-name\n-- , other",
    ],
)
def test_what_is_no_name_behind_the_names_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(Refused, match=r"a\.sql:3: migrator:requires split-name is followed by") as refused:
        _of(tmp_path, "a.sql", SQL.format(text))
    assert "migrator:requires NAME, NAME" in str(refused.value.hint)


@pytest.mark.parametrize(
    "text",
    [
        "--migrator:requires split-name",
        "--migrator:requires split-name\r",
        "/* migrator:requires split-name */",
        "/*\n * migrator:requires split-name\n * Drops the name.\n */",
        "/*\n Drops the name. migrator:requires split-name\n*/",
        "--comment Drops the name. migrator:requires split-name",
        "-- migrator:allow drop-column No application has named it. migrator:requires split-name",
    ],
)
def test_comments_that_end_behind_the_name(tmp_path: Path, text: str) -> None:
    assert _of(tmp_path, "a.sql", SQL.format(text)) == {"a.sql::2::shop": ("split-name",)}


def test_comments_of_xml_and_yaml(tmp_path: Path) -> None:
    xml = """<databaseChangeLog><changeSet id="2" author="shop">
    <comment>migrator:requires split-name</comment><!-- migrator:requires other --><sql>select 1</sql>
    </changeSet></databaseChangeLog>"""
    assert _of(tmp_path, "a.xml", xml) == {"a.xml::2::shop": ("split-name", "other")}
    yaml = """databaseChangeLog:
- changeSet: {id: 2, author: shop, comment: "migrator:requires split-name"}
"""
    assert _of(tmp_path, "a.yaml", yaml) == {"a.yaml::2::shop": ("split-name",)}


@pytest.mark.parametrize(
    ("text", "said", "remedy"),
    [
        ("-- migrator: requires split-name", "'migrator: requires'", "Write it as migrator:requires"),
        ("-- Migrator:requires split-name", "'Migrator:requires'", "Write it as migrator:requires"),
        ("-- migrator:require split-name", "'migrator:require'", "Write it as migrator:requires"),
        ("-- MIGRATOR : Requires split-name", "'MIGRATOR : Requires'", "Write it as migrator:requires"),
        ("-- migrator:requires-all a", "'migrator:requires-all'", "Write it as migrator:requires"),
        ("-- migrator: allow drop-table Why not.", "'migrator: allow'", "Write it as migrator:allow"),
        ("-- migrator:needs split-name", "'migrator:needs'", "migrator:requires NAME, or migrator:allow RULE"),
        ("-- For migrator: see the wiki", "'migrator: see'", "leave out the colon"),
    ],
)
def test_what_migrator_does_not_know_is_refused(tmp_path: Path, text: str, said: str, remedy: str) -> None:
    with pytest.raises(Refused) as refused:
        _of(tmp_path, "a.sql", SQL.format(text))
    assert f"a.sql:3: {said} is nothing that migrator knows" in refused.value.message
    assert remedy in str(refused.value.hint)


def test_an_author_of_that_name_says_nothing(tmp_path: Path) -> None:
    text = "--liquibase formatted sql\n--changeset migrator:first-one\n-- as postgresql://migrator:x@db\nselect 1;\n"
    assert _of(tmp_path, "a.sql", text) == {}
    assert _of(tmp_path, "b.sql", text.replace("--changeset", "-- changeset")) == {}
