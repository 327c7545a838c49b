"""How AWS is reached: [aws] for everything, and a section `aws` of an environment over it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from migrator.config.settings import Seconds, Settings, Text

Region = Annotated[str, StringConstraints(pattern=r"^[a-z]{2}(-[a-z]+)+-\d$")]
RoleArn = Annotated[str, StringConstraints(pattern=r"^arn:aws[a-z-]*:iam::\d{12}:role/\S+$")]
Endpoint = Annotated[str, StringConstraints(pattern=r"^https?://[^\s/?#]+/?$")]


class AwsSettings(Settings):
    """Everything is at AWS's own defaults where nothing is said: its variables, its files, the role of the machine."""

    region: Region | None = None
    """As eu-central-1. Default: what AWS_REGION, the profile or the machine says."""
    profile: Text | None = None
    """A profile of ~/.aws/config."""
    role_arn: RoleArn | None = None
    """A role that is assumed, and assumed again before it expires."""
    endpoint_url: Endpoint | None = None
    """Where all services answer, in place of AWS: a test server."""
    s3_endpoint_url: Endpoint | None = None
    """Where S3 answers, in place of AWS: another object store that speaks its language."""
    attempts: Annotated[int, Field(strict=True, ge=1, le=20)] = 6
    """How often a call that changes nothing by being repeated is made in all, when AWS is busy or out of reach."""
    longest_pause_s: Seconds = 20.0
    """Seconds between two attempts, at most; they begin at half a second and double, with chance in them."""
    connect_timeout_s: Seconds = 5.0
    """Seconds that a service has to accept a connection."""
    read_timeout_s: Seconds = 60.0
    """Seconds of silence after which an answer does not count as coming any more."""
