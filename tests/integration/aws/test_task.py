"""migrator as a task of ECS: started, followed, stopped, and ended with the exit code of what ran in it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from migrator.aws.task import Task
from migrator.config.task import TaskSettings
from migrator.errors import AwsFailed, Unfinished
from tests.integration.aws.server import REGION, Harmed, Shop, error


@dataclass
class Inside:
    """What becomes of the task, told to whoever asks ECS: the test's server starts tasks and ends none."""

    account: Harmed
    group: str
    statuses: list[str]
    exit_code: int | None = 0
    reason: str = "Essential container in task exited"
    stop_code: str = "EssentialContainerExited"
    stopped_for: list[str] = field(default_factory=list)

    def harm(self, name: str, call: Callable[[], Any]) -> Any:
        answer = call()
        if name == "ecs:DescribeTasks":
            task = answer["tasks"][0]
            now = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
            task["lastStatus"] = now
            task["containers"] = [{"name": "migrator", "lastStatus": now}]
            if now == "STOPPED":
                task |= {"stoppedReason": self.reason, "stopCode": self.stop_code}
                if self.exit_code is not None:
                    task["containers"][0]["exitCode"] = self.exit_code
        if name == "ecs:StopTask":
            self.stopped_for.append("stop")
            self.statuses = ["DEACTIVATING", "STOPPED"]
        return answer

    def writes(self, task: Task, *lines: str) -> None:
        assert task.log is not None
        logs = self.account.client("logs")
        now = int(time.time() * 1000)
        logs.create_log_stream(logGroupName=task.log.group, logStreamName=task.log.stream)
        logs.put_log_events(
            logGroupName=task.log.group,
            logStreamName=task.log.stream,
            logEvents=[{"timestamp": now, "message": line} for line in lines],
        )


@pytest.fixture
def settings(at_aws: Shop) -> TaskSettings:
    ecs, logs = (at_aws.account.client(name) for name in ("ecs", "logs"))
    name = f"migrator-{at_aws.key}"
    ecs.create_cluster(clusterName=name)
    logs.create_log_group(logGroupName=f"/{name}")
    ecs.register_task_definition(
        family=name,
        cpu="512",
        memory="1024",
        containerDefinitions=[
            {
                "name": "migrator",
                "image": "migrator",
                "cpu": 512,
                "memory": 1024,
                "logConfiguration": {
                    "logDriver": "awslogs",
                    "options": {"awslogs-group": f"/{name}", "awslogs-region": REGION, "awslogs-stream-prefix": "run"},
                },
            }
        ],
    )
    return TaskSettings(cluster=name, definition=name, poll_s=0.01)


def started(at_aws: Shop, settings: TaskSettings, inside: Inside) -> Task:
    at_aws.harmed.harm = inside.harm
    task = Task(account=at_aws.harmed, settings=settings, token=at_aws.key, sleep=lambda _seconds: None)
    task.start(["run", "release.sql"])
    return task


def inside(at_aws: Shop, settings: TaskSettings, *statuses: str, **more: Any) -> Inside:
    return Inside(account=at_aws.account, group=f"/{settings.cluster}", statuses=list(statuses), **more)


@pytest.mark.parametrize("code", [0, 6, 10])
def test_log_is_followed_and_the_exit_code_is_the_runs(at_aws: Shop, settings: TaskSettings, code: int) -> None:
    what = inside(at_aws, settings, "PROVISIONING", "RUNNING", "STOPPED", exit_code=code)
    task = started(at_aws, settings, what)
    what.writes(task, "preflight", "hold users off", "users are let in")
    told: list[str] = []
    assert list(task.lines(told.append)) == ["preflight", "hold users off", "users are let in"]
    assert told == ["PROVISIONING", "RUNNING", "STOPPED"]
    assert task.exit_code() == code


@pytest.mark.slow
def test_task_without_a_log_ends_too(at_aws: Shop, settings: TaskSettings) -> None:
    task = started(at_aws, settings, inside(at_aws, settings, "RUNNING", "STOPPED"))
    assert list(task.lines()) == []


@pytest.mark.slow
def test_task_that_cannot_start_says_why(at_aws: Shop, settings: TaskSettings) -> None:
    what = inside(at_aws, settings, "STOPPED", exit_code=None, stop_code="TaskFailedToStart")
    what.reason = "CannotPullContainerError: no such image"
    task = started(at_aws, settings, what)
    list(task.lines())
    with pytest.raises(AwsFailed, match="no such image"):
        task.exit_code()


@pytest.mark.slow
@pytest.mark.parametrize("code", [None, 137])
def test_task_that_was_killed_is_unfinished(at_aws: Shop, settings: TaskSettings, code: int | None) -> None:
    what = inside(at_aws, settings, "RUNNING", "STOPPED", exit_code=code, reason="OutOfMemoryError")
    task = started(at_aws, settings, what)
    list(task.lines())
    with pytest.raises(Unfinished, match="OutOfMemoryError") as caught:
        task.exit_code()
    assert caught.value.exit_code == 10
    assert "recover" in (caught.value.hint or "")


