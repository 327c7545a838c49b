"""What a schema is compared with, and what of it does not count."""

from __future__ import annotations

from typing import Literal

from migrator.config.settings import Settings, Text

OnDrift = Literal["refuse", "warn", "ignore"]


class DriftSettings(Settings):
    ignore: tuple[Text, ...] = ()
    """Objects that are left out, with all that belongs to them: schema.name, or kind schema.name, with * and ?."""
    scope: Literal["touched", "all"] = "touched"
    """What preflight looks at: the objects that the changelog touches, or all."""
