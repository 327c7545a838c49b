"""`report.json`: the whole record of a run, for programs. Its JSON schema ships beside this file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from migrator.reports import files
from migrator.runs.record import RunRecord

SCHEMA_FILE = Path(__file__).with_name("report.schema.json")
_DIALECT = "https://json-schema.org/draft/2020-12/schema"


class _Complete(GenerateJsonSchema):
    """Every field is required, for every field is written; its name needs no title."""

    def field_is_required(self, field: Any, total: bool) -> bool:  # noqa: ARG002
        return True

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002
        return False


def render(record: RunRecord) -> str:
    """The record as JSON that the schema describes."""
    return record.model_dump_json(indent=2) + "\n"


def write(record: RunRecord, path: Path) -> Path:
    """The file holds the record, mode 0600. Safe to repeat.

    Raises: StepFailed.
    """
    return files.write(path, render(record))


def schema() -> dict[str, Any]:
    """The JSON schema of the report; every field says what it means, and all are always there."""
    fields = RunRecord.model_json_schema(mode="serialization", schema_generator=_Complete)
    return {"$schema": _DIALECT, **fields, "title": "Report of a run"}


def render_schema() -> str:
    """What `report.schema.json` holds."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"
