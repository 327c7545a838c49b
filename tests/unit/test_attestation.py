from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from migrator.backups.signing import PublicKeys, SigningKey
from migrator.config.attestation import RequireAttestation
from migrator.config.login import Secret
from migrator.plans import attestation as attestations
from migrator.plans import parameters
from migrator.plans.attestation import Attestation, AttestationInvalid, Loss, RehearsedChangeset
from migrator.plans.attestation_objections import Subject, objections

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
KEY = SigningKey.parse(Secret(base64.b64encode(bytes(range(32))).decode()))
OTHER_KEY = SigningKey.parse(Secret(base64.b64encode(bytes(32)).decode()))
SCHEMA = {"table public.orders": "COLUMNS (id)", "column public.orders.id": "bigint"}
WANTED = RequireAttestation.model_validate({"from": "staging", "max_age": "14d"})


def an_attestation() -> Attestation:
    return Attestation(
        id="20261123t110000_ab12",
        environment="staging",
        changelog="db/release.sql",
        made_at=NOW - timedelta(hours=3),
        source="clone",
        with_data=True,
        way="atomic",
        lossy_rollback_allowed=False,
        changesets=(
            RehearsedChangeset(
                path="db/release.sql",
                id="1",
                author="kim",
                checksum="9:abc",
                apply_s=0.125,
                rollback_s=0.05,
                rollback="loses",
                losses=(Loss(what="public.orders", column="note", rows=7, how="naïve ☃"),),
            ),
            RehearsedChangeset(path="db/release.sql", id="2", author="kim", checksum="9:def", rollback="restores"),
        ),
        files={"db/release.sql": "f" * 64},
        salt="s",
        parameters=attestations.hashed({"tenant": "acme"}, "s"),
        schema_objects=attestations.digests(SCHEMA),
        versions={"postgresql": "18.1", "liquibase": "5.0.4", "migrator": "0.1"},
    )


def a_subject() -> Subject:
    return Subject(
        changesets=[("db/release.sql::1::kim", "9:abc"), ("db/release.sql::2::kim", "9:def")],
        files={"db/release.sql": "f" * 64},
        parameters={"tenant": "acme"},
        schema_objects=attestations.digests(SCHEMA),
        versions={"postgresql": "18.3 (Debian)", "liquibase": "5.0.4", "migrator": "0.2"},
        ways=frozenset({"atomic"}),
    )


def faults(attestation: Attestation, subject: Subject, wanted: RequireAttestation = WANTED) -> dict[str, str]:
    return {o.fault: o.message for o in objections(attestation, subject, wanted, now=NOW)}


def test_an_attestation_reads_back_as_it_was_and_opens_for_what_was_rehearsed() -> None:
    found, key_id = attestations.read(attestations.write(an_attestation(), KEY), KEY.public)
    assert (found, key_id) == (an_attestation(), KEY.id)
    assert faults(found, a_subject()) == {}
    assert [loss.rows for loss in found.losses] == [7]


def test_the_value_of_a_parameter_stands_nowhere_in_it() -> None:
    assert b"acme" not in attestations.write(an_attestation(), KEY)


DATA = attestations.write(an_attestation(), KEY)


def refuses(data: bytes, keys: PublicKeys = KEY.public) -> AttestationInvalid:
    with pytest.raises(AttestationInvalid) as caught:
        attestations.read(data, keys)
    return caught.value


def test_every_bit_of_it_counts() -> None:
    for place in range(len(DATA)):
        for bit in range(8):
            changed = bytearray(DATA)
            changed[place] ^= 1 << bit
            refuses(bytes(changed))


@settings(max_examples=300, deadline=None)
@given(place=st.integers(0, len(DATA) - 1), length=st.integers(0, 3), new=st.binary(max_size=3))
def test_no_piece_of_it_can_be_replaced(place: int, length: int, new: bytes) -> None:
    changed = DATA[:place] + new + DATA[place + length :]
    if changed != DATA:
        refuses(changed)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null\n",
        b"[]\n",
        b"{}\n",
        b"\xff\xfe",
        DATA[:-1],
        DATA + b"\n",
        DATA.replace(b"\n", b"\r\n"),
        b"[" * 100_000,
        json.dumps(json.loads(DATA)).encode(),
        b'{\n "attestation": {},\n "attestation": {},\n "signature": ""\n}\n',
    ],
)
def test_what_is_not_written_as_it_would_be_is_refused_as_changed(data: bytes) -> None:
    assert refuses(data).code == "damaged"


