"""Rules that a configuration or a comment switches off, each with its reason."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from migrator.config.lint import LintSettings
from migrator.liquibase.models import Changeset
from migrator.plans.findings.model import Finding, Rule, Severity, SwitchedOff
from migrator.plans.findings.places import Places
from migrator.plans.findings.squawk import PREFIX

WITHOUT_REASON = Rule(
    id="allow-without-reason",
    severity=Severity.ERROR,
    finds="A comment switches a rule off and does not say why.",
    why="Nobody can tell later whether the reason still holds; the rule stays on.",
    safer="Write migrator:allow RULE and the reason on the same line.",
)
UNKNOWN = Rule(
    id="allow-unknown-rule",
    severity=Severity.WARNING,
    finds="A comment or the configuration switches off what is no rule.",
    why="It has no effect: most likely the name is misspelt, and the rule that is meant stays on.",
    safer="Use an id of the rule reference.",
)
UNUSED = Rule(
    id="allow-unused",
    severity=Severity.INFO,
    finds="A comment switches off a rule that finds nothing in its changeset.",
    why="It would hide what a later edit of the changeset brings in.",
    safer="Take the comment out.",
)
RULES = (WITHOUT_REASON, UNKNOWN, UNUSED)
_META = {rule.id for rule in RULES}
_ALLOW = re.compile(
    r"(?P<before>[^\n]*?)\bmigrator:allow\b"
    r"(?:[ \t]+(?P<rules>[\w/*?-]+(?:[ \t]*,[ \t]*[\w/*?-]+)*))?[ \t:]*(?P<reason>[^\n]*)"
)
IN_COMMENT = re.compile(r"^\s*$|--|/\*|^\s*\*|#|<!--|comment", re.IGNORECASE)
_CLOSING = re.compile(r"\s*(-->|\*/|</[\w:]*comment>|[\"']\s*[,}\]]*)+\s*$")


@dataclass(kw_only=True)
class Allowed:
    """What one comment allows."""

    rules: tuple[str, ...]
    reason: str
    line: int | None
    used: set[str] = field(default_factory=set)


def apply(
    found: Sequence[Finding],
    changesets: Sequence[Changeset],
    *,
    settings: LintSettings,
    places: Places,
    known: Mapping[str, Rule],
) -> tuple[list[Finding], list[SwitchedOff]]:
    """What is left, with what is wrong about the switches themselves; and what was switched off."""
    allowed = {changeset.key: _allowed(changeset, places) for changeset in changesets}
    left: list[Finding] = []
    off: list[SwitchedOff] = []
    asked = set()
    for one in found:
        switch = _by_comment(one, allowed.get(one.changeset or "", ()))
        configured = next((rule for rule in settings.off if _matches(rule.rule, one.rule)), None)
        if configured is not None:
            asked.add(configured.rule)
        if switch is not None:
            off.append(SwitchedOff(finding=one, reason=switch.reason, by="changeset"))
        elif configured is not None and one.rule not in _META:
            off.append(SwitchedOff(finding=one, reason=configured.reason, by="configuration"))
        else:
            left.append(one)
    for changeset in changesets:
        left += _wrong(changeset, allowed[changeset.key], known)
    for rule in settings.off:
        if rule.rule not in asked and not _is_known(rule.rule, known):
            told = f"the configuration switches off {rule.rule}, which is no rule"
            left.append(_finding(UNKNOWN, told, None, None))
    return left, off


def _by_comment(finding: Finding, switches: Sequence[Allowed]) -> Allowed | None:
    for switch in switches:
        for pattern in switch.rules:
            if _matches(pattern, finding.rule):
                switch.used.add(pattern)
                if switch.reason:
                    return switch
    return None


def _wrong(changeset: Changeset, switches: Sequence[Allowed], known: Mapping[str, Rule]) -> Iterator[Finding]:
    for switch in switches:
        named = ", ".join(switch.rules) or "a rule that it does not name"
        if not switch.reason:
            yield _finding(WITHOUT_REASON, f"switches off {named} without a reason", changeset, switch.line)
            continue
        for pattern in switch.rules:
            if pattern in switch.used:
                continue
            if not _is_known(pattern, known):
                yield _finding(UNKNOWN, f"switches off {pattern}, which is no rule", changeset, switch.line)
            elif not any(_matches(pattern, rule.id) and rule.asks_database for rule in known.values()):
                yield _finding(UNUSED, f"switches off {pattern}, which finds nothing here", changeset, switch.line)


def _allowed(changeset: Changeset, places: Places) -> list[Allowed]:
    """By the changeset's own comment, which every format has, and by comments in its text, where a format has them."""
    line = places.line_of(changeset)
    found = [Allowed(rules=rules, reason=reason, line=line) for rules, reason, _ in _read(changeset.comment or "")]
    known = {(rule) for one in found for rule in one.rules}
    if (changeset.file or "").lower().endswith(".json"):
        return found
    text, first = places.text_of(changeset)
    if "migrator:allow" not in text:
        return found
    for rules, reason, ahead in _read(text):
        if not rules or not known.issuperset(rules):
            found.append(Allowed(rules=rules, reason=reason, line=first + ahead))
        else:
            for one in found:  # the same comment, in its place
                if one.rules == rules and one.line == line:
                    one.line = first + ahead
    return found


def _read(text: str) -> Iterator[tuple[tuple[str, ...], str, int]]:
    """Rules, reason, and how many lines come before."""
    for match in _ALLOW.finditer(text):
        if IN_COMMENT.search(match["before"]) is None:
            continue
        rules = tuple(part.strip() for part in (match["rules"] or "").split(",") if part.strip())
        yield rules, _CLOSING.sub("", match["reason"]).strip(), text.count("\n", 0, match.start())


def _matches(pattern: str, rule: str) -> bool:
    return fnmatchcase(rule, pattern) or fnmatchcase(rule, PREFIX + pattern)


def _is_known(pattern: str, known: Mapping[str, Rule]) -> bool:
    return pattern.startswith(PREFIX) or any(_matches(pattern, rule) for rule in known)


def _finding(rule: Rule, message: str, changeset: Changeset | None, line: int | None) -> Finding:
    if changeset is None:
        return rule.broken(message, line=line)
    return rule.broken(message, changeset=changeset.key, file=changeset.file, line=line)
