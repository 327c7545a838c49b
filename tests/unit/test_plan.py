"""A plan's digest covers what must not change; what changed is named; approvals count by key."""

from __future__ import annotations

import base64
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from migrator.backups.signing import PublicKeys, SigningKey
from migrator.config.login import Secret
from migrator.errors import Refused, UsageError
from migrator.plans import approvals, changes, estimate, parameters, plan_file
from migrator.plans.estimate import Measured, Work
from migrator.plans.parameters import Mask
from migrator.plans.plan import InTheWay, ObstacleView, Plan, PlannedChangeset

NOW = datetime(2026, 11, 23, 22, 0, tzinfo=UTC)


def a_changeset(number: int = 1, **fields: Any) -> PlannedChangeset:
    document: dict[str, Any] = {
        "path": "release.sql",
        "id": str(number),
        "author": "ann",
        "checksum": f"9:{number}",
        "in_transaction": True,
        "fails_quietly": False,
        "runs_again": False,
        "has_rollback": True,
        "sql": ("alter table a add column b int",),
        "rollback_sql": ("alter table a drop column b",),
        "precondition": "none",
    }
    return PlannedChangeset(**{**document, **fields})


def a_plan(**fields: Any) -> Plan:
    document: dict[str, Any] = {
        "environment": "staging",
        "server": "7512345678901234567",
        "database": "shop",
        "files": {"release.sql": "33"},
        "changelog": "release.sql",
        "changesets": (a_changeset(1), a_changeset(2)),
        "way": "atomic",
        "fallback": "stepwise",
        "parameters": {"region": "aa", "tenant": "bb"},
        "settings": {"limits.lock_timeout_s": 10.0, "backup.kinds": ["dump"]},
        "checks": {"checks/a.sql": "11"},
        "schema_objects": {"table public.a": "22"},
        "versions": {"liquibase": "5.0.4"},
        "target": "postgresql://migrator@db:5432/shop",
        "made_at": NOW,
        "has_ledger": True,
        "way_reason": "every changeset may run in a transaction",
        "proof": None,
        "backups": (),
        "estimate": None,
        "disk": (),
        "maintenance": "offline",
        "outside": (),
        "others": 0,
        "in_the_way": (),
        "tables": (),
        "left_out": (),
        "findings": (),
        "gates": (),
        "obstacles": (),
        "warnings": (),
    }
    return Plan(**{**document, **fields}).with_digest()


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"environment": "production"}, "environment was staging, is production"),
        ({"server": "db:5432"}, "server was 7512345678901234567, is db:5432"),
        ({"files": {"release.sql": "34"}}, "changelog file release.sql has changed"),
        ({"files": {"release.sql": "33", "more.sql": "1"}}, "changelog file more.sql is new"),
        ({"way": "stepwise"}, "way was atomic, is stepwise"),
        ({"fallback": None}, "fallback was stepwise, is none"),
        ({"changesets": (a_changeset(1),)}, "changeset release.sql::2::ann is no longer pending"),
        ({"changesets": (a_changeset(2), a_changeset(1))}, "the changesets come in another order"),
        ({"changesets": (a_changeset(1), a_changeset(2, checksum="9:x"))}, "changeset release.sql::2::ann was edited"),
        (
            {"changesets": (a_changeset(1), a_changeset(2, sql=("select 1",)))},
            "the SQL of changeset release.sql::2",
        ),
        ({"changesets": (a_changeset(1), a_changeset(2, rollback_sql=()))}, "the rollback of changeset release.sql::2"),
        (
            {"changesets": (a_changeset(1), a_changeset(2, in_transaction=False))},
            "how changeset release.sql::2",
        ),
        ({"parameters": {"region": "xx", "tenant": "bb"}}, "parameter region has changed"),
        ({"parameters": {"region": "aa"}}, "parameter tenant is gone"),
        ({"settings": {"limits.lock_timeout_s": 5.0, "backup.kinds": ["dump"]}}, "was 10.0, is 5.0"),
        ({"checks": {"checks/a.sql": "12"}}, "check checks/a.sql has changed"),
        ({"schema_objects": {"table public.a": "23"}}, "schema: table public.a has changed"),
        ({"schema_objects": {"table public.a": "22", "index public.i": "1"}}, "schema: index public.i is new"),
        ({"versions": {"liquibase": "4.33.0"}}, "version of liquibase was 5.0.4, is 4.33.0"),
    ],
)
def test_what_must_not_change_is_covered_and_named(fields: dict[str, Any], says: str) -> None:
    before, after = a_plan(), a_plan(**fields)
    assert before.digest != after.digest
    [sentence] = changes.between(before, after)
    assert says in sentence