def test_whose_signature_it_is_counts() -> None:
    assert OTHER_KEY.id not in str(refuses(DATA, OTHER_KEY.public))
    assert f"signed by the key '{KEY.id}', which is not among the public keys" in str(refuses(DATA, OTHER_KEY.public))
    unsigned = {**json.loads(DATA), "signature": None}
    rendered = (json.dumps(unsigned, indent=1, sort_keys=True) + "\n").encode()
    assert "not signed" in str(refuses(rendered))
    as_manifest = {
        "attestation": json.loads(DATA)["attestation"],
        "signature": KEY.sign(json.loads(DATA)["attestation"], purpose="manifest"),
    }
    assert refuses((json.dumps(as_manifest, indent=1, sort_keys=True) + "\n").encode()).code == "signature"


def test_a_signed_document_of_another_shape_is_refused() -> None:
    document = {**json.loads(DATA)["attestation"], "format_version": 1}
    forged = {"attestation": document, "signature": KEY.sign(document, purpose="attestation")}
    assert "format_version" in str(refuses((json.dumps(forged, indent=1, sort_keys=True) + "\n").encode()))


CLOSED: Mapping[str, tuple[Subject, str]] = {
    "changesets": (
        replace(a_subject(), changesets=[("db/release.sql::1::kim", "9:xyz"), ("db/new.sql::3::kim", "9:ghi")]),
        "is for other changesets: db/new.sql::3::kim was not rehearsed; db/release.sql::2::kim was rehearsed and is "
        "not pending here; db/release.sql::1::kim was edited since",
    ),
    "files": (
        replace(a_subject(), files={"db/release.sql": "0" * 64}),
        "is for another text of the changelog: db/release.sql differs from what was rehearsed",
    ),
    "parameters": (
        replace(a_subject(), parameters={"tenant": "other", "region": "eu"}),
        "is for other changelog parameters: region, tenant has another value, or is set on one side only",
    ),
    "schema": (
        replace(
            a_subject(),
            schema_objects=attestations.digests({"table public.orders": "COLUMNS (id, note)", "table public.x": ""}),
        ),
        "started from another schema in what the changesets touch: column public.orders.id is not there here; "
        "table public.x was not there in the rehearsal; table public.orders differs",
    ),
    "versions": (
        replace(a_subject(), versions={"postgresql": "17.2", "liquibase": "5.0.4"}),
        "was made with PostgreSQL 18, here it is 17",
    ),
    "losses": (
        replace(a_subject(), ways=frozenset({"atomic", "stepwise"})),
        "found a rollback that loses data (public.orders.note: naïve ☃), which was not accepted, and this run may have "
        "to go back by it: its way or its fallback is stepwise",
    ),
}


@pytest.mark.parametrize("fault", CLOSED)
def test_each_difference_closes_it_in_its_own_words(fault: str) -> None:
    subject, words = CLOSED[fault]
    assert faults(an_attestation(), subject) == {fault: words}


def test_losses_that_were_accepted_open_it_for_every_way() -> None:
    accepted = an_attestation().model_copy(update={"lossy_rollback_allowed": True})
    assert faults(accepted, replace(a_subject(), ways=frozenset({"stepwise"}))) == {}
    assert accepted.of_losses == "accepted there"
    assert an_attestation().of_losses == "not accepted: the way there (atomic) needs no rollback"


def test_a_parameter_is_as_costly_to_guess_as_in_a_plan() -> None:
    assert attestations.hashed({"pin": "1234"}, "s") == parameters.digests({"pin": "1234"}, salt="s")


def test_the_order_of_the_changesets_counts() -> None:
    found = faults(an_attestation(), replace(a_subject(), changesets=list(reversed(a_subject().changesets))))
    assert found == {"changesets": "is for other changesets: they were rehearsed in another order"}


@pytest.mark.parametrize(
    ("changes", "wanted", "fault", "words"),
    [
        ({"environment": "dev"}, {}, "environment", "was made in dev; one made in staging is asked for"),
        ({"made_at": NOW - timedelta(days=15)}, {}, "too_old", "is 15 days old; at most 14d is allowed"),
        ({}, {"max_age": "2h"}, "too_old", "is 3 hours old; at most 2h is allowed"),
        ({"made_at": NOW + timedelta(hours=1)}, {}, "future", "look at the clocks"),
        ({"with_data": False}, {"with_data": True}, "with_data", "a copy of the schema alone"),
    ],
)
def test_what_the_environment_asks_for_closes_it_too(
    changes: dict[str, object], wanted: dict[str, object], fault: str, words: str
) -> None:
    settings = RequireAttestation.model_validate({"from": "staging", "max_age": "14d", **wanted})
    found = faults(an_attestation().model_copy(update=changes), a_subject(), settings)
    assert list(found) == [fault]
    assert words in found[fault]


def test_a_copy_of_the_schema_is_enough_unless_data_is_asked_for() -> None:
    assert faults(an_attestation().model_copy(update={"with_data": False}), a_subject()) == {}
