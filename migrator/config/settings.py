"""What every table of the configuration is made of."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

LONGEST_NAME_BYTES = 63  # PostgreSQL cuts longer identifiers off without an error


def _not_blank(value: object) -> object:
    if isinstance(value, str) and not value.strip():
        raise ValueError("is empty")
    return value


def _name(value: str) -> str:
    if len(value.encode()) > LONGEST_NAME_BYTES:
        raise ValueError(f"is longer than {LONGEST_NAME_BYTES} bytes; PostgreSQL would cut it off")
    if "\0" in value:
        raise ValueError("holds a NUL character")
    return value


Seconds = Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]
Flag = Annotated[bool, Field(strict=True)]
Text = Annotated[str, StringConstraints(min_length=1, pattern=r"\S")]
FilePath = Annotated[Path, BeforeValidator(_not_blank)]
Identifier = Annotated[Text, AfterValidator(_name)]


class Settings(BaseModel):
    """What every part of the configuration has in common."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)
