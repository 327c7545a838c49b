"""Rules are switched off with a reason, or not at all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from migrator.config.lint import LintSettings, OffRule
from migrator.liquibase.models import Changeset
from migrator.plans import findings
from migrator.plans.findings import Circumstances, Severity, Subject, squawk
from migrator.plans.findings.squawk import Said
from tests.linted import SETTINGS, changesets_of, find, told


@pytest.fixture(autouse=True)
def _squawk(monkeypatch: pytest.MonkeyPatch) -> None:
    def of(changesets: Sequence[Changeset], **_: object) -> Iterator[Said]:
        for changeset in changesets:
            yield Said(
                changeset=changeset,
                number=0,
                at=0,
                rule="squawk/prefer-thing",
                severity=Severity.INFO,
                message="Prefer it.",
                help=None,
            )

    monkeypatch.setattr(squawk, "of", of)


DROP = "alter table t drop column a;"


@pytest.mark.parametrize(
    "comment",
    [
        "--comment migrator:allow drop-column Nobody names it.",
        "--comment Cleans up. migrator:allow drop-column Nobody names it.",
        "-- migrator:allow drop-column Nobody names it.",
        "/* migrator:allow drop-column Nobody names it. */",
        "/*\n * migrator:allow truncate , drop-column Nobody names it.\n */",
        "--comment migrator:allow drop-* Nobody names it.",
    ],
)
def test_comment_in_the_changeset_switches_a_rule_off_with_its_reason(comment: str, tmp_path: Path) -> None:
    found = find(tmp_path, f"\n{comment}\n{DROP}", f"\n{DROP}")
    assert [one.place for one in found.found if one.rule == "drop-column"] != []
    [off] = found.switched_off
    assert (off.finding.rule, off.reason, off.by) == ("drop-column", "Nobody names it.", "changeset")
    assert [one.changeset for one in found.found if one.rule == "drop-column"] == ["release.sql::2::ann"]


def test_comment_without_a_reason_has_no_effect_and_is_an_error_itself(tmp_path: Path) -> None:
    found = find(tmp_path, f"\n--comment migrator:allow drop-column\n{DROP}\n-- migrator:allow")
    assert told(found) == ["error allow-without-reason", "error drop-column", "error allow-without-reason"]
    assert found.switched_off == ()


def test_misspelt_rule_and_idle_switch_are_told(tmp_path: Path) -> None:
    found = find(tmp_path, f"\n-- migrator:allow drop-colum Nobody.\n-- migrator:allow truncate Nobody.\n{DROP}")
    assert [(one.severity.value, one.rule, one.line) for one in found.found if one.rule.startswith("allow")] == [
        ("warning", "allow-unknown-rule", 3),
        ("info", "allow-unused", 4),
    ]


def test_switch_of_a_rule_that_needs_a_database_is_never_idle(tmp_path: Path) -> None:
    found = find(tmp_path, "\n--comment migrator:allow delete-cascades, narrow-type It is meant.\nselect 1;")
    assert told(found) == []


def test_words_in_a_string_switch_nothing_off(tmp_path: Path) -> None:
    found = find(tmp_path, f"\ninsert into t values ('migrator:allow drop-column hehe');\n{DROP}")
    assert "error drop-column" in told(found)
    assert found.switched_off == ()


def test_configuration_switches_off_by_name_and_by_pattern(tmp_path: Path) -> None:
    settings = LintSettings(
        off=(
            OffRule(rule="squawk/prefer-*", reason="taste"),
            OffRule(rule="drop-column", reason="always"),
            OffRule(rule="no-such-rule", reason="none"),
        )
    )
    found = find(tmp_path, f"\n{DROP}", settings=settings)
    assert told(found) == ["warning allow-unknown-rule"]
    assert {(off.finding.rule, off.reason, off.by) for off in found.switched_off} == {
        ("squawk/prefer-thing", "taste", "configuration"),
        ("drop-column", "always", "configuration"),
    }


def test_rule_of_squawk_may_be_named_without_its_prefix(tmp_path: Path) -> None:
    found = find(tmp_path, "\n--comment migrator:allow prefer-thing We do not.\nselect 1;")
    assert (found.found, len(found.switched_off)) == ((), 1)


@pytest.mark.parametrize(
    ("file", "text"),
    [
        (
            "a.xml",
            '<databaseChangeLog>\n<changeSet id="1" author="ann">\n<!-- migrator:allow drop-column\n-->\n'
            "<!-- migrator:allow drop-column Nobody. -->\n<sql>alter table t drop column a</sql>\n</changeSet>",
        ),
        (
            "a.yaml",
            "databaseChangeLog:\n- changeSet:\n    id: 1\n    author: ann\n    # migrator:allow drop-column Nobody.\n"
            "    changes:\n    - sql: alter table t drop column a\n",
        ),
    ],
)
def test_comments_of_other_formats_count(file: str, text: str, tmp_path: Path) -> None:
    (tmp_path / "seed.sql").write_text(f"--changeset ann:1\n{DROP}\n")
    (tmp_path / file).write_text(text)
    [seed] = changesets_of(tmp_path, "seed.sql")
    line = next(number for number, one in enumerate(text.splitlines(), 1) if "id" in one)
    changeset = replace(seed, file=file, path=file, line=line)
    from migrator.liquibase.changelog import Screened

    subject = Subject(changesets=[changeset], screened=Screened(files=(file,), findings=()), root=tmp_path)
    found = findings.find(subject, SETTINGS, Circumstances(server_major=16))
    assert [(off.finding.rule, off.reason) for off in found.switched_off] == [("drop-column", "Nobody.")]


def test_severities_decide_what_is_against(tmp_path: Path) -> None:
    found = find(tmp_path, "\ncreate index on t (a);")
    assert (found.against("error"), len(found.against("warning")), found.against("never")) == ((), 1, ())
