"""Changesets as Liquibase would hand them over, and what the rules find in them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from migrator.config.lint import LintSettings
from migrator.liquibase.changelog import Screened, screen
from migrator.liquibase.models import Changeset, ChangesetState
from migrator.plans import findings
from migrator.plans.findings import Circumstances, Findings, Subject
from migrator.plans.findings.database import Database
from migrator.plans.findings.tokens import split

_HEADER = re.compile(r"^--changeset (?P<author>\w+):(?P<id>\S+)(?P<rest>.*)$", re.MULTILINE)
_COMMENT = re.compile(r"^--comment (.*)$", re.MULTILINE)
SETTINGS = LintSettings()


def changesets_of(root: Path, file: str) -> list[Changeset]:
    """The pending changesets of a formatted SQL file, each statement by itself; comments are not in its text."""
    text = (root / file).read_text(encoding="utf-8")
    headers = list(_HEADER.finditer(text))
    found = []
    for number, header in enumerate(headers):
        end = headers[number + 1].start() if number + 1 < len(headers) else len(text)
        body = text[header.end() : end]
        comment = _COMMENT.search(body)
        rest = header["rest"]
        statements = ["".join(body[one[0].start : one[-1].start + len(one[-1].text)]) for one in split(body) if one]
        found.append(
            Changeset(
                id=header["id"],
                author=header["author"],
                path=file,
                checksum=None,
                state=ChangesetState.CHANGED if "edited" in rest else ChangesetState.PENDING,
                run_in_transaction="runInTransaction:false" not in rest,
                fail_on_error="failOnError:false" not in rest,
                run_always="runAlways:true" in rest,
                run_on_change="runOnChange:true" in rest,
                statements=tuple(statements),
                origins=(0,) * len(statements),
                changes=("sql",),
                comment=comment[1] if comment else None,
                file=file,
                line=text.count("\n", 0, header.start()) + 1,
            )
        )
    return found


def find(
    root: Path,
    *bodies: str,
    database: Database | None = None,
    settings: LintSettings = SETTINGS,
    others_work: bool = True,
    server_major: int = 16,
) -> Findings:
    """What is found in a changelog of these changesets: each its attributes, a newline, its SQL."""
    parts = [f"--changeset ann:{number} {body}" for number, body in enumerate(bodies, 1)]
    (root / "release.sql").write_text("--liquibase formatted sql\n" + "\n".join(parts) + "\n", encoding="utf-8")
    subject = Subject(changesets=changesets_of(root, "release.sql"), screened=screen(root, "release.sql"), root=root)
    return findings.find(
        subject, settings, Circumstances(server_major=server_major, others_work=others_work), database=database
    )


def subject_of(root: Path, files: Sequence[str]) -> Subject:
    """Several formatted SQL files as one changelog that includes them."""
    return Subject(
        changesets=[changeset for file in files for changeset in changesets_of(root, file)],
        screened=Screened(files=tuple(files), findings=()),
        root=root,
    )


def told(found: Findings) -> list[str]:
    """`severity rule` of each finding, without those of squawk, in the order of the report."""
    return [f"{one.severity} {one.rule}" for one in found.found if not one.rule.startswith("squawk")]
