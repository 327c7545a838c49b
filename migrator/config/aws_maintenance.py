"""What holds users off at AWS: the settings of the maintenance providers that work there."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints

from migrator.config.settings import Seconds, Settings, Text

LONGEST_PAGE = 1024  # characters, by the load balancer's own limit
PAGE = (
    '<!doctype html><meta charset="utf-8"><meta http-equiv="refresh" content="{retry_after_s}">'
    "<title>Maintenance</title><p>We are working on it. This page looks again by itself."
)

ListenerArn = Annotated[
    str, StringConstraints(pattern=r"^arn:[a-z-]+:elasticloadbalancing:[a-z0-9-]+:\d{12}:listener/app/\S+$")
]
TargetGroupArn = Annotated[
    str, StringConstraints(pattern=r"^arn:[a-z-]+:elasticloadbalancing:[a-z0-9-]+:\d{12}:targetgroup/\S+$")
]
ParameterName = Annotated[str, StringConstraints(pattern=r"^/?[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*$", max_length=1011)]


def _short_enough(page: str) -> str:
    longest = len(page) + len("604800") - len("{retry_after_s}") * page.count("{retry_after_s}")
    if longest > LONGEST_PAGE:
        raise ValueError(f"has {longest} characters; a load balancer holds {LONGEST_PAGE}")
    return page


class EcsProvider(Settings):
    """A service of ECS goes to zero tasks, its auto scaling suspended, and comes back to what it was."""

    type: Literal["ecs"]
    cluster: Text
    """The cluster's name or ARN."""
    service: Text
    """The service's name."""
    timeout_s: Seconds = 900.0
    """Seconds that the tasks may take to stop, and to be steady again."""
    poll_s: Seconds = 15.0
    """Seconds between two looks at the service."""


class AlbProvider(Settings):
    """A rule of an Application Load Balancer that comes before all others and answers 503."""

    type: Literal["alb"]
    listener: ListenerArn
    """The listener's ARN."""
    hosts: Annotated[tuple[Text, ...], Field(max_length=3)] = ()
    """Only requests for these host names, * and ? included. []: every request."""
    page: Annotated[Text, AfterValidator(_short_enough)] = PAGE
    """The body of the answer, at most 1024 characters; {retry_after_s} in it is filled in."""
    content_type: Literal["text/html", "text/plain", "application/json"] = "text/html"
    """What the page is."""
    retry_after_s: Annotated[int, Field(strict=True, ge=1, le=604800)] = 60
    """Seconds after which the page loads itself anew. A rule cannot set the header Retry-After: target_group can."""
    target_group: TargetGroupArn | None = None
    """Send requests there instead of answering with the page: a function, say, that answers 503 with Retry-After."""


class CloudFrontProvider(Settings):
    """Behaviours of a distribution are switched to another of its origins, which serves the maintenance page."""

    type: Literal["cloudfront"]
    distribution: Annotated[str, StringConstraints(pattern=r"^[A-Z0-9]{6,32}$")]
    """The distribution's id."""
    origin: Text
    """The id of the maintenance origin; the distribution has it already."""
    behaviors: Annotated[tuple[Text, ...], Field(min_length=1)] = ("default",)
    """The behaviours that are switched: "default", or path patterns as the distribution has them."""
    invalidate: Annotated[bool, Field(strict=True)] = False
    """Whether what is cached is dropped after each switch (paths /*)."""
    timeout_s: Seconds = 1800.0
    """Seconds that a change may take to reach every edge."""
    poll_s: Seconds = 20.0
    """Seconds between two looks at the distribution."""


class SsmProvider(Settings):
    """A parameter of the Parameter Store that the application watches: JSON with on, run, since and mode."""

    type: Literal["ssm"]
    parameter: ParameterName
    """The parameter's name, as /shop/maintenance. Of the type String; it may be there already."""