def test_what_may_change_is_not_covered() -> None:
    busy = InTheWay(pid=1, user="u", application="a", state="active", age_s=1.0, query="q", locks=("public.a: x",))
    later = a_plan(
        made_at=NOW.replace(hour=23),
        in_the_way=(busy,),
        obstacles=(ObstacleView(what="a", remedy="b"),),
        changesets=(a_changeset(1, line=7, comment="new"), a_changeset(2, precondition="holds")),
    )
    assert later.digest == a_plan().digest
    assert changes.between(a_plan(), later) == []


def test_a_plan_survives_its_file_and_no_edit_does(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text(plan_file.render(a_plan()), encoding="utf-8")
    found = plan_file.read(path)
    assert found == a_plan()
    approvals.require_whole(found)
    path.write_text(plan_file.render(a_plan()).replace("add column b int", "add column b bigint"), encoding="utf-8")
    with pytest.raises(Refused, match="was changed after it was made"):
        approvals.require_whole(plan_file.read(path))
    path.write_text('{"digest": 1}', encoding="utf-8")
    with pytest.raises(Refused, match="not a plan"):
        plan_file.read(path)
    with pytest.raises(UsageError, match="cannot be read"):
        plan_file.read(tmp_path / "none.json")


def a_key() -> SigningKey:
    raw = Ed25519PrivateKey.generate().private_bytes_raw()
    return SigningKey.parse(Secret(base64.b64encode(raw).decode()))


def known(*keys: SigningKey) -> PublicKeys:
    return PublicKeys({name: one for key in keys for name, one in key.public.keys.items()})


def test_approvals_count_once_a_person_and_never_the_planner_nor_the_runner() -> None:
    ann, bob, cleo, stranger = a_key(), a_key(), a_key(), a_key()
    keys = known(ann, bob, cleo)
    plan = approvals.sign(a_plan(), ann)

    def say(plan: Plan, key: SigningKey, keys: PublicKeys = keys) -> Plan:
        return approvals.approve(plan, key, keys, by="x", comment="", at=NOW)

    with pytest.raises(Refused, match="made this plan"):
        say(plan, ann)
    with pytest.raises(Refused, match="not among the public keys"):
        say(plan, stranger)
    once = say(plan, bob)
    with pytest.raises(Refused, match="already"):
        say(once, bob)
    with pytest.raises(Refused, match="1 of the 2 approvals") as caught:
        approvals.require(once, keys, required=2, own=None, file="next release.json")
    assert caught.value.hint == "Let another person type: migrator approve 'next release.json'"
    with pytest.raises(Refused, match="it is the key of this run"):
        approvals.require(once, keys, required=1, own=bob.id)
    twice = say(once, cleo)
    assert [one.key for one in approvals.require(twice, keys, required=2, own=None).counts] == [bob.id, cleo.id]
    unsigned = twice.model_copy(update={"signature": None})
    with pytest.raises(Refused, match="not signed by a known key"):
        approvals.require(unsigned, keys, required=2, own=None)
    by_a_stranger = say(plan, stranger, known(ann, stranger))
    assert not approvals.count(by_a_stranger, keys, own=None).counts


@pytest.mark.parametrize(
    "change",
    [
        lambda one: {"by": "Somebody else"},
        lambda one: {"at": NOW.replace(year=2027)},
        lambda one: {"digest": "0" * 64},
        lambda one: {"document": "0" * 64},
        lambda one: {"signature": one.signature[:-6] + "AAAA=="},
    ],
)
def test_an_approval_with_any_byte_changed_does_not_count(change: Callable[[Any], dict[str, object]]) -> None:
    ann, bob = a_key(), a_key()
    keys = known(ann, bob)
    plan = approvals.approve(approvals.sign(a_plan(), ann), bob, keys, by="Bob", comment="", at=NOW)
    [said] = plan.approvals
    changed = plan.model_copy(update={"approvals": (said.model_copy(update=change(said)),)})
    with pytest.raises(Refused, match="0 of the 1"):
        approvals.require(changed, keys, required=1, own=None)


def test_what_a_plan_shows_is_signed_with_it(tmp_path: Path) -> None:
    ann, bob = a_key(), a_key()
    keys = known(ann, bob)
    shown = a_plan(obstacles=(ObstacleView(what="no room", remedy="make some"),))
    plan = approvals.approve(approvals.sign(shown, ann), bob, keys, by="Bob", comment="", at=NOW)
    path = tmp_path / "plan.json"
    path.write_text(plan_file.render(plan), encoding="utf-8")
    assert len(approvals.require(plan_file.read(path), keys, required=1, own=None).counts) == 1
    edited = plan.model_copy(update={"obstacles": ()})
    assert edited.computed_digest == plan.digest
    for refuse in (
        lambda: approvals.require_whole(edited),
        lambda: approvals.approve(edited, bob, keys, by="Bob", comment="", at=NOW),
        lambda: approvals.require(edited, keys, required=1, own=None),
    ):
        with pytest.raises(Refused, match="what it shows beside that"):
            refuse()
    made_whole = edited.with_digest()
    assert approvals.planner(made_whole, keys) is None
    assert not approvals.count(made_whole, keys, own=None).counts


def test_a_plan_of_another_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text(plan_file.render(a_plan()).replace('"format_version": 2', '"format_version": 1'), encoding="utf-8")
    with pytest.raises(Refused, match="format_version: Input should be 2"):
        plan_file.read(path)


def test_an_approval_of_another_plan_does_not_count() -> None:
    ann, bob = a_key(), a_key()
    keys = known(ann, bob)
    other = approvals.approve(approvals.sign(a_plan(), ann), bob, keys, by="Bob", comment="", at=NOW)
    moved = approvals.sign(a_plan(way="stepwise"), ann).model_copy(update={"approvals": other.approvals})
    with pytest.raises(Refused, match="is of another plan"):
        approvals.require(moved, keys, required=1, own=None)


def test_parameters_are_digests_and_secrets_are_masked() -> None:
    one = parameters.digests({"pw": "hunter22", "region": "eu"}, salt="staging")
    assert one == parameters.digests({"region": "eu", "pw": "hunter22"}, salt="staging")
    assert one["pw"] != parameters.digests({"pw": "hunter22"}, salt="production")["pw"]
    assert "hunter22" not in str(one)
    mask = Mask({"pw": "it's me", "short": "ab", "plain": "eu"}, ["pw", "short"])
    assert mask.text("alter role x password 'it''s me'; -- it's me, ab, table, eu") == (
        "alter role x password '${pw}'; -- ${pw}, ${short}, table, eu"
    )
    assert Mask({}, []).text("as it is") == "as it is"


def test_an_estimate_goes_by_earlier_runs_of_a_like_size() -> None:
    work = Work(size_bytes=1_000_000_000, jobs=2, dumps=True, copies=False, hashed_s=4.0)
    by_size = estimate.of(work)
    assert (round(by_size.backup_s, 1), by_size.proof_s, by_size.basis) == (8.3, 2.0, "the size")
    measured = [
        Measured(size_bytes=500_000_000, dump_s=50.0),
        Measured(size_bytes=1_000_000_000, dump_s=100.0),
        Measured(size_bytes=1_000, dump_s=1.0),  # too small to tell anything
        Measured(size_bytes=1_000_000_000, copy_s=1.0),
    ]
    by_runs = estimate.of(work, measured)
    assert by_runs.backup_s == pytest.approx(100.0)
    assert by_runs.basis == "the last 2 runs of this environment"
