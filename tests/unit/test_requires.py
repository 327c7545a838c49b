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
