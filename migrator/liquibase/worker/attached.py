"""The worker's database connection with everything that belongs to it: opened together, and closed together."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from migrator.liquibase.worker import connection
from migrator.liquibase.worker.engine import Engine
from migrator.liquibase.worker.failures import Failure
from migrator.liquibase.worker.held import HeldConnection
from migrator.liquibase.worker.measured import Measuring
from migrator.liquibase.worker.watched import WatchedConnection, WriteSet, state


@dataclass(frozen=True, kw_only=True)
class Attached:
    """The driver's connection (`real`), what stands in front of it for Liquibase, and Liquibase itself."""

    mode: str
    real: Any
    front: HeldConnection | WatchedConnection
    write_set: WriteSet
    measuring: Measuring | None
    engine: Engine

    @property
    def is_held(self) -> bool:
        """Whether the one transaction is open."""
        return isinstance(self.front, HeldConnection) and self.front.is_held

    def held(self) -> HeldConnection:
        """What holds the one transaction. Raises: Failure in another mode."""
        if not isinstance(self.front, HeldConnection):
            raise Failure("usage", f"there is no held transaction in mode {self.mode}")
        return self.front

    @contextmanager
    def reading(self) -> Iterator[None]:
        """What is tried meanwhile leaves no open transaction, and in a held one no trace."""
        front = self.front
        if isinstance(front, HeldConnection) and front.is_held:
            front.begin_set_up()
            try:
                yield
            finally:
                front.rollback()
                front.end_reading()
        else:
            try:
                yield
            finally:
                self.real.rollback()

    @contextmanager
    def statement(self) -> Iterator[None]:
        """A statement that fails does not take the held transaction with it."""
        if not self.is_held:
            try:
                yield
            finally:
                if not self.real.getAutoCommit():
                    self.real.commit() if state(self.real) == "OPEN" else self.real.rollback()
            return
        savepoint = self.real.setSavepoint()
        try:
            yield
        except Failure:
            self.real.rollback(savepoint)
            self.real.releaseSavepoint(savepoint)
            raise
        self.real.releaseSavepoint(savepoint)

    def close(self) -> None:
        """The connection is closed, an open transaction rolled back."""
        close(self.real)


def attach(request: dict[str, Any]) -> Attached:
    """Liquibase is connected as the request says, with no transaction open. Raises: Failure."""
    real = connection.open_connection(request)
    try:
        mode = request["mode"]
        write_set = WriteSet(real, write_set_sql=request["write_set_sql"], counts_sql=request["counts_sql"])
        measuring = Measuring(real, true_sizes=request["measure"] == "copy") if request.get("measure") else None
        front = (HeldConnection if mode == "held" else WatchedConnection)(real, write_set, measuring)
        engine = Engine(front, options=request["options"], writes=mode != "read_only")
        real.rollback()
    except BaseException:
        close(real)
        raise
    return Attached(mode=mode, real=real, front=front, write_set=write_set, measuring=measuring, engine=engine)


def close(real: Any) -> None:
    """The driver's connection is closed, an open transaction rolled back; with the server gone it is so too."""
    import jpype

    try:
        if not real.getAutoCommit():
            real.rollback()
        real.close()
    except jpype.JException:
        real.abort(_SameThread.proxy())


class _SameThread:
    @staticmethod
    def proxy() -> Any:
        import jpype

        return jpype.JProxy("java.util.concurrent.Executor", dict={"execute": lambda task: task.run()})
