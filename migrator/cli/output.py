"""Results go to standard output, everything else to standard error."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence


def result(text: str) -> None:
    """The text is on standard output. A reader that has gone away (`| head`) does not end the command."""
    try:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
    except BrokenPipeError:
        # What is still in the buffer must not raise again when Python closes the stream.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def json_result(value: object) -> None:
    """The value is on standard output as one JSON document."""
    result(json.dumps(value, ensure_ascii=False, indent=2))


def lines(texts: Iterable[str]) -> None:
    """Each text is a line on standard output."""
    for text in texts:
        result(text)


def answer(document: object, texts: Iterable[str], *, as_json: bool) -> None:
    """The document is on standard output as JSON; or the texts are, for a person."""
    if as_json:
        json_result(document)
    else:
        lines(texts)


def note(text: str) -> None:
    """The text is on standard error."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their widest cell, two spaces apart."""
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in (head, *rows)
    )
