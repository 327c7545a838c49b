"""What RDS and the way to it do to a snapshot, a restore and a swap of names: each call denied, busy, lost or raced."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from botocore.exceptions import ClientError, ReadTimeoutError

from migrator.backups.rds import Instance, name_of
from migrator.errors import BackupFailed
from tests.integration.aws.server import Killed, killed_after, refused
from tests.integration.aws.test_rds import ID, WAIT, Case, case  # noqa: F401  a fixture

pytestmark = pytest.mark.slow


def every_call() -> Iterator[int]:
    yield from range(1, 200)


def test_denied_at_each_call(case: Case) -> None:  # noqa: F811
    """One call after another is denied, once; what was done before it is taken up."""
    denied: list[BackupFailed] = []
    before = case.server.described()
    for number in every_call():
        server = case.harmed(refused("AccessDenied", at=number, times=1))
        try:
            snapshot = server.begin(ID)
            server.finish(snapshot)
            new = f"{name_of(ID)}-{case.shop.key}"
            server.restore(snapshot, before.settings, new, case.tags())
            server.complete(new, before.settings)
            server.left_behind()
            server.free_percent(100)
            server.rename(before.resource_id, f"{server.id}-old")
            server.rename(before.resource_id, server.id)
        except BackupFailed as error:
            denied.append(error)
        else:
            break
        if case.server.find(case.server.id) is None:
            case.server.rename(before.resource_id, case.server.id)
    assert len(denied) > 12
    assert {error.code for error in denied} == {"aws_denied"}
    assert case.server.described().resource_id == before.resource_id
    actions = {(error.hint or "").split()[1] for error in denied}
    assert {"rds:DescribeDBProxies", "cloudwatch:DescribeAlarms"} <= actions


@pytest.mark.parametrize("code", ["Throttling", "ExpiredTokenException"])
def test_what_passes_is_got_over_at_each_call(case: Case, code: str) -> None:  # noqa: F811
    before = case.server.described()
    new = f"{name_of(ID)}-{case.shop.key}"
    times = 3 if code == "Throttling" else 1
    for number in range(1, 30, 2):
        server = case.harmed(refused(code, at=number, times=times))
        snapshot = server.begin(ID)
        server.finish(snapshot)
        server.restore(snapshot, before.settings, new, case.tags())
        server.complete(new, before.settings)
        server.left_behind()
        server.rename(before.resource_id, f"{server.id}-old")
        server.rename(before.resource_id, server.id)
    for lasting, said in (("Throttling", "aws_busy"), ("ExpiredTokenException", "aws_expired")):
        with pytest.raises(BackupFailed) as caught:
            case.harmed(refused(lasting, at=1)).finish(name_of(ID))
        assert caught.value.code == said


def test_killed_after_each_call_of_a_restore_and_a_swap(case: Case) -> None:  # noqa: F811
    before = case.server.described()
    snapshot = case.server.begin(ID)
    case.server.finish(snapshot)
    new = f"{name_of(ID)}-{case.shop.key}"

    def swap(server: Any) -> None:
        server.restore(snapshot, before.settings, new, case.tags())
        server.complete(new, before.settings)
        server.rename(before.resource_id, f"{before.id}-old")
        server.rename(server.available(new).resource_id, before.id)

    for number in every_call():
        try:
            if case.server.find(f"{before.id}-old") is None:
                swap(case.harmed(killed_after(number)))
            else:
                case.harmed(killed_after(number)).rename(case.server.available(new).resource_id, before.id)
        except Killed:
            if case.server.find(new) is None and case.server.find(f"{before.id}-old") is not None:
                break  # the last one: everything was done
            continue
        break
    assert case.server.described().resource_id != before.resource_id
    old = case.server.find(f"{before.id}-old")
    assert old is not None
    assert old[case.server.words.resource_id] == before.resource_id


def answer_lost(case: Case, *, then: str, status: str = "renaming") -> Callable[[str, Callable[[], Any]], Any]:  # noqa: F811
    """The rename is carried out, its answer is lost, and the attempt after it is answered with `then`."""
    asked: list[str] = []
    words = case.server.words

    def harm(name: str, call: Callable[[], Any]) -> Any:
        if not name.startswith("rds:Modify"):
            answer = call()
            if asked and len(asked) < 4:  # for two looks it is on its way
                asked.append(name)
                for one in answer.get(words.servers, ()):
                    one[words.status] = status
            return answer
        asked.append(name)
        if len(asked) == 1:
            call()
            raise ReadTimeoutError(endpoint_url="https://rds")
        raise ClientError({"Error": {"Code": then, "Message": "as told"}}, name.partition(":")[2])

    return harm


@pytest.mark.parametrize("how", ["NotFound", "state", "AlreadyExists"])
def test_a_rename_whose_answer_was_lost_is_recognised_as_done(case: Case, how: str) -> None:  # noqa: F811
    words, before = case.server.words, case.server.described()
    code = words.invalid_state[1] if how == "state" else words.error(how)[1]
    harmed = case.harmed(answer_lost(case, then=code))
    harmed.rename(before.resource_id, f"{before.id}-old")
    found = case.server.find(f"{before.id}-old")
    assert found is not None
    assert found[words.resource_id] == before.resource_id


def test_a_rename_that_rds_refuses_for_its_state_is_told(case: Case) -> None:  # noqa: F811
    before = case.server.described()

    def harm(name: str, call: Callable[[], Any]) -> Any:
        if name.startswith("rds:Modify"):
            code = case.server.words.invalid_state[1]
            raise ClientError({"Error": {"Code": code, "Message": "is backing-up"}}, name.partition(":")[2])
        return call()

    with pytest.raises(BackupFailed, match="is backing-up"):
        case.harmed(harm).rename(before.resource_id, f"{before.id}-old")
    assert case.server.described().resource_id == before.resource_id


def test_a_name_that_somebody_takes_at_the_same_moment_is_left_to_them(case: Case) -> None:  # noqa: F811
    before, words = case.server.described(), case.server.words
    rds = case.shop.account.client("rds")
    wanted = f"{before.id}-old"

    def harm(name: str, call: Callable[[], Any]) -> Any:
        if name.startswith("rds:Modify"):
            if isinstance(case.server, Instance):
                rds.create_db_instance(
                    DBInstanceIdentifier=wanted,
                    DBInstanceClass="db.t3.micro",
                    Engine="postgres",
                    AllocatedStorage=20,
                    MasterUsername="postgres",
                    MasterUserPassword="not a secret",
                )
            else:
                rds.create_db_cluster(
                    DBClusterIdentifier=wanted,
                    Engine="aurora-postgresql",
                    MasterUsername="postgres",
                    MasterUserPassword="not a secret",
                )
            code = words.error("AlreadyExists")[1]
            raise ClientError({"Error": {"Code": code, "Message": "taken"}}, name.partition(":")[2])
        return call()

    with pytest.raises(BackupFailed) as caught:
        case.harmed(harm).rename(before.resource_id, wanted)
    assert caught.value.code == "rds_name_taken"
    assert case.server.described().resource_id == before.resource_id
    other = case.server.find(wanted)
    assert other is not None
    assert other[words.resource_id] != before.resource_id


@pytest.mark.parametrize("status", ["creating", "incompatible-restore"])
def test_a_restore_that_does_not_come_has_an_end_and_shows_how_it_stands(case: Case, status: str) -> None:  # noqa: F811
    snapshot, before = case.server.begin(ID), case.server.described()
    new = f"{name_of(ID)}-{case.shop.key}"
    case.server.restore(snapshot, before.settings, new, case.tags())

    def harm(_name: str, call: Callable[[], Any]) -> Any:
        answer = call()
        for one in answer.get("DBInstances", ()):
            one["DBInstanceStatus"] = status
        for one in answer.get("DBClusters", ()):
            one["Status"] = status
        return answer

    told: list[str] = []
    server = replace(
        case.harmed(harm),
        settings=case.server.settings.model_copy(update={"restore_timeout_s": 0.5}),
        wait=replace(WAIT, progress=told.append),
    )
    with pytest.raises(BackupFailed, match=status) as caught:
        server.available(new)
    if status == "creating":
        assert caught.value.code == "timeout"
        assert "rds.restore_timeout_s" in (caught.value.hint or "")
        assert "creating" in told[0]


def test_a_rename_that_never_ends_has_an_end(case: Case) -> None:  # noqa: F811
    before, words = case.server.described(), case.server.words

    def harm(name: str, call: Callable[[], Any]) -> Any:
        answer = call()
        for one in answer.get(words.servers, ()) if name.startswith("rds:Describe") else ():
            one[words.status] = "renaming"
        return answer

    server = replace(case.harmed(harm), settings=case.server.settings.model_copy(update={"restore_timeout_s": 0.5}))
    with pytest.raises(BackupFailed, match="renaming") as caught:
        server.rename(before.resource_id, f"{before.id}-old")
    assert caught.value.code == "timeout"
