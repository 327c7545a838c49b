"""Which server a backup of RDS is of, whether it can be taken, and what becomes of one that was only begun."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from migrator.backups.server import Address, Described
from migrator.config.rds import RdsSettings
from migrator.errors import Refused
from migrator.runs import server_backups
from migrator.runs.byhand import beside

HOST = "shop.c9akciq32.eu-central-1.rds.amazonaws.com"


def described(*, host: str = HOST, status: str = "available") -> Described:
    return Described(
        id="shop",
        resource_id="db-1",
        status=status,
        address=Address(host=host, port=5432),
        retention_days=7,
        restorable_until=None,
        storage_gb=0,
        summary="",
        settings={},
    )


def environment(host: str = HOST, kinds: tuple[str, ...] = ("rds",)) -> Any:
    return SimpleNamespace(
        backup=SimpleNamespace(kinds=kinds), rds=RdsSettings(), login=SimpleNamespace(host=host), aws=None
    )


def seen(environment: Any, found: Described) -> str:
    server = cast("Any", SimpleNamespace(free_percent=lambda _gb: None))
    return server_backups.refuse_unfit(environment, server, found)


def test_snapshot_is_refused_while_rds_backs_up_itself() -> None:
    for kind in ("rds", "aurora"):
        with pytest.raises(Refused, match="being backed up"):
            seen(environment(kinds=(kind,)), described(status="backing-up"))
    assert seen(environment(kinds=("dump",)), described(status="backing-up")) == "backing-up"


def test_hosts_are_compared_whatever_their_case() -> None:
    assert seen(environment(HOST.replace("shop", "Shop")), described()) == "available"
    with pytest.raises(Refused, match="answers at"):
        seen(environment(HOST.replace("shop", "other")), described())


@pytest.mark.parametrize(
    ("host", "there", "expected"),
    [
        (HOST.upper(), HOST, True),
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "192.0.2.1", False),
        (HOST.replace("shop.", "shop.cluster-ro-"), HOST.replace("shop.", "shop.cluster-"), True),
    ],
)
def test_server_is_known_by_its_name_or_address(host: str, there: str, *, expected: bool) -> None:
    assert server_backups.is_reached_by(host, described(host=there)) is expected


def test_snapshot_that_was_only_begun_is_named_once() -> None:
    run: Any = SimpleNamespace(
        environment=environment(),
        facts=SimpleNamespace(server_snapshot="mig-1", server_backup_id=None),
        record=SimpleNamespace(kept=[]),
    )
    for _ in range(2):
        server_backups.name_unrecorded(run)
    [kept] = run.record.kept
    assert "aws rds delete-db-snapshot --db-snapshot-identifier mig-1" in kept
    run.record.kept.clear()
    run.facts.server_backup_id = "one-rds"
    server_backups.name_unrecorded(run)
    assert run.record.kept == []


def test_name_that_is_cut_at_a_hyphen_is_still_one_that_rds_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "a" * 39 + "-shop"
    found: Any = SimpleNamespace(id="one", run_id="20261123t175103_4f1c", facts={"id": name})
    restored = {"DBInstanceIdentifier": "restored", "TagList": [{"Key": "migrator:backup", "Value": "one"}]}
    server = SimpleNamespace(find=lambda _name: restored, left_behind=lambda: ())
    monkeypatch.setattr(beside, "_server", lambda *_: server)
    planned = beside.swap_of(cast("Any", SimpleNamespace()), found, lambda _text: None)
    assert planned.kept_as == f"{'a' * 39}-before-4f1c"
