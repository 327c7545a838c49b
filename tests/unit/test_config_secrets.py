"""References and secrets: resolved where they are needed, never shown, never in plain sight."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from migrator.config.load import load
from migrator.config.models import ConfigFile, EnvironmentTable
from migrator.errors import ConfigError

CANARY = "a!b@c$d()e*_,/:;=?@ff[]22 ü"
SHOP = '[environments.shop]\nurl = "postgresql://migrator@db.internal/shop"\npassword = "${env:SHOP_PW}"\n'


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "migrator.toml"
    path.write_text(text)
    return path


def said(error: ConfigError) -> str:
    return f"{error.message}\n{error.hint}"


def test_password_with_every_special_character_arrives_and_is_not_shown(tmp_path: Path) -> None:
    environment = load(written(tmp_path, SHOP), {"SHOP_PW": CANARY}).environment("shop")
    assert environment.login is not None
    assert environment.login.password is not None
    assert environment.login.password.reveal() == CANARY
    assert environment.references == {"password": "${env:SHOP_PW}"}
    for text in (repr(environment), str(environment), str(environment.login), environment.model_dump_json()):
        assert CANARY not in text


def test_unset_variable_is_named_for_the_environment_asked_for_only(tmp_path: Path) -> None:
    text = SHOP + '[environments.other]\nurl = "postgresql://u@h/d"\npassword = "${env:OTHER_PW}"\n'
    config = load(written(tmp_path, text), {"OTHER_PW": "x"})
    assert config.environment("other").login is not None
    with pytest.raises(ConfigError) as caught:
        config.environment("shop")
    assert "migrator.toml:3: environments.shop.password" in said(caught.value)
    assert "SHOP_PW is not set" in said(caught.value)


def test_empty_variable_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="SHOP_PW is empty"):
        load(written(tmp_path, SHOP), {"SHOP_PW": ""}).environment("shop")


@pytest.mark.parametrize(
    ("reference", "words"),
    [("${evn:X}", "${env:NAME}"), ("${env:}", "names no environment variable")],
)
def test_malformed_reference_is_refused(tmp_path: Path, reference: str, words: str) -> None:
    text = SHOP.replace("${env:SHOP_PW}", reference)
    with pytest.raises(ConfigError) as caught:
        load(written(tmp_path, text), {}).environment("shop")
    assert words in said(caught.value)


def test_bare_variable_is_no_reference(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(written(tmp_path, SHOP + 'contexts = "${CTX}"\n'), {"SHOP_PW": "x"}).environment("shop")
    assert "write ${env:CTX}" in said(caught.value)


def test_changelog_parameters_may_hold_what_looks_like_one(tmp_path: Path) -> None:
    text = SHOP + 'parameters = { path = "${other}", tenant = "${env:TENANT}" }\n'
    environment = load(written(tmp_path, text), {"SHOP_PW": "x", "TENANT": "acme"}).environment("shop")
    assert environment.parameters == {"path": "${other}", "tenant": "acme"}


@pytest.mark.parametrize(
    "text",
    [
        '[environments.shop]\nurl = "postgresql://migrator:canary7@db.internal/shop"\n',
        '[environments.shop]\nurl = "postgresql://migrator:canary7/#?@db.internal/shop"\n',
        '[environments.shop]\nurl = "postgresql://migrator:${env:PW}canary7@db.internal/shop"\n',
        '[environments.shop]\nurl = "postgresql://migrator@db.internal/shop?password=canary7"\n',
        '[environments.shop]\nurl = "postgresql://migrator@db.internal/shop"\npassword = "canary7"\n',
        '[environments.shop]\nurl = "postgresql://migrator@db.internal/shop"\npassword = ["canary7"]\n',
        '[journal]\nurl = "postgresql://j:canary7@h/d"\n',
        '[signing]\nkey = "canary7"\n',
    ],
)
def test_secret_in_the_file_is_refused_and_not_repeated(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(written(tmp_path, text), {})
    assert "canary7" not in said(caught.value)


def test_password_on_the_command_line_is_refused_and_not_repeated(tmp_path: Path) -> None:
    path = written(tmp_path, SHOP)
    for given in ({"url": "postgresql://u:canary7@h/d"}, {"password": "canary7"}):
        with pytest.raises(ConfigError) as caught:
            load(path, {}, given)
        assert "every user of this machine" in said(caught.value)
        assert "canary7" not in said(caught.value)


def test_url_that_is_a_reference_may_bring_its_password(tmp_path: Path) -> None:
    text = '[environments.shop]\nurl = "${env:DATABASE_URL}"\n'
    environ = {"DATABASE_URL": "postgresql://u:p%40ss@db.internal/shop"}
    environment = load(written(tmp_path, text), environ).environment("shop")
    assert environment.login is not None
    assert environment.login.password is not None
    assert environment.login.password.reveal() == "p@ss"
    assert "p%40ss" not in repr(environment)


def test_parts_of_a_url_may_be_references(tmp_path: Path) -> None:
    path = written(tmp_path, '[environments.shop]\nurl = "postgresql://${env:WHO}@${env:HOST}:5432/shop"\n')
    login = load(path, {"WHO": "planner", "HOST": "127.0.0.1"}).environment("shop").login
    assert str(login) == "postgresql://planner@127.0.0.1:5432/shop"


@pytest.mark.parametrize("user", ["${env:WHO}:canary", "who:${env:PW}", "${env:WHO}:${env:PW}"])
def test_no_part_of_a_url_is_a_password(tmp_path: Path, user: str) -> None:
    with pytest.raises(ConfigError, match="the URL holds a password") as refused:
        load(written(tmp_path, f'[environments.shop]\nurl = "postgresql://{user}@h/shop"\n'), {"WHO": "w", "PW": "p"})
    assert "canary" not in str(refused.value)


def test_reference_in_a_command_is_refused(tmp_path: Path) -> None:
    command = 'outside = [{type = "command", on = ["x", "${env:T}"], off = ["x"], status = ["x"]}]\n'
    with pytest.raises(ConfigError, match="reference in a command"):
        load(
            written(tmp_path, f"{SHOP}[environments.shop.maintenance]\n{command}"), {"SHOP_PW": "x", "T": "y"}
        ).environment("shop")


def test_signing_key_is_resolved_when_it_is_read(tmp_path: Path) -> None:
    path = written(tmp_path, '[signing]\nkey = "${env:KEY}"\n' + SHOP)
    assert load(path, {"SHOP_PW": "x"}).environment("shop").name == "shop"
    with pytest.raises(ConfigError, match="KEY is not set"):
        _ = load(path, {}).signing.key
    key = load(path, {"KEY": CANARY}).signing.key
    assert key is not None
    assert key.reveal() == CANARY


def test_journal_in_postgresql_is_secret_and_verified(tmp_path: Path) -> None:
    text = '[journal]\nurl = "postgresql://j@db.internal/journal of runs"\npassword = "${env:JOURNAL_PW}"\n'
    journal = load(written(tmp_path, text), {"JOURNAL_PW": "p@s/s"}).journal
    assert not isinstance(journal.url, str)
    assert journal.url.reveal() == (
        "postgresql+psycopg://j:p%40s%2Fs@db.internal:5432/journal%20of%20runs?sslmode=verify-full"
    )
    assert journal.shown == "postgresql://j@db.internal:5432/journal%20of%20runs"
    assert "p%40s" not in repr(journal)


def test_journal_is_sqlite_by_default(tmp_path: Path) -> None:
    journal = load(written(tmp_path, ""), {}).journal
    assert (journal.url, journal.login) == ("sqlite:///.migrator/journal.db", None)


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///", "mysql://u@h/d", "nothing"])
def test_journal_elsewhere_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(ConfigError, match=r"migrator\.toml:2: journal\.url"):
        _ = load(written(tmp_path, f'[journal]\nurl = "{url}"\n'), {}).journal


SECRET = "s3cr3t-v4lue"
URL = '"postgresql://m@db/shop"'


def keys_of(model: type[BaseModel], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, field in model.model_fields.items():
        key = (*above, field.alias or name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from keys_of(field.annotation, key)
        else:
            yield key


def with_one(key: tuple[str, ...], value: str) -> str:
    """A configuration with an environment `shop`, and this at the key."""
    sections: dict[str, dict[str, str]] = {"": {}, "environments.shop": {"url": URL}}
    sections.setdefault(".".join(key[:-1]), {})[key[-1]] = value
    return "\n".join(
        (f"[{name}]\n" if name else "") + "\n".join(f"{one} = {text}" for one, text in settings.items())
        for name, settings in sections.items()
    )


KEYS = [*keys_of(ConfigFile), *keys_of(EnvironmentTable, ("environments", "shop"))]
VALUES = ['"${env:X}"', '["${env:X}"]', '"a/${env:X}"', f'"postgresql://u:{SECRET}@h/d"', f'["x://u:{SECRET}@h"]']


@pytest.mark.parametrize("value", VALUES)
def test_what_is_wrong_is_told_without_a_variables_value_or_a_urls_password(tmp_path: Path, value: str) -> None:
    """Whatever the key: a password may stand under a wrong one."""
    said = []
    for key in KEYS:
        path = tmp_path / "migrator.toml"
        path.write_text(with_one(key, value), encoding="utf-8")
        try:
            load(path, {"X": SECRET}).environment("shop")
        except ConfigError as error:
            said.append(f"{error} {error.hint}")
    assert len(said) > len(KEYS) / 3
    assert [one for one in said if SECRET in one] == []
