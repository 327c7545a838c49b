"""Layers of settings, later ones over earlier ones, and where each value came from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import BaseModel

Layer = Mapping[str, object]  # dotted key -> value


def flatten(model: BaseModel, *, only_set: bool = True) -> dict[str, object]:
    """Dotted keys of what the model was given (or of everything): `limits.drain_s`, `parameters.tenant`."""
    values: dict[str, object] = {}
    for attribute, field in type(model).model_fields.items():
        if only_set and attribute not in model.model_fields_set:
            continue
        value, name = getattr(model, attribute), field.alias or attribute
        if isinstance(value, BaseModel):
            values |= {f"{name}.{key}": inner for key, inner in flatten(value, only_set=only_set).items()}
        elif isinstance(value, Mapping):
            values |= {f"{name}.{key}": inner for key, inner in value.items()}
        else:
            values[name] = value
    return values


def merge(layers: Sequence[tuple[str, Layer]]) -> tuple[dict[str, object], dict[str, str]]:
    """The last value of every key, and the name of the layer that it is from. Lists are replaced, not joined."""
    values: dict[str, object] = {}
    sources: dict[str, str] = {}
    for source, layer in layers:
        for key, value in layer.items():
            values[key] = value
            sources[key] = source
    return values, sources


def nest(values: Layer) -> dict[str, object]:
    """Sections again: `limits.drain_s` becomes {"limits": {"drain_s": ...}}. What follows the first dot is one key."""
    nested: dict[str, object] = {}
    for key, value in values.items():
        section, dot, name = key.partition(".")
        if not dot:
            nested[key] = value
            continue
        inner = nested.setdefault(section, {})
        if isinstance(inner, dict):
            inner[name] = value
    return nested
