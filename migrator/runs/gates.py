"""What an environment insists on before a run may begin. Each gate decides in `migrator.plans`; here they are asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from migrator.errors import Refused
from migrator.plans.gate import GateState
from migrator.runs import windows
from migrator.runs.run import Run

# Name -> the gate, which returns what it saw in one sentence (None where the environment asks for nothing of it) and
# raises Refused where it is closed, saying why and what opens it. A gate reads only: a plan asks it too.
GATES: Mapping[str, Callable[[Run], str | None]] = MappingProxyType({"window": windows.gate})


def pass_through(run: Run) -> None:
    """Every gate of this run's environment is open.

    Raises: Refused, naming the gate, why it is closed and what opens it.
    """
    for gate in GATES.values():
        gate(run)


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
