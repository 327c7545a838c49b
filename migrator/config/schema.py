"""The JSON schema of migrator.toml, for editors."""

from __future__ import annotations

from typing import Any

from migrator.config.models import ConfigFile


def json_schema() -> dict[str, Any]:
    """A JSON schema (draft 2020-12) that every migrator.toml of this version fits. JSON is untyped by nature."""
    schema = ConfigFile.model_json_schema()
    # A default number of cores is this machine's, not everybody's.
    for definition in schema["$defs"].values():
        definition.get("properties", {}).get("jobs", {}).pop("default", None)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "migrator.toml",
    }
