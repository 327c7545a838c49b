from __future__ import annotations

from pathlib import Path

import pytest

from migrator.errors import Refused
from migrator.liquibase.ledger import LedgerRow
from migrator.liquibase.models import Changeset, ChangesetState
from migrator.plans.pending import pending


def changeset(path: str, id_: str, author: str) -> Changeset:
    return Changeset(id=id_, author=author, path=path, checksum=None, state=ChangesetState.PENDING)


def row(path: str, id_: str, author: str) -> LedgerRow:
    return LedgerRow(columns={"id": id_, "author": author, "filename": path})


def test_a_second_plain_sql_file_is_another_changeset() -> None:
    new = changeset("changelogs/b.sql", "raw", "includeAll")
    assert pending([new], [row("changelogs/a.sql", "raw", "includeAll")], Path("/srv")) == [new]


@pytest.mark.parametrize(("id_", "author"), [("raw", "includeAll"), ("1", "kim")])
def test_a_file_that_ran_under_another_root_is_refused_with_the_root_that_fits(id_: str, author: str) -> None:
    with pytest.raises(Refused) as refused:
        pending([changeset("changelogs/a.sql", id_, author)], [row("a.sql", id_, author)], Path("/srv"))
    assert refused.value.code == "other_path"
    assert "/srv/changelogs" in str(refused.value.hint)
