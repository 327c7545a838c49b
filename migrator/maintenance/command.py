"""The user's own commands turn maintenance on and off."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from migrator import processes
from migrator.errors import MaintenanceFailed, ToolFailed
from migrator.failpoints import Effect, effect
from migrator.maintenance import ProviderStatus

_ON, _OFF = 0, 1
_SHOWN_LINES = 3


@dataclass(frozen=True, kw_only=True)
class Command:
    """Commands as lists of arguments, without a shell; `{run}` and `{environment}` in them are filled in.

    The status command decides: exit code 0 is on, 1 is off, anything else is a failure. What is on already is not
    turned on again, and what was on before the run is not turned off after it.
    """

    on_argv: Sequence[str]
    off_argv: Sequence[str]
    status_argv: Sequence[str]
    environment: str
    folder: Path  # where the commands are started
    log: Path
    timeout_s: float = 60.0  # for each of them

    @property
    def name(self) -> str:
        return f"command {' '.join(self.on_argv)}"

    def standing(self, run_id: str) -> dict[str, str]:
        return {"was": "on" if self._is_on(run_id) else "off"}

    @effect(Effect.OUTSIDE_ON)
    def on(self, run_id: str) -> dict[str, str]:
        before = self.standing(run_id)
        if before["was"] == "off":
            self._run(self.on_argv, run_id)
            if not self._is_on(run_id):
                raise MaintenanceFailed(
                    f"{self._shown(self.on_argv, run_id)} succeeded, but the status command says that maintenance is "
                    f"off.",
                    hint=f"Its output is in {self.log}.",
                )
        return before

    @effect(Effect.OUTSIDE_OFF)
    def off(self, run_id: str, saved: dict[str, str]) -> None:
        if saved.get("was") == "on" or not self._is_on(run_id):
            return
        self._run(self.off_argv, run_id)
        if self._is_on(run_id):
            raise MaintenanceFailed(
                f"{self._shown(self.off_argv, run_id)} succeeded, but the status command says that maintenance is "
                f"still on.",
                hint=f"Turn it off by hand. The output is in {self.log}.",
            )

    def status(self) -> ProviderStatus:
        on = self._is_on("")
        return ProviderStatus(on=on, detail=f"{self._shown(self.status_argv, '')} says {'on' if on else 'off'}")

    def _is_on(self, run_id: str) -> bool:
        done = self._completed(self.status_argv, run_id)
        if done.exit_code not in (_ON, _OFF):
            raise self._failed(self.status_argv, run_id, done, "exit code 0 means on and 1 means off")
        return done.exit_code == _ON

    def _run(self, argv: Sequence[str], run_id: str) -> None:
        done = self._completed(argv, run_id)
        if done.exit_code != 0:
            raise self._failed(argv, run_id, done, "exit code 0 means done")

    def _completed(self, argv: Sequence[str], run_id: str) -> processes.Completed:
        try:
            return processes.run(
                self._filled(argv, run_id), timeout_s=self.timeout_s, cwd=self.folder, check=False, log=self.log
            )
        except ToolFailed as error:
            raise MaintenanceFailed(
                f"Maintenance by command: {error.message}",
                hint="The command must be there, executable, and done within its timeout_s.",
                code=f"maintenance_{error.code}",
            ) from error

    def _failed(self, argv: Sequence[str], run_id: str, done: processes.Completed, meaning: str) -> MaintenanceFailed:
        lines = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        said = " | ".join(lines[-_SHOWN_LINES:]) or "it said nothing"
        ending = f"signal {-done.exit_code}" if done.exit_code < 0 else f"exit code {done.exit_code}"
        return MaintenanceFailed(
            f"{self._shown(argv, run_id)} ended with {ending} ({meaning}): {said}",
            hint=f"Its output is in {self.log}.",
        )

    def _filled(self, argv: Sequence[str], run_id: str) -> list[str]:
        # Not str.format: an argument may well be JSON.
        return [part.replace("{run}", run_id).replace("{environment}", self.environment) for part in argv]

    def _shown(self, argv: Sequence[str], run_id: str) -> str:
        return " ".join(self._filled(argv, run_id))
