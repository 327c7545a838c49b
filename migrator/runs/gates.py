"""What an environment insists on before a run may begin. Each gate decides in `migrator.plans`; here they are asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from migrator.config.models import Environment
from migrator.errors import Refused
from migrator.plans.gate import GateState
from migrator.runs import attested, aws_credentials, drifted, linting, outside, planned, server_backups, windows
from migrator.runs.run import Run

# Name -> the gate, which returns what it saw in one sentence (None where the environment asks for nothing of it) and
# raises Refused where it is closed, saying why and what opens it. A gate reads only: a plan asks it too.
GATES: Mapping[str, Callable[[Run], str | None]] = MappingProxyType(
    {
        "window": windows.gate,
        "plan": planned.holds,
        "approvals": planned.is_approved,
        "drift": drifted.gate,
        "attestation": attested.gate,
        "findings": linting.gate,
        "aws": aws_credentials.gate,
        "outside": outside.gate,
        "rds": server_backups.gate,
    }
)

# Name -> whether an environment lets a person pass the gate closed, with --override-gate REASON. Others nobody passes.
_OVERRIDABLE: Mapping[str, Callable[[Environment], bool]] = MappingProxyType(
    {"attestation": lambda environment: environment.require_attestation.override}
)


def pass_through(run: Run) -> None:
    """Every gate of this run's environment is open, or was overridden; the record says what each saw.

    Raises: Refused, naming the gate, why it is closed and what opens it.
    """
    if run.options.rehearsal:
        return
    for key in run.config.gates_given:
        run.warn(f"What this run had to pass was set on the command line, not in the file: --set {key}")
    for name, gate in GATES.items():
        try:
            says = gate(run)
        except Refused as error:
            run.record.gates.append(_overridden(run, name, error))
        else:
            if says is not None:
                run.record.gates.append(GateState(name=name, is_open=True, says=says))


def _overridden(run: Run, name: str, closed: Refused) -> GateState:
    """The closed gate, passed because a person said why. Raises: Refused where nobody did, or may."""
    reason = run.options.override_gate
    if reason is None:
        raise closed
    may = _OVERRIDABLE.get(name)
    if may is None or not may(run.environment):
        raise Refused(
            f"{closed.message} --override-gate does not count here: the configuration of {run.environment.name} does "
            f"not let anybody override the gate {name}.",
            hint=closed.hint,
            code=closed.code,
        ) from closed
    run.warn(f"The gate {name} was closed and was overridden: {reason}. {closed.message}")
    return GateState(name=name, is_open=False, says=closed.message, overridden=reason, opens_it=closed.hint)


def look(run: Run) -> list[GateState]:
    """How every gate that the environment has stands just now; none refuses."""
    found = []
    for name, gate in GATES.items():
        try:
            says = gate(run)
        except Refused as error:
            found.append(GateState(name=name, is_open=False, says=error.message, opens_it=error.hint))
        else:
            if says is not None:
                found.append(GateState(name=name, is_open=True, says=says))
    return found
