"""What squawk says of the SQL, as far as it is true here: one call for thousands of changesets."""

from __future__ import annotations

import json
import re
import tempfile
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from types import MappingProxyType

from migrator import processes
from migrator.errors import ToolFailed
from migrator.liquibase.models import Changeset
from migrator.plans.findings.control import without_parameters
from migrator.plans.findings.model import Rule, Severity

PREFIX = "squawk/"
NOT_LOOKED_AT = Rule(
    id="squawk-not-run",
    severity=Severity.WARNING,
    finds="squawk could not be run, so that none of its rules was asked.",
    why="What only squawk looks for was not looked for.",
    safer="Install squawk-cli for this platform, or switch this rule off with a reason.",
)
RULES = (NOT_LOOKED_AT,)
TIMEOUT_S = 120.0  # of one call; it takes a tenth of a second
AT_ONCE = 2000  # changesets in one call: what it says of them is in memory at once

# squawk's rule -> ours, which looks for the same and knows the database, the transaction and the changelog.
ANSWERED: Mapping[str, str] = MappingProxyType(
    {
        "adding-field-with-default": "table-rewrite",
        "adding-foreign-key-constraint": "new-constraint",
        "adding-not-nullable-field": "set-not-null",
        "adding-required-field": "add-required-column",
        "ban-concurrent-index-creation-in-transaction": "needs-no-transaction",
        "ban-drop-column": "drop-column",
        "ban-drop-database": "outside-database",
        "ban-drop-function": "drop-object",
        "ban-drop-schema": "drop-schema",
        "ban-drop-sequence": "drop-object",
        "ban-drop-table": "drop-table",
        "ban-drop-type": "drop-object",
        "ban-drop-view": "drop-object",
        "ban-truncate-cascade": "truncate-cascade",
        "ban-uncommitted-transaction": "transaction-control",
        "changing-column-type": "narrow-type, change-type, table-rewrite",
        "constraint-missing-not-valid": "new-constraint",
        "disallowed-unique-constraint": "new-constraint",
        "renaming-column": "rename-column",
        "renaming-table": "rename-table",
        "require-concurrent-index-creation": "index-blocks-writes",
        "transaction-nesting": "transaction-control",
    }
)
SCREENED = frozenset({"ban-uncommitted-transaction", "transaction-nesting"})  # answered without reading a statement
# squawk's rule -> why it is never right here.
NOT_HERE: Mapping[str, str] = MappingProxyType(
    {
        "prefer-robust-stmts": "the ledger, not IF NOT EXISTS, keeps a changeset from running twice",
        "require-lock-timeout": "every session of a run has a lock_timeout: limits.lock_timeout_s",
        "require-statement-timeout": "a run has its own limits: limits.migration_timeout_s, max_blocked_s",
        "require-timeout-settings": "a run has its own limits: limits.lock_timeout_s, migration_timeout_s",
        "unused-ignore": "squawk's own comments are not obeyed; migrator:allow wants a reason",
    }
)
_STYLE = re.compile(r"^(prefer-|ban-char-field$|ban-create-domain|require-enum-value-ordering$|require-table-schema$)")
_OWN_COMMENT = re.compile(r"squawk-", re.IGNORECASE)
_BETWEEN = "\n;\n"


@dataclass(frozen=True, kw_only=True)
class Said:
    """One sentence of squawk on a changeset's statement."""

    changeset: Changeset
    number: int  # the statement, counted from 0
    at: int  # place in its text
    rule: str  # with the prefix
    severity: Severity
    message: str
    help: str | None

    @property
    def is_refusal(self) -> bool:
        """Whether squawk could not read the SQL."""
        return self.rule == f"{PREFIX}syntax-error"

    @property
    def is_style(self) -> bool:
        """Whether it is as true of a table that nobody uses yet."""
        return _STYLE.match(self.rule.removeprefix(PREFIX)) is not None


def of(changesets: Sequence[Changeset], *, server_major: int, folder: Path | None = None) -> Iterator[Said]:
    """What squawk says. Raises: ToolFailed when it cannot be run or is not understood.

    Its files lie in `folder` meanwhile: there whoever ends a killed run finds them.
    """
    program = _program()
    prefix = "migrator-lint-" if folder is None else ".lint-"
    with tempfile.TemporaryDirectory(prefix=prefix, dir=folder) as name:
        made = Path(name)
        (made / "squawk.toml").touch()  # no other file of settings counts
        for is_inside in (True, False):
            chosen = [one for one in changesets if one.statements and one.run_in_transaction is is_inside]
            for begin in range(0, len(chosen), AT_ONCE):
                batch = chosen[begin : begin + AT_ONCE]
                yield from _asked(program, made / f"{is_inside}{begin}".lower(), batch, server_major)


def _asked(program: Path, folder: Path, changesets: Sequence[Changeset], server_major: int) -> list[Said]:
    folder.mkdir()
    texts = {}
    for number, changeset in enumerate(changesets):
        written = without_parameters(_BETWEEN.join(changeset.statements) + _BETWEEN)
        text = _OWN_COMMENT.sub("squawk_", written)
        name = f"{number:06}.sql"
        (folder / name).write_text(text, encoding="utf-8", errors="replace", newline="\n")
        texts[name] = (changeset, text)
    said = folder / "said.json"
    done = processes.run(
        [
            *(str(program), "--config", "../squawk.toml", "--reporter", "json", "--pg-version", f"{server_major}.0"),
            "--assume-in-transaction" if changesets[0].run_in_transaction else "--no-assume-in-transaction",
            "*.sql",
        ],
        timeout_s=TIMEOUT_S,
        cwd=folder,
        check=False,
        log=said,  # its end alone would be kept otherwise
    )
    try:
        answers = json.loads(said.read_text(encoding="utf-8") or "[]")
    except ValueError as error:
        raise ToolFailed(f"squawk ended with exit code {done.exit_code}: {done.stderr.strip()[-500:]}") from error
    found: list[Said] = []
    for answer in answers:
        changeset, text = texts[Path(answer["file"]).name]
        one = _said(changeset, text, answer)
        if not (one.is_refusal and found and found[-1].is_refusal and found[-1].changeset is changeset):
            found.append(one)  # after the first a parser only stumbles on
    return found


def _said(changeset: Changeset, text: str, answer: Mapping[str, str | int | None]) -> Said:
    lines = text.split("\n")
    line = int(answer["line"] or 0)
    before = sum(len(one) + 1 for one in lines[:line])
    place = before + min(int(answer["column"] or 0), len(lines[line]) if line < len(lines) else 0)
    starts = [0]
    for statement in changeset.statements:
        starts.append(starts[-1] + len(statement) + len(_BETWEEN))
    number = min(bisect_right(starts, place) - 1, len(changeset.statements) - 1)
    rule = str(answer["rule_name"])
    severity = Severity.ERROR if rule == "syntax-error" else Severity.INFO if _STYLE.match(rule) else Severity.WARNING
    return Said(
        changeset=changeset,
        number=number,
        at=place - starts[number],
        rule=PREFIX + rule,
        severity=severity,
        message=str(answer["message"]),
        help=None if answer.get("help") is None else str(answer["help"]),
    )


def _program() -> Path:
    """The binary that was installed with squawk-cli. Raises: ToolFailed."""
    try:
        files = metadata.distribution("squawk-cli").files or ()
    except metadata.PackageNotFoundError:
        files = ()
    for file in files:
        path = Path(str(file.locate()))
        if path.stem == "squawk" and path.suffix in {"", ".exe"} and path.is_file():
            return path.resolve()
    raise ToolFailed("squawk is not installed", hint="pip install squawk-cli", code="not_found")
