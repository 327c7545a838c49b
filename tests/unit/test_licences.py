"""What a package says of its licence is understood, and what may not be used is named."""

from __future__ import annotations

import importlib.util
from email.message import Message
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def licences() -> ModuleType:
    spec = importlib.util.spec_from_file_location("licences", ROOT / "supply" / "licences.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules["licences"] = module  # a dataclass looks for its module
    spec.loader.exec_module(module)
    return module


def about(**fields: str | list[str]) -> Any:
    message = Message()
    for name, value in fields.items():
        for one in [value] if isinstance(value, str) else value:
            message[name.replace("_", "-")] = one
    return cast("Any", message)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"License_Expression": "MIT OR Apache-2.0", "License": "x"}, "MIT OR Apache-2.0"),
        ({"Classifier": ["License :: OSI Approved :: MIT License", "Topic :: Database"]}, "MIT"),
        (
            {
                "Classifier": [
                    "License :: OSI Approved :: BSD License",
                    "License :: OSI Approved :: Apache Software License",
                ]
            },
            "BSD-3-Clause OR Apache-2.0",
        ),
        ({"Classifier": ["License :: DFSG approved", "License :: OSI Approved :: MIT License"]}, "MIT"),
        ({"License": "Apache License 2.0"}, "Apache-2.0"),
        ({"License": "Ask my lawyer\nand wait"}, "Ask my lawyer"),
        ({}, None),
    ],
)
def test_what_a_package_says(licences: ModuleType, fields: dict[str, str | list[str]], says: str | None) -> None:
    assert licences.licence_of(about(**fields)) == says


@pytest.mark.parametrize(
    ("licence", "allowed"),
    [
        ("MIT", True),
        ("GPL-3.0-only OR MIT", True),
        ("MIT AND GPL-3.0-only", False),
        ("(MPL-2.0 AND MIT)", True),
        ("AGPL-3.0-only", False),
        ("Ask my lawyer", False),
        (None, False),
    ],
)
def test_what_may_be_used(licences: ModuleType, licence: str | None, allowed: bool) -> None:
    assert licences.is_allowed(licences.Package(name="x", version="1", licence=licence)) is allowed


def test_an_exception_holds_for_the_licence_that_it_names(licences: ModuleType) -> None:
    assert licences.is_allowed(licences.Package(name="psycopg", version="9", licence="LGPL-3.0-only"))
    assert not licences.is_allowed(licences.Package(name="psycopg", version="9", licence="AGPL-3.0-only"))


def test_every_package_of_the_lock_may_be_used(licences: ModuleType) -> None:
    assert [one for one in licences.packages() if not licences.is_allowed(one)] == []
