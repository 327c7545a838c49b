"""The one place that runs child processes: argv and never a shell, always a time limit, the whole process group."""

from migrator.processes.child import Child
from migrator.processes.decoding import NotUnderstood, decode
from migrator.processes.launch import Detached, Identity, detach, die_with_parent, is_running, minimal_env
from migrator.processes.redaction import Revealable, redact
from migrator.processes.run import Completed, run

__all__ = [
    "Child",
    "Completed",
    "Detached",
    "Identity",
    "NotUnderstood",
    "Revealable",
    "decode",
    "detach",
    "die_with_parent",
    "is_running",
    "minimal_env",
    "redact",
    "run",
]
