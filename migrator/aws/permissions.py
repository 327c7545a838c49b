"""Whether AWS allows what a policy asks for, by IAM's own simulation: nothing is carried out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from migrator.aws.account import Account
from migrator.aws.policy import Statement
from migrator.errors import AwsFailed

_ASSUMED = re.compile(r"arn:([a-z-]+):sts::(\d{12}):assumed-role/([^/]+)/.*")
_MOST_ACTIONS = 50  # in one call


@dataclass(frozen=True, kw_only=True)
class Missing:
    """An action that is not allowed."""

    action: str
    resource: str
    why: str  # implicitDeny: nothing allows it; explicitDeny: something forbids it


def missing(account: Account, found: Sequence[Statement]) -> tuple[Missing, ...]:
    """What of the statements the caller's own role is not allowed. Raises: AwsFailed where it cannot be told."""
    identity = account.identity()
    assumed = _ASSUMED.fullmatch(identity.arn)
    source = f"arn:{assumed[1]}:iam::{assumed[2]}:role/{assumed[3]}" if assumed else identity.arn
    if source.endswith(":root"):
        return ()
    result: list[Missing] = []
    for statement in found:
        for resource in statement.resources:
            result += _missing(account, source, statement, resource)
    return tuple(dict.fromkeys(result))


def _missing(account: Account, source: str, statement: Statement, resource: str) -> list[Missing]:
    iam = account.service("iam", AwsFailed)
    context = [
        {"ContextKeyName": key, "ContextKeyValues": [value], "ContextKeyType": "string"}
        for entries in statement.condition.values()
        for key, value in entries.items()
    ]
    answers: list[Any] = []
    marker: dict[str, str] = {}
    while True:
        page = _page(iam, source, statement.actions[:_MOST_ACTIONS], resource, {"ContextEntries": context, **marker})
        answers += page["EvaluationResults"]
        if not page.get("IsTruncated"):
            break
        marker = {"Marker": page["Marker"]}
    return [
        Missing(action=answer["EvalActionName"], resource=resource, why=answer["EvalDecision"])
        for answer in answers
        if answer["EvalDecision"] != "allowed"
    ]


def _page(iam: Any, source: str, actions: Sequence[str], resource: str, more: dict[str, Any]) -> Any:
    return iam.idempotent(
        lambda iam: iam.simulate_principal_policy(
            PolicySourceArn=source, ActionNames=list(actions), ResourceArns=[resource], **more
        ),
        doing="Asking IAM what these credentials may do",
    )
