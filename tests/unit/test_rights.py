"""Which rights a login needs for what."""

from __future__ import annotations

from pathlib import Path

import pytest

from migrator.config.load import without_file
from migrator.plans import rights as tiers
from migrator.plans.tiers import Tier
from migrator.postgres.rights import Owner, Rights, SchemaRights


def rights(**changes: object) -> Rights:
    """Of a login that may do nothing, in a database of two owners."""
    found: dict[str, object] = {
        "role": "mig",
        "exists": True,
        "superuser": False,
        "createdb": False,
        "signals": False,
        "monitors": False,
        "database": "shop",
        "owner": "boss",
        "owns": False,
        "connects": (("shop", True), ("postgres", True)),
        "schemas": (SchemaRights(name="public", usage=True, create=False, unread=3),),
        "owners": (
            Owner(name="app", relations=3, others=0, large_objects=0, acted_for=False, is_superuser=False),
            Owner(name="lib", relations=0, others=2, large_objects=1, acted_for=False, is_superuser=False),
        ),
        "strangers": (),
        "extensions": (),
    }
    return Rights(**{**found, **changes})  # type: ignore[arg-type]


def missing(tier: Tier, found: Rights) -> list[str]:
    return [one.sql for one in tiers.of(tier, found) if not one.held and not one.helpful]


def test_each_tier_adds_to_the_one_before() -> None:
    found = rights()
    assert missing(Tier.ONLINE, found) == ["GRANT app TO mig;", "GRANT USAGE, CREATE ON SCHEMA public TO mig;"]
    fence = [*missing(Tier.ONLINE, found), "GRANT boss TO mig;", "GRANT lib TO mig;", "GRANT pg_signal_backend TO mig;"]
    assert missing(Tier.FENCE, found) == fence
    assert missing(Tier.SWAP, found) == [*fence, "ALTER ROLE mig CREATEDB;"]
    assert missing(Tier.RECOVER, found) == [*fence, "ALTER ROLE mig CREATEDB;"]


def test_the_tier_plan_only_reads() -> None:
    assert missing(Tier.PLAN, rights()) == [
        "GRANT SELECT ON ALL TABLES IN SCHEMA public TO mig;",
        "GRANT SELECT ON ALL SEQUENCES IN SCHEMA public TO mig;",
    ]


def test_a_membership_in_a_superuser_is_never_advised() -> None:
    mine = Owner(name="postgres", relations=3, others=0, large_objects=0, acted_for=False, is_superuser=True)
    for tier in Tier:
        assert not [sql for sql in missing(tier, rights(owners=(mine,))) if "GRANT postgres" in sql]


def test_odd_names_are_quoted() -> None:
    found = missing(Tier.PLAN, rights(role='Mr. "X"; drop', connects=(("Shop--", False),)))
    assert found[0] == 'GRANT CONNECT ON DATABASE "Shop--" TO "Mr. ""X""; drop";'


def test_owners_that_may_not_create_are_named_for_a_restore() -> None:
    found = rights(strangers=(("app", "public"),), extensions=("pg_cron",))
    assert "GRANT CREATE ON SCHEMA public TO app;" in missing(Tier.RECOVER, found)
    assert "pg_cron" in tiers.notes(Tier.RECOVER, found)[0]
    assert tiers.notes(Tier.SWAP, found) == []


def test_an_owner_of_everything_is_told_of() -> None:
    both = Owner(name="boss", relations=3, others=0, large_objects=0, acted_for=False, is_superuser=False)
    assert "more than this tier" in tiers.notes(Tier.ONLINE, rights(owners=(both,)))[0]


@pytest.mark.parametrize(
    ("settings", "tier"),
    [
        ({}, Tier.RECOVER),
        ({"profile": "online"}, Tier.ONLINE),
        ({"backup.kinds": ()}, Tier.FENCE),
        ({"backup.restore": "never"}, Tier.FENCE),
        ({"backup.kinds": ("clone",)}, Tier.SWAP),
        ({"profile": "online", "way": "bluegreen", "maintenance.database": "offline"}, Tier.SWAP),
    ],
)
def test_the_tier_of_an_environment(settings: dict[str, object], tier: Tier) -> None:
    assert tiers.tier_of(without_file(Path.cwd(), {}).environment("local", settings)) is tier
