"""The few signs of the console, and what stands for them where an encoding has none of them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Symbols:
    """One sign each, all of the same width."""

    done: str
    failed: str
    undone: str
    skipped: str
    warning: str
    running: str
    bullet: str
    bar_full: str
    bar_empty: str
    spinner: tuple[str, ...]

    @classmethod
    def for_encoding(cls, encoding: str) -> Symbols:
        """Those that a stream of this encoding can write."""
        try:
            for name in vars(UNICODE).values():
                "".join(name).encode(encoding)
        except (UnicodeEncodeError, LookupError):
            return ASCII
        return UNICODE

    def of(self, status: str) -> str:
        """The sign for the status of a step or a changeset."""
        match status:
            case "done" | "executed":
                return self.done
            case "failed" | "failed_ignored" | "interrupted":
                return self.failed
            case "undone" | "rolled back" | "rolled_back":
                return self.undone
            case _:
                return self.skipped


UNICODE = Symbols(
    done="✓",
    failed="✗",
    undone="↶",
    skipped="·",
    warning="!",
    running="…",
    bullet="•",
    bar_full="━",
    bar_empty="╌",
    spinner=tuple("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"),
)
ASCII = Symbols(
    done="+",
    failed="x",
    undone="<",
    skipped="-",
    warning="!",
    running=">",
    bullet="-",
    bar_full="#",
    bar_empty=".",
    spinner=tuple("|/-\\"),
)
