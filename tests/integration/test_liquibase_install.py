"""The real jars, from where the user gets them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from migrator.errors import ConfigError, ToolFailed
from migrator.liquibase import install, java, startup
from migrator.liquibase import jars as pinned
from tests.integration.liquibase_fixtures import VERSIONS


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of its own, filled from the user's one: the network is asked once a machine."""
    folder = tmp_path_factory.mktemp("cache")
    for version in VERSIONS:
        jars = install.jars_for(version, None)
        (folder / "liquibase").mkdir(exist_ok=True)
        shutil.copytree(jars.paths[0].parent, folder / "liquibase" / version)
    return folder


@pytest.mark.parametrize("version", VERSIONS)
def test_pinned_jars_are_used_without_asking_the_network(
    cache: Path, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pinned, "_fetch", no_network)
    said: list[str] = []
    jars = install.ensure(version, cache, said.append)
    assert said == []
    assert len(jars.paths) == len(pinned.pins(version)) == 9
    assert all(path.is_file() for path in jars.paths)


def no_network(*_: object) -> None:
    raise AssertionError("the network was asked")


def test_damaged_and_missing_jars_are_fetched_again(cache: Path) -> None:
    folder = cache / "liquibase" / "5.0.4"
    damaged, missing = folder / "commons-text-1.15.0.jar", folder / "commons-io-2.22.0.jar"
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[:-1] + b"x")
    missing.unlink()
    said: list[str] = []
    jars = install.ensure("5.0.4", cache, said.append)
    assert damaged.read_bytes() == whole
    assert missing.is_file()
    assert "2 files" in said[0]
    assert sorted(path.name for path in folder.iterdir()) == sorted(path.name for path in jars.paths)
    trained = startup.aot_cache(jars, install.java_home(None))
    assert trained is not None
    assert trained.is_file()
    assert [path.name for path in trained.parent.iterdir()] == [trained.name]


def test_jar_with_another_checksum_is_not_kept(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pin = pinned.pins("5.0.4")[6]
    wrong = pinned.Pin(group=pin.group, artifact=pin.artifact, version=pin.version, sha256="0" * 64)
    monkeypatch.setattr(pinned, "pins", lambda _: (wrong,))
    before = (cache / "liquibase" / "5.0.4" / pin.file_name).read_bytes()
    with pytest.raises(ToolFailed) as caught:
        install.ensure("5.0.4", cache)
    assert caught.value.code == "checksum"
    assert (cache / "liquibase" / "5.0.4" / pin.file_name).read_bytes() == before


def test_jar_that_does_not_exist_is_one_readable_line(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    none = pinned.Pin(group="org.liquibase", artifact="liquibase-core", version="0.0.0-none", sha256="0" * 64)
    monkeypatch.setattr(pinned, "pins", lambda _: (none,))
    with pytest.raises(ToolFailed) as caught:
        install.ensure("5.0.4", cache)
    assert caught.value.code == "download"
    assert caught.value.hint is not None


def test_training_that_fails_is_never_an_error(cache: Path, tmp_path: Path) -> None:
    jars = install.ensure("5.0.4", cache)
    (tmp_path / "aot").write_text("in the way")
    broken = pinned.Jars(version="5.0.4", paths=jars.paths, digest=jars.digest, cache_dir=tmp_path)
    assert startup.train(broken, install.java_home(None)) is False


def test_unknown_version_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"5\.0\.4, 4\.33\.0"):
        install.ensure("5.0.0", tmp_path)


def test_installed_liquibase_is_used_as_it_is(cache: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="liquibase-core"):
        pinned.from_home(tmp_path)
    shutil.copytree(cache / "liquibase" / "4.33.0", tmp_path / "internal" / "lib")
    jars = pinned.from_home(tmp_path)
    assert jars.version == "4.33.0"
    assert len(jars.paths) == 9
    (tmp_path / "internal" / "lib" / "postgresql-42.7.8.jar").unlink()
    with pytest.raises(ConfigError, match="driver"):
        pinned.from_home(tmp_path)


def test_folder_that_is_no_java_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no Java runtime"):
        install.java_home(tmp_path)
    library = java.jvm_library(tmp_path)
    library.parent.mkdir(parents=True)
    library.touch()
    (tmp_path / "release").write_text('JAVA_VERSION="11.0.2"\n')
    with pytest.raises(ConfigError, match="is Java 11"):
        install.java_home(tmp_path)
