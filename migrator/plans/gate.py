"""What an environment insists on before a run may begin, as a plan shows it."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class GateState(BaseModel):
    """One gate at one moment."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(description="Which gate.")
    is_open: bool = Field(description="Whether a run would pass just now.")
    says: str = Field(description="What it saw, in one sentence.")
    overridden: str | None = Field(default=None, description="Why a person let a run pass it closed; null: nobody did.")
    opens_it: str | None = Field(default=None, description="What a person does about a closed one.")
