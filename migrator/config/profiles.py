"""The two profiles: named sets of defaults. What is not here is the same in both and stands in the models."""

from __future__ import annotations

from migrator.config.sources import Layer

GUARDED: Layer = {
    "way": "auto",
    "proof": "auto",
    "maintenance.database": "offline",
    "backup.kinds": ("dump",),
    "backup.restore": "automatic",
    "checks.inside": "all",
    "limits.lock_timeout_s": 10.0,
    "limits.lock_retries": 3,
    "limits.max_blocked_s": None,
}

# No backup is made here: at this size one exists already. At RDS it is verified: kinds is ["pitr"] there.
ONLINE: Layer = {
    "way": "auto",  # atomic without a fallback; what says runInTransaction=false is done in place
    "proof": "write_set",
    "maintenance.database": "none",
    "backup.kinds": (),
    "backup.restore": "never",
    "checks.inside": "marked",
    "checks.inside_timeout_s": 2.0,
    "limits.lock_timeout_s": 0.5,
    "limits.lock_retries": 20,
    "limits.max_blocked_s": 5.0,
}


def profile(name: str, *, protected: bool) -> tuple[Layer, str]:
    """The settings that the profile gives to an environment, and the words that name it as their source."""
    if name == "online":
        return ONLINE, "profile online"
    if protected:
        return {**GUARDED, "backup.restore": "ask"}, "profile guarded (protected)"
    return GUARDED, "profile guarded"
