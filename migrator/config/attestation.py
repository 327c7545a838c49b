"""What an environment asks of the rehearsal that must stand behind a run."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, ConfigDict, Field

from migrator.config.settings import Flag, Settings, Text

_AGE = re.compile(r"[1-9][0-9]{0,5} ?[mhdw]")
_SECONDS = {"m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def _age(value: str) -> str:
    if _AGE.fullmatch(value) is None:
        raise ValueError(f"is {value!r}; write a number and m, h, d or w, for example 14d")
    return value


class RequireAttestation(Settings):
    """A run is refused unless a rehearsal of the same changes has passed and was signed."""

    model_config = ConfigDict(populate_by_name=True)

    from_: Text | None = Field(default=None, alias="from")
    """The environment that the rehearsal was made in. Not set: no attestation is asked for."""
    max_age: Annotated[str, AfterValidator(_age)] = "14d"
    """How old it may be: a number and m, h, d or w."""
    with_data: Flag = False
    """Whether a rehearsal on a copy of the schema alone, without any row, is not enough."""
    override: Flag = False
    """Whether --override-gate REASON lets a run pass all the same."""

    @property
    def max_age_s(self) -> int:
        """The age in seconds."""
        return int(self.max_age[:-1]) * _SECONDS[self.max_age[-1]]
