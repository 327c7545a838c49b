"""Which backups may be thrown away."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from migrator.backups.manifest import Manifest
from migrator.errors import UsageError
from migrator.runs.byhand.prune import Rules, decide

NOW = datetime(2026, 3, 31, tzinfo=UTC)


def of_age(days: float, *, kind: str = "dump") -> Manifest:
    return Manifest(
        id=f"{kind}-{days:g}",
        kind=kind,
        run_id="r",
        environment="staging",
        created_at=NOW - timedelta(days=days),
        system_identifier="1",
        database="shop",
        database_oid=16384,
        server_version="18.4",
    )


def going(manifests: list[Manifest], rules: Rules, needed: dict[str, str] | None = None) -> list[str]:
    return [
        one.manifest.id for one in decide(manifests, rules, now=NOW, needed=needed or {}) if one.kept_because is None
    ]


def test_the_newest_of_each_kind_stays_however_old_it_is() -> None:
    backups = [of_age(400), of_age(500), of_age(300, kind="clone")]
    assert going(backups, Rules(older_than=timedelta(days=1))) == ["dump-500"]


def test_by_number_the_oldest_go() -> None:
    assert going([of_age(days) for days in (4, 1, 3, 2)], Rules(keep=2)) == ["dump-3", "dump-4"]


def test_with_both_rules_both_must_let_it_go() -> None:
    backups = [of_age(days) for days in (1, 2, 40, 50)]
    assert going(backups, Rules(keep=3, older_than=timedelta(days=30))) == ["dump-50"]
    assert going(backups, Rules(keep=1, older_than=timedelta(days=30))) == ["dump-40", "dump-50"]


def test_one_that_is_just_as_old_as_the_rule_stays() -> None:
    assert going([of_age(1), of_age(30)], Rules(older_than=timedelta(days=30))) == []


def test_what_an_unfinished_run_needs_stays() -> None:
    backups = [of_age(1), of_age(40), of_age(50)]
    assert going(backups, Rules(keep=1), {"dump-50": "run x has not ended and may need it"}) == ["dump-40"]


def test_without_a_rule_it_is_refused() -> None:
    with pytest.raises(UsageError):
        decide([of_age(1)], Rules(), now=NOW, needed={})
