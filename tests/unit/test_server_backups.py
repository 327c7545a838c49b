"""Which server a backup of RDS is of, whether it can be taken, and what becomes of one that was only begun."""

from __future__ import annotations

import socket
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from migrator.backups.server import Address, Described
from migrator.config.login import Login
from migrator.config.rds import RdsSettings
from migrator.errors import Refused
from migrator.runs import rds_identity, server_backups
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
    login = Login(host=host, port=5432, database="shop", user="u")
    assert rds_identity.is_reached_by(login, described(host=there)) is expected


def test_another_port_of_the_same_address_is_another_server() -> None:
    login = Login(host="localhost", port=15432, database="shop", user="u")
    assert not rds_identity.is_reached_by(login, described(host="127.0.0.1"))


class Asked:
    """A server that says this of itself."""

    def __init__(self, *row: str | None, aurora: str | None = None) -> None:
        self.row, self.aurora = row, aurora

    def rows(self, sql: str) -> list[tuple[str | None, ...]]:
        return [(self.aurora,)] if "SELECT aurora" in sql else [self.row]


THERE = {"db.internal": "10.0.0.7", HOST: "10.0.0.9", "public": "52.29.1.7"}


@pytest.mark.parametrize(
    ("said", "settings", "there", "expected"),
    [
        (("10.0.0.9", "16", "t", "f"), {"EngineVersion": "16.3"}, HOST, True),
        (("10.0.0.8", "16", "t", "f"), {"EngineVersion": "16.3"}, HOST, "its address is 10.0.0.8"),
        (("10.0.0.9", "15", "t", "f"), {"EngineVersion": "16.3"}, HOST, "it has PostgreSQL 15"),
        (("10.0.0.9", "16", "f", "f"), {"EngineVersion": "16.3"}, HOST, "no server of RDS"),
        (("10.0.0.8", "16", "t", "f"), {"EngineVersion": "16.3"}, "public", False),
        (("10.0.0.8", "16", "t", "f"), {"EngineVersion": "16.3"}, "nowhere", False),
        (
            ("10.0.0.8", "16", "t", "t", "writer"),
            {"DBClusterMembers": [{"DBInstanceIdentifier": "writer"}]},
            HOST,
            True,
        ),
        (("10.0.0.8", "16", "t", "t", "other"), {"DBClusterMembers": []}, HOST, "the instance other of Aurora"),
    ],
)
def test_server_behind_a_name_of_ones_own_is_asked_who_it_is(
    monkeypatch: pytest.MonkeyPatch, said: tuple[str, ...], settings: Any, there: str, expected: bool | str
) -> None:
    def led(host: str, _port: object) -> list[Any]:
        if host not in THERE:
            raise OSError
        return [(None, None, None, "", (THERE[host], 0))]

    monkeypatch.setattr(socket, "getaddrinfo", led)
    login = Login(host="db.internal", port=5432, database="shop", user="u")
    found = replace(described(host=there), settings=settings)
    session = cast("Any", Asked(*said[:4], aurora=said[4] if len(said) > 4 else None))
    if isinstance(expected, bool):
        assert rds_identity.is_proven(login, found, session) is expected
        return
    with pytest.raises(Refused, match=expected) as caught:
        rds_identity.is_proven(login, found, session)
    assert caught.value.code == "rds_another"


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
