"""migrator.toml: what is accepted, and the words in which the rest is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from migrator.config.load import load
from migrator.errors import ConfigError, UsageError

Write = Callable[[str | bytes], Path]
SHOP = '[environments.shop]\nurl = "postgresql://migrator@db.internal/shop"\n'


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def written(content: str | bytes) -> Path:
        path = tmp_path / "migrator.toml"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return written


def refusal(path: Path, environment: str | None = None, environ: dict[str, str] | None = None) -> str:
    def reading() -> None:
        config = load(path, environ or {})
        if environment is not None:
            config.environment(environment)

    with pytest.raises(ConfigError) as caught:
        reading()
    assert caught.value.exit_code == 2
    return f"{caught.value.message}\n{caught.value.hint or ''}"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'\xef\xbb\xbf[defaults]\nprofile = "guarded"\n', ["migrator.toml:1:", "byte order mark"]),
        ("[defaults]\n".encode("utf-16"), ["migrator.toml:1:", "UTF-16"]),
        (b'[defaults]\n# ok\ncontexts = "caf\xe9"\n', ["migrator.toml:3:", "not UTF-8", "0xe9"]),
        (b'[defaults]\ncontexts = "a\0b"\n', ["migrator.toml:2:", "NUL"]),
        ('[defaults]\nway = "auto"\nway = "atomic"\n', ["migrator.toml:3:", "'way' stands twice"]),
        ("[defaults]\n[journal]\n[defaults]\n", ["migrator.toml:3:", "[defaults] stands twice"]),
        ("[defaults]\nway = \n", ["migrator.toml:2:", "not TOML"]),
        ('[defaults]\nway = "auto', ["migrator.toml:2:", "not TOML"]),
        ('[defaults]\ncontexts = """abc\n', ["migrator.toml:", "not TOML"]),
    ],
)
def test_file_that_is_not_plain_toml_is_refused_with_its_line(
    write: Write, content: str | bytes, words: list[str]
) -> None:
    said = refusal(write(content))
    for word in words:
        assert word in said


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[environment.shop]\n", ["migrator.toml:1: environment: unknown key", "'environments'"]),
        (SHOP + "protectd = true\n", ["migrator.toml:3: environments.shop.protectd: unknown key", "'protected'"]),
        (
            SHOP + "[environments.shop.limits]\nlock_timout_s = 3\n",
            [":4: environments.shop.limits.lock_timout_s", "'lock_timeout_s'"],
        ),
        (SHOP + "lock_timeout_s = 3\n", ["environments.shop.lock_timeout_s: unknown key", "'limits.lock_timeout_s'"]),
        ('[defaults.maintenance]\noutside = [{type = "flag", pth = "x"}]\n', ["outside.0.pth: unknown key", "'path'"]),
        ('[defaults.maintenance]\noutside = [{type = "comand", on = ["x"]}]\n', ["unknown type 'comand'", "'command'"]),
        ('[defaults.maintenance]\noutside = [{path = "x"}]\n', ["says no type", "flag, command"]),
        (
            '[defaults.maintenance]\noutside = [{type = "command", on = []}]\n',
            ["outside.0.on: is empty", "outside.0.off: is missing"],
        ),
        ('[defaults.maintenance]\ndatabase = "offlin"\n', ["is 'offlin'", "offline, read-only, none", "'offline'"]),
        ('[defaults]\nprofile = "gaurded"\n', ["is 'gaurded'", "'guarded'"]),
        ('[defaults]\nprotected = "yes"\n', ["true or false"]),
        ("[defaults]\ncontexts = 5\n", ["contexts: is 5", "text in quotes"]),
        ("[defaults]\nparameters = {tenant = 5}\n", ["parameters.tenant: is 5"]),
        ("[defaults]\njobs = 0\n", ["jobs: is 0", "at least 1"]),
        ("[defaults]\nlimits = 5\n", ["limits: is 5", "section"]),
        ('[defaults.checks]\nsuites = "checks/*.yaml"\n', ["suites: is 'checks/*.yaml'", "list"]),
        ('[defaults.backup]\nkinds = ["dump", "tape"]\n', ["kinds.1: is 'tape'; one of: dump, clone, pitr"]),
        ('[defaults.backup]\nkinds = ["dump", "dump"]\n', ["names a kind twice"]),
        ('[defaults.backup]\nstore = "s3://bucket"\n', ["backup.store: s3://bucket names no prefix", "s3://bucket/mi"]),
        ('[defaults.backup]\nstore = "s3://bucket/a/../b"\n', ["backup.store: a part of the prefix is '..'"]),
        ('[defaults.backup]\nstore = "s3://bucket/a//b"\n', ["backup.store: a part of the prefix is ''"]),
        ('[defaults.backup]\nstore = "s3:///prefix"\n', ["backup.store: '' is not the name of a bucket"]),
        ('[defaults.backup]\nstore = "gs://bucket/prefix"\n', ["backup.store: gs:// is not known"]),
        ('[defaults.store]\nbucket_owner = "shop"\n', ["store.bucket_owner"]),
        ('[aws]\nregon = "eu-central-1"\n', ["migrator.toml:2: aws.regon: unknown key", "'region'"]),
        ('[defaults.backup]\nstore = " "\n', ["backup.store: is empty"]),
        ('[environments.shop]\nurl = ""\n', ["environments.shop.url: is empty"]),
        ('[environments."a b"]\n', ["environments.a b", "letters"]),
        ('[defaults]\ndefault_schema = "' + "x" * 64 + '"\n', ["longer than 63 bytes"]),
        ('[defaults]\nlogin = "rds"\n', ["no way to log in called 'rds'", 'login = "rds-iam"']),
        ('[defaults]\nlogin = "rds-iam"\npassword = "${env:X}"\n', ["a password stands beside it"]),
        ('[defaults]\nurl = "postgresql://u@h/d"\n', ["all environments would be one database"]),
        ('[liquibase]\nversion = "5.0.4"\nhome = "."\n', ["exclude each other"]),
        ('[liquibase]\nroot = "nowhere"\n', ["migrator.toml:2: liquibase.root: there is no folder"]),
    ],
)
def test_wrong_key_or_value_is_refused_with_its_place_and_a_remedy(
    write: Write, content: str, words: list[str]
) -> None:
    said = refusal(write(content))
    for word in words:
        assert word in said


