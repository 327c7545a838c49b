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


def test_an_id_that_another_file_has_used_is_a_changeset_of_its_own() -> None:
    new = changeset("changelogs/2.sql", "1", "kim")
    assert pending([new], [row("changelogs/1.sql", "1", "kim")], Path("/srv")) == [new]


def test_a_renamed_file_is_known_by_the_checksum_of_its_changeset() -> None:
    moved = Changeset(id="1", author="kim", path="b.sql", checksum="9:abc", state=ChangesetState.PENDING)
    before = LedgerRow(columns={"id": "1", "author": "kim", "filename": "a.sql", "md5sum": "9:abc"})
    with pytest.raises(Refused, match="ran already under the path"):
        pending([moved], [before], Path("/srv"))


def test_what_was_edited_is_counted() -> None:
    one = Changeset(id="1", author="kim", path="a.sql", checksum=None, state=ChangesetState.CHANGED)
    with pytest.raises(Refused, match=r"^1 changeset was edited after it ran: a.sql::1::kim\.$"):
        pending([one], None, Path("/srv"))
    with pytest.raises(Refused, match=r"^2 changesets were edited after they ran: "):
        pending([one, one], None, Path("/srv"))
