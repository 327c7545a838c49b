"""The ECS task that runs migrator inside the VPC, where the database can be reached."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from migrator.config.settings import Flag, Seconds, Settings, Text


class TaskSettings(Settings):
    """What `migrator aws run-task` starts."""

    cluster: Text | None = None
    """The cluster's name or ARN."""
    definition: Text | None = None
    """The task definition: family, family:revision or ARN."""
    container: Text = "migrator"
    """The container of the definition that migrator runs in; its log goes to CloudWatch (awslogs)."""
    subnets: tuple[Text, ...] = ()
    """Subnets from which the database can be reached."""
    security_groups: Annotated[tuple[Text, ...], Field(max_length=5)] = ()
    """Security groups that the database lets in."""
    public_ip: Flag = False
    """Whether the task has a public address, to fetch its image where there is neither NAT nor an endpoint."""
    launch_type: Literal["FARGATE", "EC2", "EXTERNAL"] = "FARGATE"
    """Where it runs."""
    start_timeout_s: Seconds = 600.0
    """Seconds that the task may take until it runs."""
    timeout_s: Seconds = 21600.0
    """Seconds that it may take in all; past that it is asked to stop, and goes back by itself."""
    poll_s: Seconds = 5.0
    """Seconds between two looks at the task and its log."""