@pytest.mark.parametrize("value", ["0", "-1", "0.0", "nan", "inf", "true", '"5 minuts"', '"10"', '"10s"'])
def test_timeout_that_is_no_positive_number_of_seconds_is_refused(write: Write, value: str) -> None:
    said = refusal(write(f"{SHOP}[environments.shop.limits]\ndrain_s = {value}\n"))
    assert "migrator.toml:4: environments.shop.limits.drain_s" in said
    assert "seconds" in said


def test_every_mistake_is_named_at_once(write: Write) -> None:
    said = refusal(write("[defaults]\nprotectd = true\n[defaults.limits]\ndrain_s = 0\n"))
    assert "protectd" in said
    assert "drain_s" in said


def test_missing_file_names_init(tmp_path: Path) -> None:
    said = refusal(tmp_path / "other.toml")
    assert "other.toml" in said
    assert "migrator init" in said


def test_folder_in_place_of_the_file_is_refused(tmp_path: Path) -> None:
    assert "cannot be read" in refusal(tmp_path)


def test_unknown_environment_suggests_the_nearest(write: Write) -> None:
    assert "did you mean 'shop'?" in refusal(write(SHOP), "shp")


def test_environment_without_url_is_refused_unless_it_is_local(write: Write) -> None:
    path = write("[environments.shop]\n[environments.local]\n")
    assert "environments.shop.url: is missing" in refusal(path, "shop")
    assert load(path, {}).environment("local").login is None


def test_local_needs_no_section(write: Write) -> None:
    assert load(write(SHOP), {}).environment("local").login is None


def test_without_a_file_everything_is_at_its_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = load(None, {}, required=False)
    assert config.path is None
    assert config.names == []
    assert config.environment("local").profile == "guarded"
    with pytest.raises(ConfigError, match="there is no"):
        load(None, {})


@pytest.mark.parametrize("database", ["postgres", "template0", "template1", "template_shop"])
def test_server_databases_are_no_targets(write: Write, database: str) -> None:
    path = write(f'[environments.shop]\nurl = "postgresql://u@h/{database}"\nmaintenance_database = "other"\n')
    assert f"the database '{database}'" in refusal(path, "shop")


def test_target_is_not_its_own_maintenance_database(write: Write) -> None:
    assert "is the target itself" in refusal(write(SHOP + 'maintenance_database = "shop"\n'), "shop")


def test_journal_inside_the_target_is_refused(write: Write) -> None:
    path = write('[journal]\nurl = "postgresql://j@db.internal:5432/shop"\n' + SHOP)
    assert "the journal's database is the target itself" in refusal(path, "shop")


def test_protected_environment_has_a_backup(write: Write) -> None:
    empty = "protected = true\n[environments.shop.backup]\nkinds = []\n"
    assert "migrator.toml:5: environments.shop.backup.kinds: is empty" in refusal(write(SHOP + empty), "shop")
    assert load(write(SHOP + empty.replace("protected = true\n", "")), {}).environment("shop").backup.kinds == ()
    assert "backup.kinds" in refusal(write(SHOP + 'protected = true\nprofile = "online"\n'), "shop")


def test_paths_are_relative_to_the_file(write: Write, tmp_path: Path) -> None:
    (tmp_path / "checks").mkdir()
    for name in ("b.yaml", "a.yaml", "money.sql"):
        (tmp_path / "checks" / name).touch()
    path = write(
        SHOP
        + '[environments.shop.checks]\nsuites = ["checks/*.yaml", "checks/a.yaml"]\ninvariants = ["checks/money.sql"]\n'
        + '[environments.shop.maintenance]\noutside = [{type = "flag", path = "run/flag"}]\n'
        + '[environments.shop.backup]\nstore = "/backups"\n'
    )
    environment = load(path, {}).environment("shop")
    assert environment.checks.suites == (tmp_path / "checks/a.yaml", tmp_path / "checks/b.yaml")
    assert environment.checks.invariants == (tmp_path / "checks/money.sql",)
    assert environment.maintenance.outside[0].path == tmp_path / "run/flag"  # type: ignore[union-attr]
    assert environment.backup.store == "/backups"
    assert load(path, {}).liquibase.root == tmp_path


@pytest.mark.parametrize("pattern", ["checks/*.yaml", "checks/orders.yaml"])
def test_pattern_that_names_no_file_is_refused(write: Write, pattern: str) -> None:
    said = refusal(write(f'{SHOP}[environments.shop.checks]\nsuites = ["{pattern}"]\n'), "shop")
    assert "migrator.toml:4: environments.shop.checks.suites: no file matches" in said


def test_models_are_frozen(write: Write) -> None:
    environment = load(write(SHOP), {}).environment("shop")
    with pytest.raises(ValueError, match="frozen"):
        environment.protected = True


def test_override_of_an_unknown_setting_is_a_usage_error(write: Write) -> None:
    with pytest.raises(UsageError, match=r"--set limits\.drain: unknown key"):
        load(write(SHOP), {}, {"limits.drain": 3})
