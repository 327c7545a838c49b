"""AWS: one place where clients are made, calls are tried again, waits end, and errors become our own.

    aws = Account(settings)                              # migrator.config.aws.AwsSettings
    ecs = aws.service("ecs", MaintenanceFailed)          # the error that its refusals become
    found = ecs.idempotent(lambda ecs: ecs.describe_services(...), doing="Looking for the service shop")
    ecs.once(lambda ecs: ecs.create_rule(...), doing="Putting the rule in front")

boto3 is imported when the first call is made, and its types never leave the caller's module.
"""

from migrator.aws.account import Account
from migrator.aws.service import Service

__all__ = ["Account", "Service"]
