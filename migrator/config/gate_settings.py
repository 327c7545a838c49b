"""Settings that say what an environment insists on: a protected one takes them from the file alone."""

from __future__ import annotations

from collections.abc import Mapping

from migrator.errors import ConfigError

_SECTIONS = frozenset(
    {
        *("approvals", "require_attestation", "on_drift", "drift", "lint", "protected", "signing"),
        *("maintenance_window", "on_overrun"),
    }
)


def among(given: Mapping[str, object]) -> list[str]:
    """Those among the dotted keys of a command line. One announced window, as --window gives it, is none of them."""
    return sorted(
        key
        for key, value in given.items()
        if key.partition(".")[0] in _SECTIONS and not (key == "maintenance_window" and _is_announced(value))
    )


def refuse(environment: str, keys: list[str]) -> None:
    """Raises: ConfigError where there is a key: the environment is protected by the file."""
    if keys:
        raise ConfigError(
            f"{', '.join(f'--set {key}' for key in keys)}: {environment} is protected, and takes this from the file "
            "alone",
            hint="Change it in migrator.toml, where others see it.",
        )


def _is_announced(value: object) -> bool:
    return isinstance(value, list) and len(value) == 1 and isinstance(value[0], dict) and set(value[0]) == {"announced"}
