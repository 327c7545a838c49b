"""What pydantic found wrong with a setting, in words that say where and what to write instead."""

from __future__ import annotations

import typing
from collections.abc import Callable, Iterator, Sequence

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from migrator.config import references
from migrator.config.names import did_you_mean, nearest
from migrator.errors import ConfigError

Keys = tuple[str | int, ...]
_SECRET = ("password", "key", "url")
_TYPES = ("flag", "command", "ecs", "alb", "cloudfront", "ssm")  # pydantic puts a provider's type into the path


def explained(error: ValidationError, model: type[BaseModel], where: Callable[[Keys], str]) -> ConfigError:
    """One error for all that is wrong, a line each. `where` puts a key path into words."""
    lines: list[str] = []
    hint = None
    for details in error.errors(include_url=False):
        models, keys = _walk(model, details["loc"])
        text, advice = _words(details, models)
        lines.append(f"{where(keys)}: {text}")
        hint = hint or advice
    return ConfigError("\n".join(dict.fromkeys(lines)), hint=hint)


def dotted(keys: Keys) -> str:
    return ".".join(str(key) for key in keys)


def _words(details: ErrorDetails, models: Sequence[type[BaseModel]]) -> tuple[str, str | None]:  # noqa: C901, PLR0911, PLR0912
    kind = details["type"]
    context = details.get("ctx", {})
    key = str(details["loc"][-1]) if details["loc"] else ""
    given = "this" if key in _SECRET else references.without_password(f"{details['input']!r}")
    if kind == "extra_forbidden":
        return "unknown key", _suggestion(key, models)
    if kind == "missing":
        return "is missing", None
    if kind in ("string_too_short", "too_short"):
        return "is empty", None
    if kind == "string_too_long":
        return f"is longer than {context['max_length']} characters", None
    if kind == "string_pattern_mismatch":
        if not str(details["input"]).strip():
            return "is empty", None
        return f"{given} may hold letters, digits, '-' and '_' only", None
    if kind in ("float_type", "int_type"):
        if key.endswith("_s"):
            return f"is {given}", "write a number of seconds, for example 300"
        return f"is {given}; a whole number is wanted", None
    if kind == "finite_number":
        return f"is {given}", "write a number of seconds, for example 300"
    if kind in ("greater_than", "greater_than_equal", "less_than_equal"):
        bound = context.get("gt", context.get("ge", context.get("le")))
        relation = {"greater_than": "more than", "greater_than_equal": "at least", "less_than_equal": "at most"}[kind]
        unit = " (seconds)" if key.endswith("_s") else ""
        return f"is {given}; it must be {relation} {bound:g}{unit}", None
    if kind == "bool_type":
        return f"is {given}; write true or false, without quotes", None
    if kind == "string_type":
        return f"is {given}; a text in quotes is wanted", None
    if kind in ("tuple_type", "list_type"):
        return f'is {given}; a list is wanted, for example ["..."]', None
    if kind in ("model_type", "dict_type", "mapping_type", "model_attributes_type"):
        return f"is {given}; a section is wanted", None
    if kind == "literal_error":
        known = [word.strip("'") for word in str(context["expected"]).replace(" or ", ", ").split(", ")]
        return f"is {given}; one of: {', '.join(known)}", _meant(details["input"], known)
    if kind == "union_tag_not_found":
        return "says no type", f"one of: {', '.join(_TYPES)}"
    if kind == "union_tag_invalid":
        known = [word.strip("'") for word in str(context["expected_tags"]).split(", ")]
        return f"unknown type {references.without_password(repr(context['tag']))}; one of: {', '.join(known)}", _meant(
            context["tag"], known
        )
    if kind == "value_error":
        return references.without_password(str(context["error"])), None
    return f"{details['msg'][:1].lower()}{details['msg'][1:]}", None


def _meant(given: object, known: Sequence[str]) -> str | None:
    match = nearest(given, known) if isinstance(given, str) else None
    return f"did you mean {match!r}?" if match else None


def _suggestion(key: str, models: Sequence[type[BaseModel]]) -> str:
    known = [field.alias or name for model in models for name, field in model.model_fields.items()]
    if nearest(key, known) is None:
        deeper: dict[str, list[str]] = {}
        for model in models:
            for name, section in _sections(model):
                for leaf in section.model_fields:
                    deeper.setdefault(leaf, []).append(f"{name}.{leaf}")
        match = nearest(key, deeper)
        if match is not None:
            return f"did you mean {' or '.join(repr(one) for one in sorted(deeper[match]))}?"
    return did_you_mean(key, known)


def _sections(model: type[BaseModel]) -> Iterator[tuple[str, type[BaseModel]]]:
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield name, field.annotation


def _walk(model: type[BaseModel], loc: Keys) -> tuple[list[type[BaseModel]], Keys]:
    """The models whose field the last key is meant to be, and the key path without pydantic's own additions."""
    models: list[type[BaseModel]] = [model]
    last: list[type[BaseModel]] = [model]
    keys: list[str | int] = []
    for part in loc:
        if keys and isinstance(keys[-1], int) and part in _TYPES:
            models = [one for one in models if part in typing.get_args(one.model_fields["type"].annotation)]
            continue
        if part == "[key]":
            continue
        last = models
        keys.append(part)
        inner = [
            one
            for owner in models
            if part in owner.model_fields
            for one in _models(owner.model_fields[part].annotation)
        ]
        models = inner or models
    return last, tuple(keys)


def _models(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in typing.get_args(annotation):
        yield from _models(argument)
