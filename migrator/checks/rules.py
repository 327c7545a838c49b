"""SQL invariants: a value that a migration must not change, or a query that must return no row.

One rule a file, one SELECT a rule. Comments that begin with `-- migrator:` say what kind of rule it is:

    -- migrator: unchanged
    select sum(total) from orders

    -- migrator: violations, when: after, inside, severity: warning
    select id from orders where customer_id is null
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from migrator.checks.documents import complaint, read_text
from migrator.checks.results import Phase, Severity
from migrator.errors import ConfigError
from migrator.postgres.statement import NotOneStatement, single

RULE_WORDS = ("select", "with", "values", "table")
"""The words that a rule may begin with."""

_DIRECTIVE = re.compile(r"^[ \t]*--[ \t]*migrator[ \t]*:(.*)$", re.IGNORECASE)
_REMARK = re.compile(r"\(.*$")
_PHASES: tuple[Phase, ...] = ("before", "after")
_SEVERITIES: tuple[Severity, ...] = ("critical", "warning", "info")
_HINT = "Write `-- migrator: unchanged` or `-- migrator: violations`, and one SELECT."


class Kind(StrEnum):
    UNCHANGED = "unchanged"  # one value, the same before and after
    VIOLATIONS = "violations"  # no rows


@dataclass(frozen=True, kw_only=True)
class Invariant:
    name: str  # the file's name
    path: Path
    kind: Kind
    sql: str  # one statement without its semicolon
    when: frozenset[Phase] = frozenset(_PHASES)
    inside: bool = False  # run it inside the transaction, where only marked rules are
    severity: Severity = "critical"
    redact: tuple[str, ...] = ()  # columns whose values are not shown


def load(paths: Sequence[Path], *, redact: Sequence[str] = ()) -> list[Invariant]:
    """The invariants of these files, in this order; a file that is named twice counts once.

    Raises: ConfigError with file and line: no kind, an unknown word, not exactly one SELECT.
    """
    found: dict[str, Invariant] = {}
    for path in dict.fromkeys(path.resolve() for path in paths):
        invariant = _invariant(path)
        if invariant.name in found:
            raise complaint(
                path, None, f"there is also {found[invariant.name].path}", hint="Give one of the files another name."
            )
        found[invariant.name] = replace(invariant, redact=tuple(redact))
    return list(found.values())


def _invariant(path: Path) -> Invariant:
    text = read_text(path)
    directives = _Directives(path)
    for number, line in enumerate(text.splitlines(), 1):
        match = _DIRECTIVE.match(line)
        if match:
            directives.read(number, _REMARK.sub("", match.group(1)))
    if directives.kind is None:
        raise complaint(path, 1, "does not say what kind of rule it is", hint=_HINT)
    if directives.kind is Kind.UNCHANGED and directives.when not in (None, frozenset(_PHASES)):
        raise complaint(
            path, directives.line, "`unchanged` compares before and after", hint="Remove `when`, or use `violations`."
        )
    try:
        sql = single(text, first_words=RULE_WORDS)
    except NotOneStatement as error:
        raise complaint(
            path, None, str(error), hint="A rule is one SELECT; put a second one into a second file."
        ) from error
    return Invariant(
        name=path.name,
        path=path,
        kind=directives.kind,
        sql=sql,
        when=directives.when or frozenset(_PHASES),
        inside=directives.inside,
        severity=directives.severity,
    )


class _Directives:
    """What the comments of one file say."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.line: int | None = None
        self.kind: Kind | None = None
        self.when: frozenset[Phase] | None = None
        self.inside = False
        self.severity: Severity = "critical"

    def read(self, line: int, text: str) -> None:
        self.line = line
        words = re.findall(r"\w+|[:=]|[^\s,;]", text)
        if not words:
            raise self._error("says nothing after `migrator:`")
        while words:
            word = words.pop(0).lower()
            if word in ("when", "severity"):
                self._value(word, words)
            elif word == "inside":
                self.inside = True
            elif word in (Kind.UNCHANGED, Kind.VIOLATIONS):
                if self.kind is not None:
                    raise self._error(
                        "says twice what kind of rule it is", hint="Put a second rule into a second file."
                    )
                self.kind = Kind(word)
            else:
                close = difflib.get_close_matches(word, ("unchanged", "violations", "inside", "when", "severity"), n=1)
                raise self._error(f"the word {word!r} is not known", hint=f"Is it {close[0]!r}?" if close else _HINT)

    def _value(self, key: str, words: list[str]) -> None:
        if words and words[0] in (":", "="):
            words.pop(0)
        if key == "severity":
            word = words.pop(0).lower() if words else ""
            for severity in _SEVERITIES:
                if severity == word:
                    self.severity = severity
                    return
            raise self._error(f"`severity` is {word!r}", hint=f"It is one of {', '.join(_SEVERITIES)}.")
        phases: set[Phase] = set()
        while words and words[0].lower() in _PHASES:
            word = words.pop(0).lower()
            phases.update(phase for phase in _PHASES if phase == word)
        if not phases:
            raise self._error("`when` says neither before nor after", hint="Write `when: before, after`.")
        self.when = frozenset(phases)

    def _error(self, message: str, hint: str = _HINT) -> ConfigError:
        return complaint(self._path, self.line, message, hint=hint)
