"""Which value wins, and where it says that it comes from."""

from __future__ import annotations

from pathlib import Path

import pytest

from migrator.config import overrides
from migrator.config.load import load
from migrator.config.models import Environment, EnvironmentTable
from migrator.config.profiles import GUARDED, ONLINE
from migrator.config.sources import nest
from migrator.errors import ConfigError, UsageError

LAYERS = """
[defaults]
contexts = "shared"
labels = "shared"
parameters = { tenant = "all", region = "eu" }
[defaults.limits]
drain_s = 30
[environments.shop]
url = "postgresql://migrator@db.internal/shop"
labels = "shop"
parameters = { tenant = "shop" }
[environments.shop.limits]
max_downtime_s = 90
"""


def effective(tmp_path: Path, text: str, given: dict[str, object] | None = None) -> Environment:
    path = tmp_path / "migrator.toml"
    path.write_text(text)
    return load(path, {}, given).environment("shop")


def test_nearer_layers_win_and_are_named(tmp_path: Path) -> None:
    environment = effective(tmp_path, LAYERS, {"limits.max_downtime_s": 45})
    seen = {
        key: (value, environment.sources[key])
        for key, value in {
            "contexts": environment.contexts,
            "labels": environment.labels,
            "parameters.tenant": environment.parameters["tenant"],
            "parameters.region": environment.parameters["region"],
            "limits.drain_s": environment.limits.drain_s,
            "limits.max_downtime_s": environment.limits.max_downtime_s,
            "limits.lock_timeout_s": environment.limits.lock_timeout_s,
            "limits.lease_s": environment.limits.lease_s,
        }.items()
    }
    assert seen == {
        "contexts": ("shared", "[defaults]"),
        "labels": ("shop", "[environments.shop]"),
        "parameters.tenant": ("shop", "[environments.shop]"),
        "parameters.region": ("eu", "[defaults]"),
        "limits.drain_s": (30, "[defaults]"),
        "limits.max_downtime_s": (45, "command line"),
        "limits.lock_timeout_s": (10, "profile guarded"),
        "limits.lease_s": (60, "default"),
    }


def test_guarded_is_the_default_profile(tmp_path: Path) -> None:
    environment = effective(tmp_path, LAYERS)
    assert environment.profile == "guarded"
    assert environment.maintenance.database == "offline"
    assert environment.backup.kinds == ("dump",)
    assert environment.backup.restore == "automatic"
    assert environment.limits.max_blocked_s is None


def test_online_profile_holds_nobody_off_and_never_restores(tmp_path: Path) -> None:
    environment = effective(
        tmp_path, LAYERS.replace("[environments.shop]\n", '[environments.shop]\nprofile = "online"\n')
    )
    assert (environment.way, environment.proof) == ("auto", "write_set")
    assert environment.maintenance.database == "none"
    assert environment.backup.restore == "never"
    assert environment.backup.kinds == ()
    assert environment.checks.inside == "marked"
    assert environment.checks.inside_timeout_s == 2
    assert environment.limits.lock_timeout_s == 0.5
    assert environment.limits.lock_retries > 0
    assert environment.limits.max_blocked_s == 5
    assert environment.sources["limits.max_blocked_s"] == "profile online"


def test_limit_of_the_profile_can_be_taken_away(tmp_path: Path) -> None:
    text = LAYERS.replace("max_downtime_s = 90", 'max_downtime_s = 90\nmax_blocked_s = "none"')
    environment = effective(tmp_path, text, {"profile": "online"})
    assert environment.limits.max_blocked_s is None
    assert environment.sources["limits.max_blocked_s"] == "[environments.shop]"


def test_protected_environment_asks_before_a_restore(tmp_path: Path) -> None:
    environment = effective(tmp_path, LAYERS, {"protected": True})
    assert environment.backup.restore == "ask"
    assert "protected" in environment.sources["backup.restore"]


