"""The automated backups of RDS, looked at instead of made: how far back, and how close to now, they reach."""

from __future__ import annotations

from datetime import UTC, datetime

from migrator.backups.server import Described
from migrator.config.rds import RdsSettings
from migrator.errors import BackupFailed


def check(found: Described, settings: RdsSettings, *, now: datetime | None = None) -> str:
    """The automated backups reach as far as the settings ask. Returns how far, in words.

    Raises: BackupFailed where there are none, or where the latest restorable time lies too far behind.
    """
    now = now or datetime.now(UTC)
    if found.retention_days < settings.min_retention_days:
        kept = f"kept for {found.retention_days} days" if found.retention_days else "off"
        raise BackupFailed(
            f"The automated backups of {found.id} are {kept}; rds.min_retention_days is {settings.min_retention_days}.",
            hint="raise the retention (aws rds modify-db-instance --backup-retention-period), or the setting's value "
            "is too high",
            code="pitr_retention",
        )
    until = found.restorable_until
    if until is None:
        raise BackupFailed(
            f"{found.id} has no latest restorable time: its first automated backup is not finished.",
            hint='Wait for it, or take a snapshot: backup.kinds = ["rds"].',
            code="pitr_lag",
        )
    until = until.astimezone(UTC)
    behind_s = (now - until).total_seconds()
    if behind_s > settings.max_lag_s:
        raise BackupFailed(
            f"{found.id} can be restored up to {until:%Y-%m-%d %H:%M:%S} UTC only, {behind_s:.0f} s ago; rds.max_lag_s "
            f"is {settings.max_lag_s:g}.",
            hint="Look at the instance's events: its transaction logs are not archived.",
            code="pitr_lag",
        )
    return f"kept for {found.retention_days} days, restorable up to {until:%Y-%m-%d %H:%M:%S} UTC"
