"""Production insists on a rehearsal in staging: what opens it, and what closes it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from migrator.runs import engine
from migrator.runs.record import Outcome, RunRecord
from tests import shop as shops
from tests.integration.runs.conftest import Template
from tests.integration.runs.rehearsing import Signing, rehearse
from tests.shop import Shop

NOTE = """
alter table orders add column note text
--rollback alter table orders drop column note"""
ASKS = {"require_attestation.from": "staging", "require_attestation.max_age": "14d"}


@contextmanager
def production(staging: Signing, template: Template) -> Iterator[Signing]:
    """Another database with the same schema; the folder is the same, as one repository serves both."""
    with shops.database(staging.server, template=template(staging.server)) as login:
        yield Signing(server=staging.server, login=login, folder=staging.folder, settings=dict(ASKS))


def refused(record: RunRecord, code: str) -> str:
    assert (record.outcome, record.exit_code) == (Outcome.REFUSED, 3), record.error
    assert record.error is not None
    assert record.error.code == code, record.error
    assert record.error.hint
    return record.error.message


def run_with(shop: Shop, changelog: str, **options: object) -> RunRecord:
    run = shop.open(changelog)
    run.options = replace(run.options, **options)  # type: ignore[arg-type]
    engine.execute(run)
    return run.record


def test_an_attestation_made_in_staging_opens_production_though_a_partition_came_meanwhile(
    shop: Shop, template: Template
) -> None:
    staging = Signing(server=shop.server, login=shop.login, folder=shop.folder)
    changelog = staging.sql(
        "\nalter table event add column source text\n--rollback alter table event drop column source",
    )
    with production(staging, template) as live:
        assert "there is none for release.sql" in refused(live.run(changelog), "attestation_missing")
        record = rehearse(staging, changelog)
        assert record.passed, record.findings
        live.execute("alter table event detach partition event_later")
        live.execute("create table event_2026_q3 partition of event for values from ('2026-07-01') to ('2026-10-01')")
        live.execute("alter table product add column colour text")  # nothing that the changelog touches
        migrated = live.run(changelog)
        assert migrated.outcome is Outcome.MIGRATED, migrated.error
        [gate] = [one for one in migrated.gates if one.name == "attestation"]
        assert gate.is_open
        assert record.id in gate.says


@pytest.mark.slow
def test_each_way_in_which_it_does_not_fit_closes_the_gate_in_its_own_words(shop: Shop, template: Template) -> None:
    staging = Signing(server=shop.server, login=shop.login, folder=shop.folder)
    changelog = staging.sql(NOTE)
    assert rehearse(staging, changelog, parameters={"tenant": "acme"}).passed
    [path] = staging.attestations
    whole = path.read_bytes()
    with production(staging, template) as live:
        before = live.dump()
        run = live.open(changelog, parameters={"tenant": "other"})
        engine.execute(run)
        assert "other changelog parameters: tenant" in refused(run.record, "attestation_parameters")
        assert run.record.error is not None
        assert run.record.error.hint == "Rehearse it: migrator rehearse release.sql --env staging."

        path.write_bytes(whole.replace(b'"clone"', b'"clonf"'))
        assert "does not fit its content" in refused(live.run(changelog), "attestation_signature")
        path.write_bytes(whole.replace(b"\n", b"\r\n"))
        elsewhere = run_with(live, changelog, attestation=path)
        assert "changed after it was written" in refused(elsewhere, "attestation_damaged")
        nowhere = run_with(live, changelog, attestation=Path("/nowhere.json"))
        assert "cannot be read" in refused(nowhere, "attestation_missing")
        path.write_bytes(whole)

        late = live.open(changelog, parameters={"tenant": "acme"})
        moment = late.now() + timedelta(days=15)
        late.now = lambda: moment
        engine.execute(late)
        assert "is 15 days old; at most 14d is allowed" in refused(late.record, "attestation_too_old")

        live.settings["require_attestation.from"] = "qa"
        assert "was made in staging" in refused(live.run(changelog), "attestation_environment")
        live.settings["require_attestation.from"] = "staging"

        live.execute("create index by_total on orders (total)")
        other = live.open(changelog, parameters={"tenant": "acme"})
        engine.execute(other)
        assert "index public.by_total was not there in the rehearsal" in refused(other.record, "attestation_schema")
        live.execute("drop index by_total")

        live.sql(NOTE.replace("note text", "note varchar(9)"))
        edited = live.open(changelog, parameters={"tenant": "acme"})
        engine.execute(edited)
        assert "release.sql::1::ann was edited since" in refused(edited.record, "attestation_changesets")
        live.sql(NOTE.replace("drop column note", "drop column if exists note"))
        edited = live.open(changelog, parameters={"tenant": "acme"})
        engine.execute(edited)
        assert "release.sql differs from what was rehearsed" in refused(edited.record, "attestation_files")
        assert live.dump() == before


@pytest.mark.slow
def test_whose_key_it_is_counts(shop: Shop, template: Template) -> None:
    staging = Signing(server=shop.server, login=shop.login, folder=shop.folder, signs="stranger")
    changelog = staging.sql(NOTE)
    assert rehearse(staging, changelog).passed
    with production(staging, template) as live:
        assert "which is not among the public keys" in refused(live.run(changelog), "attestation_signature")
        live.toml = ""
        assert "no public key is configured" in refused(live.run(changelog), "attestation_keys")


@pytest.mark.slow
def test_a_closed_gate_is_passed_with_a_reason_only_where_the_configuration_lets_it(
    shop: Shop, template: Template
) -> None:
    staging = Signing(server=shop.server, login=shop.login, folder=shop.folder)
    changelog = staging.sql(NOTE)
    with production(staging, template) as live:
        kept_out = run_with(live, changelog, override_gate="it is urgent")
        assert "--override-gate does not count here" in refused(kept_out, "attestation_missing")
        live.settings["require_attestation.override"] = True
        refused(live.run(changelog), "attestation_missing")
        let_in = run_with(live, changelog, override_gate="it is urgent")
        assert let_in.outcome is Outcome.MIGRATED, let_in.error
        [gate] = [one for one in let_in.gates if one.name == "attestation"]
        assert (gate.is_open, gate.overridden) == (False, "it is urgent")
        assert any("was overridden: it is urgent" in warning for warning in let_in.warnings)
        from migrator.reports import markdown

        assert "closed, and overridden (it is urgent)" in markdown.render(let_in)


@pytest.mark.slow
def test_a_rollback_needs_no_attestation(shop: Shop) -> None:
    staging = Signing(server=shop.server, login=shop.login, folder=shop.folder)
    record = staging.run(staging.sql(NOTE))
    staging.settings |= ASKS
    undone = staging.rollback(run_id=record.run_id)
    assert undone.outcome is Outcome.MIGRATED, undone.error


@pytest.mark.slow
def test_a_rehearsal_without_data_is_enough_only_where_none_is_asked_for(shop: Shop, template: Template) -> None:
    staging = Signing(server=shop.server, login=shop.login, folder=shop.folder)
    changelog = staging.sql(NOTE)
    assert rehearse(staging, changelog, "schema").passed
    with production(staging, template) as live:
        live.settings["require_attestation.with_data"] = True
        assert "a copy of the schema alone" in refused(live.run(changelog), "attestation_with_data")
        live.settings["require_attestation.with_data"] = False
        assert live.run(changelog).outcome is Outcome.MIGRATED