def test_jobs_of_a_backup_are_the_environments(tmp_path: Path) -> None:
    environment = effective(tmp_path, LAYERS, {"jobs": 3})
    assert environment.backup.jobs == 3
    assert environment.sources["backup.jobs"] == "jobs"
    assert effective(tmp_path, LAYERS, {"jobs": 3, "backup.jobs": 2}).backup.jobs == 2


def test_url_of_the_command_line_wins(tmp_path: Path) -> None:
    environment = effective(tmp_path, LAYERS, {"url": "postgresql://other@elsewhere:6000/copy"})
    assert str(environment.login) == "postgresql://other@elsewhere:6000/copy"
    assert environment.sources["url"] == "command line"


def test_services_can_be_overridden(tmp_path: Path) -> None:
    path = tmp_path / "migrator.toml"
    path.write_text('[liquibase]\nversion = "5.0.4"\n')
    config = load(path, {}, {"liquibase.version": "4.33.0"})
    assert config.liquibase.version == "4.33.0"
    assert config.sources["liquibase.version"] == "command line"
    assert config.sources["liquibase.root"] == "default"
    with pytest.raises(ConfigError, match=r"--set liquibase\.verson: unknown key"):
        load(path, {}, {"liquibase.verson": "4.33.0"})


@pytest.mark.parametrize("layer", [GUARDED, ONLINE])
def test_profiles_hold_only_valid_settings(layer: dict[str, object]) -> None:
    EnvironmentTable.model_validate(nest(layer))
    assert layer.keys() & {"url", "password", "profile"} == set()


def test_set_reads_numbers_flags_lists_and_texts() -> None:
    given = overrides.parse(
        [
            "limits.drain_s=5",
            "protected=true",
            'backup.kinds=["clone"]',
            "contexts=5",
            "labels=a, b",
            "parameters.x=1=2",
        ]
    )
    assert given == {
        "limits.drain_s": 5,
        "protected": True,
        "backup.kinds": ["clone"],
        "contexts": "5",
        "labels": "a, b",
        "parameters.x": "1=2",
    }


@pytest.mark.parametrize("pairs", [["secret"], ["=x"], ["jobs=1", "jobs=2"]])
def test_set_that_is_no_pair_is_a_usage_error(pairs: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        overrides.parse(pairs)
    assert "secret" not in caught.value.message


GATES: dict[str, object] = {
    "approvals.required": 0,
    "require_attestation.override": True,
    "on_drift": "ignore",
    "drift.ignore": ["public.*"],
    "lint.fail_on": "never",
    "protected": False,
    "signing.public_keys": [],
    "on_overrun": "warn",
    "maintenance_window": [],
}


@pytest.mark.parametrize("place", ["[environments.shop]\n", "[defaults]\n"])
@pytest.mark.parametrize("key", GATES)
def test_protected_environment_takes_its_gates_from_the_file_alone(tmp_path: Path, key: str, place: str) -> None:
    protected = LAYERS.replace(place, f"{place}protected = true\n")
    with pytest.raises(ConfigError, match=rf"--set {key}: shop is protected"):
        effective(tmp_path, protected, {key: GATES[key]})


def test_one_announced_window_is_for_a_protected_environment_too(tmp_path: Path) -> None:
    protected = LAYERS.replace("[environments.shop]\n", "[environments.shop]\nprotected = true\n")
    announced = {"maintenance_window": [{"announced": "2026-11-28T22:00Z/PT1H"}], "limits.drain_s": 5}
    assert effective(tmp_path, protected, announced).limits.drain_s == 5


def test_gates_of_the_command_line_are_known(tmp_path: Path) -> None:
    path = tmp_path / "migrator.toml"
    path.write_text(LAYERS)
    given = {"lint.fail_on": "never", "limits.drain_s": 5, "signing.attestations": "elsewhere"}
    config = load(path, {}, given)
    assert config.environment("shop").lint.fail_on == "never"
    assert config.gates_given == ["lint.fail_on", "signing.attestations"]
