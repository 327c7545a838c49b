"""What a run does with the findings of its changesets."""

from __future__ import annotations

import pytest

from migrator.errors import StepFailed
from migrator.runs import linting
from migrator.runs.record import Outcome
from tests.integration.runs.byhand import call
from tests.shop import Shop

DROP = "\nalter table customer drop column preferences;"


def test_run_tells_findings_with_their_numbers_as_warnings(shop: Shop) -> None:
    record = shop.run(
        shop.sql(
            "\n--comment migrator:allow update-without-where Asked for by the shop.\n"
            "update customer set credit = 1;\nalter table customer add column nick text;",
            "failOnError:false\nselect 1;",
        )
    )
    assert record.outcome is Outcome.MIGRATED, record.error
    told = [one for one in record.warnings if one.startswith("release.sql:")]
    assert any(one == "release.sql:6: changeset 2 says failOnError=false (fail-quietly, warning)" for one in told), told
    assert any(
        "update-without-where is switched off by the changeset: Asked for by the shop." in one for one in told
    ), told
    assert not any("(access-exclusive" in one or "(squawk/" in one for one in told), "notes are not for a run's report"


def test_gate_refuses_before_anything_is_touched_and_names_the_way_through(shop: Shop) -> None:
    changelog = shop.sql(DROP)
    refused = shop.run(changelog, {"lint.fail_on": "error"})
    assert refused.outcome is Outcome.REFUSED
    assert refused.exit_code == 3
    assert refused.error is not None
    assert refused.error.code == "findings"
    told = "release.sql:3: drops column preferences of public.customer: 200 rows with a value in it"
    assert told in refused.error.message
    assert "migrator:allow RULE" in (refused.error.hint or "")
    assert refused.maintenance.started_at is None

    shop.write(
        changelog,
        f"--liquibase formatted sql\n--changeset ann:1\n--comment migrator:allow drop-* Moved to crm.{DROP}\n",
    )
    allowed = shop.run(changelog, {"lint.fail_on": "error"})
    assert allowed.outcome is Outcome.MIGRATED, allowed.error
    assert any("--set lint.fail_on" in one for one in allowed.warnings), allowed.warnings
    [gate] = [one for one in allowed.gates if one.name == "findings"]
    assert (gate.is_open, gate.says) == (True, "no finding at or above error")


def test_plan_shows_the_same_findings(shop: Shop) -> None:
    found = shop.plan(shop.sql(DROP, "\n--comment migrator:allow truncate It is a cache.\ntruncate review;"))
    assert [(one.rule, one.rows) for one in found.findings if one.severity == "error" and not one.switched_off] == [
        ("drop-column", 200)
    ]


@pytest.mark.slow
def test_rules_that_could_not_look_close_the_gate_and_the_plan(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_answer(*_: object) -> None:
        raise StepFailed("The database did not answer.")

    monkeypatch.setattr(linting, "look", no_answer)
    changelog = shop.sql(DROP)
    told = call(shop, "plan", changelog)
    assert told.code == 3
    assert "the rules could not look" in told.err
    assert call(shop, "plan", changelog, "--fail-on", "never").code == 0
    [gate] = [one for one in shop.plan(changelog, {"lint.fail_on": "error"}).gates if one.name == "findings"]
    assert not gate.is_open
    assert "could not look" in gate.says
