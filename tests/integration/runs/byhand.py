"""The program's own commands, called in this process on a shop."""

from __future__ import annotations

import io
import json
import os
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from typing import Any
from unittest import mock

from migrator.cli import boundary
from migrator.cli.app import app
from tests.shop import ENVIRONMENT, Shop


@dataclass(frozen=True, kw_only=True)
class Answer:
    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        found = json.loads(self.out)
        assert isinstance(found, dict)
        return found


def call(shop: Shop, *arguments: str) -> Answer:
    """What the command said."""
    config = shop.write_config()
    settings = [part for key, value in shop.settings.items() for part in ("--set", f"{key}={value}")]
    named = [] if arguments[0] in {"approve", "resume", "show"} else ["--env", ENVIRONMENT]
    out, err = io.StringIO(), io.StringIO()
    with mock.patch.dict(os.environ, shop.environ()), redirect_stdout(out), redirect_stderr(err):
        code = boundary.run(app, [*arguments, *named, "--config", str(config), *settings])
    return Answer(code=code, out=out.getvalue(), err=err.getvalue())


def backup(shop: Shop) -> str:
    """The id of a backup of the shop as it is now."""
    made = call(shop, "backup", "create", "--json")
    assert made.code == 0, made.err + made.out
    return str(made.json["backup_id"])
