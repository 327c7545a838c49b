"""Findings as a person, a program, code scanning and GitHub Actions read them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from migrator.plans.findings import Finding, Findings, Severity, Stake, SwitchedOff
from migrator.reports import findings_github, findings_json, findings_sarif, findings_table


def finding(rule: str = "drop-column", severity: Severity = Severity.ERROR, **fields: object) -> Finding:
    given: dict[str, object] = {
        "message": "drops column a of public.t",
        "why": "It is gone.",
        "safer": "Keep it.",
        "changeset": "db/a b.sql::1::ann",
        "file": "db/a b.sql",
        "line": 7,
        **fields,
    }
    return Finding(rule=rule, severity=severity, **given)  # type: ignore[arg-type]


STAKE = Stake(table="public.t", rows=41, is_exact=True, size_bytes=8192)
FOUND = Findings(
    found=(
        finding(stakes=(STAKE,)),
        finding("squawk/prefer-text-field", Severity.INFO, line=None, message="evil ::error::\n%0A, a:b\x1b[31m"),
    ),
    switched_off=(
        SwitchedOff(finding=finding("truncate"), reason="It is empty.", by="changeset"),
        SwitchedOff(finding=finding("drop-table", file=None, line=None), reason="Old.", by="configuration"),
    ),
)


def test_sarif_is_what_version_2_1_0_asks_for() -> None:
    log = json.loads(json.dumps(findings_sarif.document(FOUND, prefix="sub/")))
    assert log["version"] == "2.1.0"
    assert log["$schema"].endswith("sarif-schema-2.1.0.json")
    [run] = log["runs"]
    driver = run["tool"]["driver"]
    assert driver["name"] == "migrator"
    ids = [rule["id"] for rule in driver["rules"]]
    assert len(ids) == len(set(ids))
    for rule in driver["rules"]:
        assert rule["shortDescription"]["text"]
        assert rule["help"]["text"]
        assert rule["defaultConfiguration"]["level"] in {"error", "warning", "note"}
    for result in run["results"]:
        assert ids[result["ruleIndex"]] == result["ruleId"]
        assert result["level"] in {"error", "warning", "note"}
        assert result["message"]["text"]
        for location in result.get("locations", []):
            if "physicalLocation" in location:
                place = location["physicalLocation"]
                assert place["artifactLocation"] == {"uri": "sub/db/a%20b.sql", "uriBaseId": "%SRCROOT%"}
                assert place["region"]["startLine"] >= 1
        for suppression in result.get("suppressions", []):
            assert suppression["kind"] in {"inSource", "external"}
            assert suppression["status"] == "accepted"
    assert [len(result.get("suppressions", [])) for result in run["results"]] == [0, 0, 1, 1]
    assert run["results"][2]["suppressions"][0]["justification"] == "It is empty."
    assert run["results"][0]["properties"] == {"rowsAtStake": 41}


def test_fingerprint_stays_when_lines_and_rows_move_and_differs_between_findings() -> None:
    def fingerprints(found: Findings) -> list[str]:
        results = findings_sarif.document(found)["runs"][0]["results"]
        return [next(iter(result["partialFingerprints"].values())) for result in results]

    moved = Findings(found=(finding(line=99, stakes=(Stake(table="public.t", rows=42, is_exact=False),)),))
    assert fingerprints(moved) == fingerprints(Findings(found=FOUND.found[:1]))
    twice = fingerprints(Findings(found=(finding(), finding(line=8))))
    assert len(set(twice)) == 2


def test_json_tells_numbers_reasons_and_counts() -> None:
    document = json.loads(json.dumps(findings_json.document(FOUND)))
    assert document["counts"] == {"error": 1, "warning": 0, "info": 1}
    first = document["findings"][0]
    assert (first["rule"], first["line"], first["rows_at_stake"]) == ("drop-column", 7, 41)
    assert first["tables"] == [{"table": "public.t", "rows": 41, "is_exact": True, "size_bytes": 8192, "effect": None}]
    assert document["findings"][1]["rows_at_stake"] is None
    assert [(off["rule"], off["reason"], off["switched_off_by"]) for off in document["switched_off"]] == [
        ("truncate", "It is empty.", "changeset"),
        ("drop-table", "Old.", "configuration"),
    ]


def test_annotations_cannot_be_broken_out_of() -> None:
    lines = findings_github.render(FOUND, prefix="sub/").splitlines()
    assert len(lines) == 2
    assert lines[0] == (
        "::error file=sub/db/a b.sql,line=7,title=drop-column::drops column a of public.t%0AWhy: It is gone.%0A"
        "Safer: Keep it."
    )
    assert lines[1].startswith("::notice file=sub/db/a b.sql,title=squawk/prefer-text-field::evil ::error::%0A%250A")
    assert "\x1b" not in lines[1]


@pytest.mark.parametrize("width", [80, 100])
def test_table_fits_its_width_and_ends_with_the_sum(width: int) -> None:
    long = finding(message="drops " + "a column " * 30, why="because " * 40)
    text = findings_table.render(Findings(found=(long, *FOUND.found), switched_off=FOUND.switched_off), width=width)
    lines = text.splitlines()
    assert max(map(len, lines)) <= width
    assert lines[0] == "error    db/a b.sql:7  drop-column"
    assert lines[-1] == "2 errors, 1 note; 2 switched off"
    assert "It is empty. (by the changeset)" in text
    assert text.count("why: ") == 2, "why and safer stand once for each rule"


def test_no_finding_is_said() -> None:
    assert findings_table.render(Findings()) == "no findings"
    assert findings_github.render(Findings()) == ""


def test_numbers_say_where_they_come_from() -> None:
    assert STAKE.told == "41 rows (counted), 8.2 kB"
    assert Stake(table="t", rows=80_000_000, is_exact=False).told == "about 80,000,000 rows (estimated)"
    assert Stake(table="t", rows=1, is_exact=True, effect="without a value").told == "1 row without a value (counted)"


def test_place_is_as_much_as_is_known() -> None:
    assert finding().place == "db/a b.sql:7"
    assert finding(line=None).place == "db/a b.sql"
    assert finding(file=None, line=None).place == "db/a b.sql::1::ann"
    assert Path(finding().place.partition(":")[0]).suffix == ".sql"


def test_what_was_there_before_is_old_unless_no_run_would_take_it() -> None:
    moved, again, refused = finding(line=99), finding(line=120), finding("refused", message="is malformed")
    other = finding(message="drops column b of public.t")
    found = Findings(found=(moved, again, other, refused)).since(Findings(found=(finding(), refused)))
    assert (found.found, found.old) == ((again, other, refused), (moved,))
    assert findings_table.summary(found) == "3 errors; 1 old"
    assert findings_json.document(found)["old"] == 1
