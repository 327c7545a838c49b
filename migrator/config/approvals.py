"""What an environment asks of other people before a run."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from migrator.config.settings import Settings


class ApprovalSettings(Settings):
    """A run is refused unless so many people have approved its plan, each with a key of their own."""

    required: Annotated[int, Field(strict=True, ge=0, le=20)] = 0
    """How many keys of signing.public_keys must have signed the plan, the planner's and the run's own left out."""