@pytest.mark.slow
def test_task_past_its_time_is_asked_to_stop_once(at_aws: Shop, settings: TaskSettings) -> None:
    what = inside(at_aws, settings, "RUNNING", exit_code=6)
    task = started(at_aws, settings, what)
    task.settings = settings.model_copy(update={"timeout_s": 0.001})
    list(task.lines())
    assert what.stopped_for == ["stop"]
    assert task.exit_code() == 6


@pytest.mark.slow
def test_log_goes_on_where_it_was_left(at_aws: Shop, settings: TaskSettings) -> None:
    what = inside(at_aws, settings, "RUNNING", "RUNNING", "STOPPED")
    task = started(at_aws, settings, what)
    what.writes(task, "one", "two", "three")
    first = next(iter(task.lines()))
    assert [first, *task.lines()] == ["one", "two", "three"]


@pytest.mark.slow
def test_definition_without_a_log_is_named(at_aws: Shop, settings: TaskSettings) -> None:
    with pytest.raises(AwsFailed, match="no container other"):
        started(at_aws, settings.model_copy(update={"container": "other"}), inside(at_aws, settings, "RUNNING"))


@pytest.mark.slow
def test_ctrl_c_stops_the_task_and_follows_it_to_its_end(
    at_aws: Shop, settings: TaskSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    from migrator.cli import aws_commands

    what = inside(at_aws, settings, "RUNNING", exit_code=6)
    task = started(at_aws, settings, what)
    what.writes(task, "applying", "{", '  "outcome": "rolled_back"', "}")
    pressed: list[bool] = []

    def sleep(_seconds: float) -> None:
        if not pressed:
            pressed.append(True)
            raise KeyboardInterrupt

    task.sleep = sleep
    told = aws_commands._followed(task, as_json=True)
    assert what.stopped_for == ["stop"]
    assert task.exit_code() == 6
    assert told == ["applying", "{", '  "outcome": "rolled_back"', "}"], "each line once"
    assert aws_commands._document(told) == '{\n  "outcome": "rolled_back"\n}'
    assert "goes back by itself" in capsys.readouterr().err


@pytest.mark.slow
def test_task_that_ecs_does_not_show_at_once_is_followed(at_aws: Shop, settings: TaskSettings) -> None:
    what = inside(at_aws, settings, "RUNNING", "STOPPED", exit_code=6)
    task = started(at_aws, settings, what)
    hidden = [True, True]

    def harm(name: str, call: Callable[[], Any]) -> Any:
        if name == "ecs:DescribeTasks" and hidden:
            hidden.pop()
            return {"tasks": [], "failures": [{"reason": "MISSING"}]}
        return what.harm(name, call)

    at_aws.harmed.harm = harm
    assert list(task.lines()) == []
    assert task.exit_code() == 6


@pytest.mark.slow
@pytest.mark.parametrize("hidden", [True, False])
def test_task_that_cannot_be_followed_may_be_at_work(at_aws: Shop, settings: TaskSettings, *, hidden: bool) -> None:
    task = started(at_aws, settings, inside(at_aws, settings, "RUNNING"))
    now = iter(range(0, 10_000, 40))
    task.clock = lambda: float(next(now))
    task._started_at = 0.0

    def harm(name: str, call: Callable[[], Any]) -> Any:
        if name != "ecs:DescribeTasks":
            return call()
        if hidden:
            return {"tasks": []}
        raise error("AccessDeniedException", name)

    at_aws.harmed.harm = harm
    with pytest.raises(Unfinished, match="was started, and cannot be followed") as caught:
        list(task.lines())
    assert caught.value.exit_code == 10


@pytest.mark.slow
def test_log_that_cannot_be_read_is_told_once_and_the_task_followed(at_aws: Shop, settings: TaskSettings) -> None:
    what = inside(at_aws, settings, "RUNNING", "RUNNING", "STOPPED", exit_code=6)
    task = started(at_aws, settings, what)
    warned: list[str] = []
    task.warn = warned.append

    def harm(name: str, call: Callable[[], Any]) -> Any:
        if name == "logs:GetLogEvents":
            raise error("AccessDeniedException", name)
        return what.harm(name, call)

    at_aws.harmed.harm = harm
    assert list(task.lines()) == []
    assert task.exit_code() == 6
    assert len(warned) == 1
    assert "logs:GetLogEvents" in warned[0]


@pytest.mark.parametrize("denied", ["ecs:DescribeTaskDefinition", "ecs:RunTask"])
def test_task_that_may_not_be_started_names_the_action(at_aws: Shop, settings: TaskSettings, denied: str) -> None:
    def harm(name: str, call: Callable[[], Any]) -> Any:
        if name == denied:
            raise error("AccessDeniedException", name)
        return call()

    at_aws.harmed.harm = harm
    task = Task(account=at_aws.harmed, settings=settings, token=at_aws.key, sleep=lambda _seconds: None)
    with pytest.raises(AwsFailed) as caught:
        task.start(["run", "release.sql"])
    assert caught.value.code == "aws_denied"
    assert denied in (caught.value.hint or "")
