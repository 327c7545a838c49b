"""The tables of these pages that are made from the code: what stands between `<!-- table: NAME -->` and `<!-- end -->`.

python docs/tables.py       writes them anew
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Any, Literal, cast, get_args, get_origin

from pydantic import BaseModel
from typer.core import TyperGroup
from typer.main import get_command

from migrator.backfills.definition import Backfill
from migrator.cli.app import app
from migrator.config import aws_maintenance, models
from migrator.config.aws import AwsSettings
from migrator.config.lint import OffRule
from migrator.config.profiles import profile
from migrator.config.rds import RdsSettings
from migrator.config.sources import flatten
from migrator.config.store import StoreSettings
from migrator.config.task import TaskSettings
from migrator.errors import ConfigError, MigratorError, UsageError
from migrator.plans.attestation import Loss
from migrator.plans.findings import Rule, squawk
from migrator.plans.findings.finder import FAMILIES
from migrator.plans.gate import GateState
from migrator.rehearsals import record as rehearsal
from migrator.reports import verdict
from migrator.runs import record

FOLDER = Path(__file__).parent
_BLOCK = re.compile(r"(<!-- table: ([a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
_SECTIONS = {"maintenance", "backup", "checks", "limits", "lint", "drift", "approvals", "scratch", "notifications"}
_NOT_HERE = {"require_attestation", "rds", "task", "store", "aws"}  # have their own tables
_CORES = "cores, at most 4"
_SHOWN = {"jobs": _CORES, "backup.jobs": "`jobs`", "limits.max_blocked_s": "`none`"}


def pages() -> dict[Path, str]:
    """The text that each page should have."""
    found = {}
    for path in sorted(FOLDER.glob("*.md")):
        text = path.read_text(encoding="utf-8")
        found[path] = _BLOCK.sub(lambda block: f"{block[1]}{_TABLES[block[2]]()}\n{block[3]}", text)
    return found


def _environment() -> str:
    return _settings(
        ["url", "password", "login", *models.EnvironmentSettings.model_fields], models.EnvironmentTable, ""
    )


def _section(name: str) -> Callable[[], str]:
    def table() -> str:
        model = type(getattr(models.EnvironmentSettings(), name))
        return _settings(model.model_fields, model, f"{name}.")

    return table


def _settings(names: Iterable[str], model: type[BaseModel], prefix: str) -> str:
    """Key, default in each profile, meaning."""
    default = flatten(models.EnvironmentSettings(), only_set=False)
    guarded, online = ({**default, **profile(one, protected=False)[0], **_SHOWN} for one in ("guarded", "online"))
    online |= {"profile": "", "limits.max_blocked_s": profile("online", protected=False)[0]["limits.max_blocked_s"]}
    rows = []
    for name in names:
        if name in _SECTIONS or name in _NOT_HERE:
            continue
        first, second = _value(prefix + name, guarded), _value(prefix + name, online)
        text = model.model_fields[name].description or ""
        rows.append([f"`{name}`", first, second if second != first else "", text])
    return _table(["key", "default (guarded)", "online, where it differs", "meaning"], rows)


def _plain(model: type[BaseModel]) -> Callable[[], str]:
    """Key, default, meaning, of what is the same in every profile."""

    def table() -> str:
        rows = []
        for name, field in model.model_fields.items():
            if field.exclude:
                continue
            value = "needed" if field.is_required() else _value(name, {name: field.get_default()})
            rows.append([f"`{field.alias or name}`", value, field.description or "Which kind of provider this is."])
        return _table(["key", "default", "meaning"], rows)

    return table


def _value(key: str, values: Mapping[str, object]) -> str:
    """A default as one would write it in TOML; nothing where there is none."""
    value = values.get(key)
    if isinstance(value, str) and (value.startswith("`") or " " in value):
        return value
    if value is None or (value == "" and key not in {"contexts", "labels"}):
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return f"`{json.dumps(value, default=str)}`"


def _record(model: type[BaseModel]) -> Callable[[], str]:
    """Field, type, meaning."""

    def table() -> str:
        rows = [
            [f"`{name}`", _kind(field.annotation), field.description or ""]
            for name, field in model.model_fields.items()
        ]
        return _table(["field", "type", "meaning"], rows)

    return table


def _commands() -> str:
    """Every command: how it is called, what it does, its options; as its help says it."""
    leaves = sorted(_leaves(cast("TyperGroup", get_command(app)), ""))
    return "\n".join(_command(f"migrator {path}", one) for path, one in leaves)


def _leaves(group: TyperGroup, path: str) -> Iterator[tuple[str, Any]]:
    for name, one in group.commands.items():
        if isinstance(one, TyperGroup):
            yield from _leaves(one, f"{path}{name} ")
        else:
            yield path + name, one


def _command(path: str, command: Any) -> str:
    words, _, examples = (inspect.cleandoc(command.help or "")).partition("\b\n")
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    usage = " ".join([path, *map(_argument, arguments), "[OPTIONS]"])
    rows = [
        [f"`{', '.join((*one.opts, *one.secondary_opts))}{_metavar(one)}`", one.help or ""]
        for one in command.params
        if one.param_type_name == "option" and not one.hidden
    ]
    parts = [f"## {path}", "", "```text", usage, "```", "", words.strip(), ""]
    if examples.strip():
        parts += ["```sh", examples.strip(), "```", ""]
    return "\n".join([*parts, _table(["option", "meaning"], rows), ""])


def _argument(argument: Any) -> str:
    name = (argument.metavar or argument.name.upper()).strip("[]{}")
    name += "..." if argument.nargs == -1 and not name.endswith("...") else ""
    return name if argument.required else f"[{name}]"


def _metavar(option: Any) -> str:
    return "" if option.is_flag else f" {option.metavar or 'VALUE'}"


def _rules(rules: Sequence[Rule]) -> Callable[[], str]:
    """Rule, severity, what it finds, why, the safer way."""

    def table() -> str:
        rows = [[f"`{one.id}`", one.severity.value, one.finds, one.why, one.safer] for one in rules]
        return _table(["rule", "severity", "finds", "why", "safer"], rows)

    return table


def _squawk(rules: Mapping[str, str], head: str) -> Callable[[], str]:
    """A rule of squawk, and what is said of it."""

    def table() -> str:
        return _table(["rule of squawk", head], [[f"`{name}`", said] for name, said in rules.items()])

    return table


def _exit_codes() -> str:
    told = [(error.exit_code, error.code, what) for error, what in _BEFORE_A_RUN.items()]
    told += [(outcome.exit_code, outcome.value, verdict.HEADLINES[outcome]) for outcome in record.Outcome]
    return _table(["code", "outcome", "what it is called"], [[str(c), f"`{o}`", w] for c, o, w in sorted(told)])


def _kind(annotation: object) -> str:
    if isinstance(annotation, UnionType):
        return " or ".join(_kind(one) for one in get_args(annotation))
    if annotation is type(None):
        return "null"
    name = getattr(annotation, "__name__", "")
    if get_origin(annotation) is Literal:
        return "text"
    if arguments := get_args(annotation):
        inner = _kind(arguments[-1])
        return f"list of {inner}" if name == "list" else f"object of {inner}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        title = {**_TITLES, **_REHEARSED}[annotation]
        return f"[{title}](#{title.replace(' ', '-')})"
    words = {"str": "text", "int": "integer", "float": "number", "bool": "true or false", "datetime": "time"}
    return words.get(name, "text")


def _table(head: list[str], rows: Iterable[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    cells = ([cell.replace("|", "\\|").replace("\n", " ") for cell in line] for line in lines)
    return "\n".join("|" + "|".join(f" {cell} " if cell else " " for cell in line) + "|" for line in cells)


_BEFORE_A_RUN: dict[type[MigratorError], str] = {
    MigratorError: "A bug in migrator, told as an error",
    UsageError: "Wrong arguments, told as an error",
    ConfigError: "A configuration that cannot be used, told as an error",
}
_TITLES: dict[type[BaseModel], str] = {
    record.Proof: "proof",
    record.StepRecord: "steps",
    record.ChangesetRecord: "changesets",
    record.BackfillRecord: "backfills",
    record.BackupRecord: "backups",
    record.MaintenanceRecord: "maintenance",
    record.CheckRecord: "checks",
    record.TableRecord: "tables",
    record.ErrorRecord: "error",
    GateState: "gates",
    record.ApprovalRecord: "approvals",
}
_REHEARSED: dict[type[BaseModel], str] = {
    rehearsal.RehearsedRecord: "rehearsed changesets",
    rehearsal.LegRecord: "legs",
    rehearsal.Finding: "rehearsal findings",
    Loss: "losses",
}
_TABLES: dict[str, Callable[[], str]] = {
    "environment": _environment,
    **{name: _section(name) for name in sorted(_SECTIONS)},
    "flag": _plain(models.FlagProvider),
    "command": _plain(models.CommandProvider),
    "ecs": _plain(aws_maintenance.EcsProvider),
    "alb": _plain(aws_maintenance.AlbProvider),
    "cloudfront": _plain(aws_maintenance.CloudFrontProvider),
    "ssm": _plain(aws_maintenance.SsmProvider),
    "aws": _plain(AwsSettings),
    "backfill": _plain(Backfill),
    "store": _plain(StoreSettings),
    "exit-codes": _exit_codes,
    "rds": _plain(RdsSettings),
    "task": _plain(TaskSettings),
    "maintenance-window": _plain(models.MaintenanceWindow),
    "liquibase": _plain(models.LiquibaseTable),
    "journal": _plain(models.JournalTable),
    "signing": _plain(models.SigningTable),
    "attestation": _plain(models.RequireAttestation),
    "commands": _commands,
    "report": _record(record.RunRecord),
    "rehearsal": _record(rehearsal.RehearsalRecord),
    **{f"rehearsal-{title.replace(' ', '-')}": _record(model) for model, title in _REHEARSED.items()},
    **{f"rules-{family}": _rules(rules) for family, rules in FAMILIES.items()},
    "squawk-answered": _squawk(squawk.ANSWERED, "looked for by"),
    "squawk-left-out": _squawk(squawk.NOT_HERE, "why it is not asked"),
    "lint-off": _plain(OffRule),
    **{f"report-{title}": _record(model) for model, title in _TITLES.items()},
}


if __name__ == "__main__":
    for page, text in pages().items():
        page.write_text(text, encoding="utf-8")
