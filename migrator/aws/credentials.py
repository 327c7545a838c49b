"""How long credentials hold out: a run that outlasts them could not let users in again."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

_IN_VARIABLES = "env"  # botocore's word for where it found them


@dataclass(frozen=True, kw_only=True)
class Term:
    """lasting: keys of a user. renewed: by themselves, as those of a role. ends: at `until`. unknown: some time."""

    kind: Literal["lasting", "renewed", "ends", "unknown"]
    source: str  # where they come from, in botocore's words: env, container-role, shared-credentials-file
    until: datetime | None = None

    def left_s(self, now: datetime) -> float | None:
        """Seconds from `now` to their end; None where that is not known, or never comes."""
        return None if self.until is None else (self.until - now).total_seconds()

    def said(self, now: datetime) -> str:
        """One sentence for a person."""
        left_s = self.left_s(now)
        if self.until is not None and left_s is not None:
            return (
                f"the credentials of AWS ({self.source}) end at {self.until:%Y-%m-%d %H:%M} UTC, in "
                f"{max(0.0, left_s) / 60:.0f} min, and nothing renews them"
            )
        return {
            "lasting": f"the credentials of AWS ({self.source}) do not end",
            "renewed": f"the credentials of AWS ({self.source}) are renewed by themselves",
        }.get(
            self.kind,
            f"the credentials of AWS ({self.source}) are a session's, and nothing says when it ends: often after an "
            "hour",
        )


def term_of(credentials: Any) -> Term:
    """The term of what botocore found.

    A role that is assumed with them is assumed anew as long as they hold, so theirs is the one that counts.
    """
    source = str(getattr(credentials, "method", "") or "explicit")
    until = getattr(credentials, "_expiry_time", None)  # of those that can be refreshed; there is no public name
    if source == _IN_VARIABLES and until is not None:  # refreshed from the same variables, which do not change
        return Term(kind="ends", source=source, until=until)
    if hasattr(credentials, "refresh_needed"):
        return Term(kind="renewed", source=source)
    return Term(kind="unknown" if credentials.token else "lasting", source=source)
