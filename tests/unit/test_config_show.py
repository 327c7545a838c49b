"""`config show`, the starting file and the editors' schema agree with the models."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import jsonschema
import pytest

from migrator.config import show, template
from migrator.config.load import load
from migrator.config.schema import json_schema

TEXT = """
[journal]
url = "postgresql://j@h/journal"
password = "${env:JOURNAL_PW}"
[signing]
key = "${env:KEY}"
[environments.shop]
url = "postgresql://migrator@db.internal/my%20shop"
password = "${env:SHOP_PW}"
contexts = "${env:CTX}"
parameters = { token = "${env:TOKEN}", region = "eu", "a.b c" = "x" }
[environments.shop.maintenance]
outside = [{ type = "flag", path = "flag" }]
[environments.shop.limits]
max_blocked_s = "none"
"""
ENVIRON = {"JOURNAL_PW": "canary1", "KEY": "canary2", "SHOP_PW": "canary3", "CTX": "canary4", "TOKEN": "canary5"}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "migrator.toml"
    path.write_text(TEXT)
    return path


def test_secrets_are_masked_and_their_references_named(file: Path) -> None:
    config = load(file, ENVIRON)
    text = show.as_text(config, config.environment("shop"))
    assert "canary" not in text
    for reference in ("${env:SHOP_PW}", "${env:TOKEN}", "${env:KEY}"):
        assert reference in text


def test_text_is_toml_and_tells_where_values_come_from(file: Path) -> None:
    config = load(file, ENVIRON)
    text = show.as_text(config, config.environment("shop", {"limits.drain_s": 5}))
    read = tomllib.loads(text)
    assert read["url"] == "postgresql://migrator@db.internal:5432/my%20shop"
    assert read["limits"]["drain_s"] == 5
    assert read["parameters"]["region"] == "eu"
    assert read["parameters"]["a.b c"] == "x"
    assert read["maintenance"]["outside"][0]["type"] == "flag"
    lines = {line.split(" = ")[0]: line for line in text.splitlines()}
    assert lines["drain_s"].endswith("# command line")
    assert lines["database"].endswith("# profile guarded")
    assert lines["region"].endswith("# [environments.shop]")


def test_every_setting_has_a_source(file: Path) -> None:
    config = load(file, ENVIRON)
    settings = show.shown(config, config.environment("shop"))
    assert all(one.source for one in settings)
    json.dumps([one.value for one in settings])


def test_starting_file_loads_and_fits_the_schema(tmp_path: Path) -> None:
    path = tmp_path / "migrator.toml"
    path.write_text(template.starting_file())
    config = load(path, {})
    assert config.names == ["local"]
    assert config.environment("local").login is None
    jsonschema.validate(tomllib.loads(path.read_text()), json_schema())


@pytest.mark.parametrize("profile", ["guarded", "online"])
@pytest.mark.parametrize("commented", [True, False])
def test_written_section_loads_as_it_stands_and_with_its_comments_taken_away(
    tmp_path: Path, profile: str, commented: bool
) -> None:
    section = template.environment_section(
        "staging", url='postgresql://m@h/a"b', password_variable="PW", profile=profile, reason="it is big"
    )
    (tmp_path / "checks").mkdir()
    (tmp_path / "checks/a.yaml").touch()
    (tmp_path / "checks/a.sql").touch()
    if not commented:
        section = "\n".join(line.removeprefix("# ") for line in section.splitlines())
    path = tmp_path / "migrator.toml"
    path.write_text(template.file_for("staging", section))
    environment = load(path, {"PW": "x"}).environment("staging")
    assert environment.profile == profile
    assert environment.login is not None
    assert environment.login.database == 'a"b'
    assert len(environment.maintenance.outside) == (0 if commented else 2)
    jsonschema.validate(tomllib.loads(path.read_text()), json_schema())


def test_schema_knows_every_setting_and_refuses_others() -> None:
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(tomllib.loads(TEXT), schema)
    for wrong in ({"environment": {}}, {"defaults": {"limits": {"drain_s": 0}}}, {"defaults": {"way": "x"}}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, schema)


def test_schema_explains_every_setting() -> None:
    for name, definition in json_schema()["$defs"].items():
        for key, field in definition["properties"].items():
            described = "description" in field or "$ref" in field or key == "type"
            assert described, f"{name}.{key} has no description"
