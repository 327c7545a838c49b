"""A task of ECS that runs migrator: started, followed by its log, and ended with its exit code."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from migrator.aws.account import Account
from migrator.aws.refusals import code_of
from migrator.aws.service import Service
from migrator.config.task import TaskSettings
from migrator.errors import AwsFailed, ConfigError, Unfinished

_BY = "migrator-run-task"
_QUIET_LOOKS = 2  # at the log of a task that has ended: CloudWatch is a little behind
_STOPPED = "STOPPED"
_HIDDEN_S = 60.0  # how long ECS may not yet know of a task that it has just started


@dataclass(frozen=True, kw_only=True)
class Log:
    """Where a container's log is in CloudWatch."""

    group: str
    stream: str


@dataclass(kw_only=True)
class Task:
    """One start of the task. `start` first; then `lines` until there are no more; then `exit_code`."""

    account: Account
    settings: TaskSettings
    token: str  # what makes a start that is asked for twice happen once
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic
    arn: str | None = field(default=None, init=False)
    log: Log | None = field(default=None, init=False)
    warn: Callable[[str], None] = lambda _text: None
    _started_at: float = field(default=0.0, init=False)
    _log_failed: bool = field(default=False, init=False)  # and that was told
    _token: str | None = field(default=None, init=False)  # where the log is read on
    _unread: list[str] = field(default_factory=list, init=False)

    def start(self, command: Sequence[str]) -> str:
        """The task is on its way. Returns its ARN. Raises: AwsFailed with ECS's reasons, ConfigError."""
        settings = self.settings
        if settings.cluster is None or settings.definition is None:
            raise ConfigError(
                "nothing says which task to start",
                hint='write cluster = "..." and definition = "..." under [environments.NAME.task]',
            )
        stream = self._stream(settings.definition)
        network = {
            "subnets": list(settings.subnets),
            "securityGroups": list(settings.security_groups),
            "assignPublicIp": "ENABLED" if settings.public_ip else "DISABLED",
        }
        answer = self._ecs.idempotent(
            lambda ecs: ecs.run_task(
                cluster=settings.cluster,
                taskDefinition=settings.definition,
                launchType=settings.launch_type,
                clientToken=self.token,
                startedBy=_BY,
                overrides={"containerOverrides": [{"name": settings.container, "command": list(command)}]},
                **({"networkConfiguration": {"awsvpcConfiguration": network}} if settings.subnets else {}),
            ),
            doing="Starting the task",
        )
        if not answer["tasks"]:
            why = "; ".join(f"{one.get('reason')} {one.get('detail', '')}".strip() for one in answer["failures"])
            raise AwsFailed(f"ECS did not start the task: {why or 'it says no more'}.", code="task_not_started")
        self.arn = str(answer["tasks"][0]["taskArn"])
        self._started_at = self.clock()
        prefix, group = stream
        self.log = Log(group=group, stream=f"{prefix}/{settings.container}/{self.arn.rpartition('/')[2]}")
        return self.arn

    def lines(self, on_start: Callable[[str], None] = lambda _status: None) -> Iterator[str]:
        """The lines of the log as they come, until the task has ended and its log with it. Goes on where it was left.

        `on_start` is told how far the task is until it runs. Raises: AwsFailed when it does not start in time;
        Unfinished where it can no longer be followed.
        """
        began_at, status, quiet = self.clock(), "", 0
        asked_to_stop = False
        while quiet < _QUIET_LOOKS:
            now = str(self._described().get("lastStatus"))
            if now != status:
                on_start(now)
                status = now
            self._unread += self._events()
            if now == _STOPPED:
                quiet = 0 if self._unread else quiet + 1
            while self._unread:
                yield self._unread.pop(0)
            waited_s = self.clock() - began_at
            if now in ("PROVISIONING", "PENDING", "ACTIVATING") and waited_s > self.settings.start_timeout_s:
                self.stop("it did not start in time")
                raise AwsFailed(
                    f"The task was {now} for {waited_s:.0f} s and was stopped.",
                    hint="look at its events in the console; task.start_timeout_s is the limit",
                    code="task_not_started",
                )
            if waited_s > self.settings.timeout_s and not asked_to_stop:
                self.stop("past task.timeout_s")
                asked_to_stop = True
            self.sleep(self.settings.poll_s)

    def stop(self, reason: str) -> None:
        """The task was asked to stop: migrator gets SIGTERM and goes back by itself. Safe to repeat.

        Raises: Unfinished.
        """
        try:
            self._ecs.idempotent(
                lambda ecs: ecs.stop_task(cluster=self.settings.cluster, task=self.arn, reason=f"migrator: {reason}"),
                doing="Stopping the task",
            )
        except AwsFailed as error:
            raise self._lost(error.message) from error

    def exit_code(self) -> int:
        """The exit code of migrator in the task that has ended.

        Raises: AwsFailed where it never ran; Unfinished where it was ended from outside, or cannot be asked.
        """
        found = self._described()
        containers = [one for one in found.get("containers", []) if one.get("name") == self.settings.container]
        code = next((one["exitCode"] for one in containers if one.get("exitCode") is not None), None)
        why = "; ".join(
            dict.fromkeys(
                str(text) for text in (found.get("stoppedReason"), *(one.get("reason") for one in containers)) if text
            )
        )
        if code is None and found.get("stopCode") == "TaskFailedToStart":
            raise AwsFailed(
                f"The task did not start: {why}.",
                hint="see docs/aws.md for what it needs: image, roles, subnets, log group",
                code="task_not_started",
            )
        if code is None or code == 137:  # SIGKILL: stopTimeout was over, or memory
            raise Unfinished(
                f"The task was ended before migrator was: {why or 'no reason is given'}.",
                hint="`migrator aws run-task --env NAME -- recover --env NAME` goes back, or carries on",
            )
        return int(code)

    def _described(self) -> dict[str, Any]:
        """Raises: Unfinished where nothing can be told of the task: the run in it may be at work."""
        try:
            tasks: list[dict[str, Any]] = self._ecs.idempotent(
                lambda ecs: ecs.describe_tasks(cluster=self.settings.cluster, tasks=[self.arn]),
                doing="Looking at the task",
            )["tasks"]
        except AwsFailed as error:
            raise self._lost(error.message) from error
        if tasks:
            return tasks[0]
        if self.clock() - self._started_at > _HIDDEN_S:
            raise self._lost("ECS does not find it")
        return {"lastStatus": "PROVISIONING"}  # what was started a moment ago is not shown everywhere

    def _lost(self, why: str) -> Unfinished:
        return Unfinished(
            f"The task {self.arn} was started, and cannot be followed: {why}.",
            hint="The run in it may be at work: look at the task, and at `migrator status`, before anything is started "
            "again",
            code="task_lost",
        )

    def _stream(self, definition: str) -> tuple[str, str]:
        found = self._ecs.idempotent(
            lambda ecs: ecs.describe_task_definition(taskDefinition=definition),
            doing=f"Looking at the task definition {definition}",
        )["taskDefinition"]
        container = next((one for one in found["containerDefinitions"] if one["name"] == self.settings.container), None)
        options = ((container or {}).get("logConfiguration") or {}).get("options", {})
        if container is None or not {"awslogs-group", "awslogs-stream-prefix"} <= set(options):
            what = "has no container" if container is None else "sends no log to CloudWatch from the container"
            raise AwsFailed(
                f"The task definition {definition} {what} {self.settings.container}.",
                hint="see docs/aws/task-definition.json: logDriver awslogs, awslogs-group, awslogs-stream-prefix",
                code="task_definition",
            )
        return options["awslogs-stream-prefix"], options["awslogs-group"]

    def _events(self) -> list[str]:
        where = self.log
        if where is None:
            return []
        more = {"nextToken": self._token} if self._token is not None else {}
        try:
            answer = self.account.service("logs").idempotent(
                lambda logs: logs.get_log_events(
                    logGroupName=where.group, logStreamName=where.stream, startFromHead=True, **more
                ),
                doing="Reading the task's log",
            )
        except AwsFailed as error:
            # Without one nothing was written yet. The run does not depend on whether its log can be read.
            if code_of(error) != "ResourceNotFoundException" and not self._log_failed:
                self._log_failed = True
                self.warn(f"the task is followed without its log: {error.message}")
            return []
        self._token = answer.get("nextForwardToken", self._token)
        return [str(event["message"]) for event in answer["events"]]

    @cached_property
    def _ecs(self) -> Service:
        return self.account.service("ecs")
