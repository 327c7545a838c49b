"""A file that exists while maintenance is on; an application or a load balancer watches it."""

from __future__ import annotations

import base64
import binascii
import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from migrator.errors import MaintenanceFailed
from migrator.failpoints import Effect, effect
from migrator.maintenance import ProviderStatus

_MAX_BYTES = 1024 * 1024
_MARK = "migrator"  # the key by which a flag of ours is known


@dataclass(frozen=True, kw_only=True)
class Flag:
    """The flag appears and disappears in one step; a file that was there before is put back as it was.

    Until `off`, what was there before lies beside the flag, readable by its owner only.
    """

    path: Path
    environment: str
    mode: int = 0o644  # permissions of the flag: those who watch it are seldom the user who migrates
    says: str = "maintenance"  # the flag's "mode"

    @property
    def name(self) -> str:
        return f"flag {self.path}"

    def standing(self, run_id: str) -> dict[str, str]:
        with self._translated("cannot be read"):
            current = self._current()
            ours = _run_of(current)
            if ours is None:
                _refuse_owner(self.path, current)
                return current
            if ours != run_id:
                raise self._foreign(ours)
            return self._saved(run_id) or {"exists": "no"}

    @effect(Effect.OUTSIDE_ON)
    def on(self, run_id: str) -> dict[str, str]:
        before = self.standing(run_id)
        with self._translated("cannot be put up"):
            if _run_of(self._current()) != run_id:
                self._write(self._beside(run_id), json.dumps(before).encode(), mode=0o600)
                self._write(self.path, self._content(run_id), mode=self.mode)
        return before

    @effect(Effect.OUTSIDE_OFF)
    def off(self, run_id: str, saved: dict[str, str]) -> None:
        with self._translated("cannot be taken down"):
            current = self._current()
            ours = _run_of(current)
            if ours not in (None, run_id):
                raise self._foreign(ours)
            before = saved or self._saved(run_id)
            if ours == run_id:
                self._put_back(before or {"exists": "no"})
            elif before is not None and current != before:
                if current["exists"] == "yes":
                    raise MaintenanceFailed(
                        f"{self.path} was replaced during the run {run_id} by somebody else; it is left as it is.",
                        hint="Remove the file by hand if maintenance is over.",
                    )
                self._put_back(before)
            self._beside(run_id).unlink(missing_ok=True)

    def status(self) -> ProviderStatus:
        with self._translated("cannot be read"):
            current = self._current()
            if current["exists"] == "no":
                return ProviderStatus(on=False, detail=f"{self.path} is not there")
            run = _run_of(current)
            whose = f"put up by the run {run}" if run else "not put up by migrator"
            return ProviderStatus(on=True, detail=f"{self.path} is there, {whose}", held_by=run)

    def _content(self, run_id: str) -> bytes:
        said = {
            _MARK: 1,
            "run": run_id,
            "environment": self.environment,
            "since": datetime.now(UTC).isoformat(timespec="seconds"),
            "mode": self.says,
        }
        return json.dumps(said).encode() + b"\n"

    def _current(self) -> dict[str, str]:
        """What stands now, in a form that JSON can carry."""
        try:
            status = self.path.lstat()
        except FileNotFoundError:
            return {"exists": "no"}
        if not stat.S_ISREG(status.st_mode):
            kind = "a symbolic link" if stat.S_ISLNK(status.st_mode) else "not a regular file"
            raise MaintenanceFailed(
                f"The maintenance flag {self.path} is {kind}.", hint="Name the file itself as the flag's path."
            )
        descriptor = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            content = file.read(_MAX_BYTES + 1)
        if len(content) > _MAX_BYTES:
            raise MaintenanceFailed(
                f"{self.path} is larger than {_MAX_BYTES} bytes: no maintenance flag, and not replaced by one.",
                hint="Name another file as the flag's path.",
            )
        return {
            "exists": "yes",
            "content": base64.b64encode(content).decode(),
            "permissions": f"{stat.S_IMODE(status.st_mode):04o}",
            "owner": f"{status.st_uid}:{status.st_gid}",
        }

    def _put_back(self, before: dict[str, str]) -> None:
        if before.get("exists", "no") == "no":
            self.path.unlink(missing_ok=True)
            _sync(self.path.parent)
            return
        try:
            content = base64.b64decode(before["content"], validate=True)
            mode = int(before["permissions"], 8)
            uid, gid = (int(part) for part in before["owner"].split(":"))
        except (KeyError, ValueError, binascii.Error) as error:
            raise MaintenanceFailed(
                f"What {self.path} was before the run cannot be read from what was saved.",
                hint="Put the file back by hand.",
            ) from error
        self._write(self.path, content, mode=mode, owner=(uid, gid))

    @effect(Effect.OUTSIDE_WRITE)
    def _write(self, path: Path, content: bytes, *, mode: int, owner: tuple[int, int] | None = None) -> None:
        temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
        try:
            temporary.unlink(missing_ok=True)
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
            with open(descriptor, "wb") as out:
                out.write(content)
                if owner is not None and owner != (os.geteuid(), os.getegid()):
                    os.fchown(out.fileno(), *owner)
                # After the owner: a change of owner may clear permissions.
                os.fchmod(out.fileno(), mode)
                out.flush()
                os.fsync(out.fileno())
            temporary.replace(path)
            _sync(path.parent)
        except BaseException:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise

    def _beside(self, run_id: str) -> Path:
        return self.path.with_name(f".{self.path.name}.before-{run_id}")

    def _saved(self, run_id: str) -> dict[str, str] | None:
        try:
            saved = json.loads(self._beside(run_id).read_bytes())
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise MaintenanceFailed(
                f"{self._beside(run_id)}, which holds what {self.path} was before the run, is damaged.",
                hint=f"Put {self.path} back by hand, or remove it.",
            ) from error
        return {str(name): str(value) for name, value in saved.items()} if isinstance(saved, dict) else {}

    def _foreign(self, run: str | None) -> MaintenanceFailed:
        return MaintenanceFailed(
            f"{self.path} was put up by another run, {run}.",
            hint=f"See: migrator show {run}. Once it is over: migrator maintenance off --env {self.environment}",
            code="maintenance_foreign",
        )

    @contextmanager
    def _translated(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise MaintenanceFailed(
                f"The maintenance flag {self.path} {what}: {error.strerror or error}.",
                hint=f"The folder {self.path.parent} must exist, and this user must be able to write to it.",
            ) from error


def _run_of(current: dict[str, str]) -> str | None:
    """The run whose flag this is; None where it is not ours."""
    if current["exists"] == "no":
        return None
    try:
        said: Any = json.loads(base64.b64decode(current["content"]))
    except (ValueError, RecursionError):
        return None
    if isinstance(said, dict) and _MARK in said and isinstance(said.get("run"), str):
        return str(said["run"])
    return None


def _refuse_owner(path: Path, current: dict[str, str]) -> None:
    """Raises: MaintenanceFailed where this user could replace the file, but not put it back with its owner."""
    if current["exists"] == "no" or os.geteuid() == 0:
        return
    uid, gid = (int(part) for part in current["owner"].split(":"))
    if uid != os.geteuid() or gid not in {os.getegid(), *os.getgroups()}:
        raise MaintenanceFailed(
            f"{path} is there already and belongs to another user or group; it could not be put back as it is.",
            hint="Remove the file before the run, or run as its owner.",
        )


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
