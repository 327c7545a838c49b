"""References to AWS: where they may stand, when they are asked for, and how they are shown. Nobody is asked here."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from migrator.config import show
from migrator.config.aws import AwsSettings
from migrator.config.configuration import Config
from migrator.config.load import load
from migrator.config.login import Login, PasswordSource, Secret
from migrator.config.remote import Pointer, StandIn
from migrator.errors import ConfigError

SHOP = """
[environments.shop]
url = "postgresql://migrator@db.internal/shop"
password = "${aws-secret:shop/db#password}"
contexts = "${ssm:/shop/contexts}"
"""


@dataclass
class Asked:
    """A Remote that answers with what was asked, and remembers it."""

    asked: list[str] = field(default_factory=list)
    regions: list[str | None] = field(default_factory=list)

    def value(self, pointer: Pointer, aws: AwsSettings, *, where: str) -> str:
        self.asked.append(f"{where}: {pointer}")
        self.regions.append(aws.region)
        return f"canary of {pointer.name}"

    def password(self, pointer: Pointer, aws: AwsSettings, *, where: str) -> PasswordSource:
        return _Password(self, pointer, where)

    def token(self, login: Login, aws: AwsSettings) -> PasswordSource:
        return _Password(self, Pointer(kind="ssm", name=f"token/{login.user}"), aws.region or "")


@dataclass
class _Password:
    remote: Asked
    pointer: Pointer
    where: str

    def current(self) -> Secret:
        self.remote.asked.append(f"{self.where}: {self.pointer}")
        return Secret(f"password {len(self.remote.asked)}")


def opened(tmp_path: Path, text: str, remote: Asked | StandIn | None) -> Config:
    path = tmp_path / "migrator.toml"
    path.write_text(text)
    return load(path, {"REGION": "eu-west-1"}, remote=remote)


def test_a_password_is_asked_for_when_it_is_used_and_every_time(tmp_path: Path) -> None:
    remote = Asked()
    login = opened(tmp_path, SHOP, remote).environment("shop").login
    assert login is not None
    assert [one.rpartition(": ")[2] for one in remote.asked] == ["${ssm:/shop/contexts}"]
    first, second = login.secret(), login.to("other").secret()
    assert first is not None
    assert second is not None
    assert first != second
    settled = login.settled()
    assert settled.secret() == settled.secret()
    assert "environments.shop.password: ${aws-secret:shop/db#password}" in remote.asked[1]


def test_every_other_setting_has_its_value(tmp_path: Path) -> None:
    environment = opened(tmp_path, SHOP, Asked()).environment("shop")
    assert environment.contexts == "canary of /shop/contexts"
    assert environment.references["contexts"] == "${ssm:/shop/contexts}"


def test_nothing_is_asked_for_what_is_only_shown(tmp_path: Path) -> None:
    text = SHOP + '[journal]\nurl = "${ssm:/journal}"\n[signing]\nkey = "${aws-secret:key}"\n'
    text = text.replace('"postgresql://migrator@db.internal/shop"', '"${aws-secret:shop/url}"')
    config = opened(tmp_path, text, StandIn())
    shown = show.as_text(config, config.environment("shop"))
    for setting, reference in (
        ("url", "${aws-secret:shop/url}"),
        ("password", "${aws-secret:shop/db#password}"),
        ("contexts", "${ssm:/shop/contexts}"),
        ("key", "${aws-secret:key}"),
    ):
        [line] = [line for line in shown.splitlines() if line.endswith(reference)]
        assert line.startswith(f'{setting} = "********"')


def test_aws_is_reached_as_the_environment_says(tmp_path: Path) -> None:
    remote = Asked()
    text = '[aws]\nregion = "eu-central-1"\n' + SHOP
    opened(tmp_path, text, remote).environment("shop")
    opened(tmp_path, text + '[environments.shop.aws]\nregion = "us-east-1"\n', remote).environment("shop")
    opened(tmp_path, text, remote).environment("shop", {"aws.region": "ap-south-1"})
    assert remote.regions == ["eu-central-1", "us-east-1", "ap-south-1"]


def test_a_token_takes_the_place_of_a_password(tmp_path: Path) -> None:
    text = SHOP.replace('password = "${aws-secret:shop/db#password}"', 'login = "rds-iam"')
    config = opened(tmp_path, text, Asked())
    login = config.environment("shop").login
    assert login is not None
    assert login.secret() != login.secret()
    assert 'login = "rds-iam"' in show.as_text(config, config.environment("shop"))


def test_a_token_is_given_only_to_a_server_that_proves_itself(tmp_path: Path) -> None:
    text = SHOP.replace('password = "${aws-secret:shop/db#password}"', 'login = "rds-iam"')
    text = text.replace("/shop", "/shop?sslmode=require", 1)
    with pytest.raises(ConfigError, match="sslmode=require") as caught:
        opened(tmp_path, text, Asked()).environment("shop")
    assert "sslrootcert" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("${ssm:}", "names no parameter"),
        ("${ssm:/a b}", "names no parameter"),
        ("${ssm:/a#b}", "names no parameter"),
        ("${aws-secret:}", "names no secret"),
        ("${aws-secret:a#b#c#d}", "names no secret"),
        ("x${ssm:/a}", "a reference to AWS and something else"),
    ],
)
def test_a_malformed_reference_is_refused_with_its_place(tmp_path: Path, reference: str, words: str) -> None:
    text = SHOP.replace("${aws-secret:shop/db#password}", reference)
    with pytest.raises(ConfigError, match=words) as caught:
        opened(tmp_path, text, Asked()).environment("shop")
    assert "migrator.toml:4: environments.shop.password" in caught.value.message


@pytest.mark.parametrize("name", ["rds!db-1f2e", "shop/db", "arn:aws:secretsmanager:eu-west-1:123456789012:secret:a-b"])
def test_every_name_that_aws_gives_is_taken(tmp_path: Path, name: str) -> None:
    remote, reference = Asked(), f"${{aws-secret:{name}##AWSPREVIOUS}}"
    opened(tmp_path, SHOP.replace("${ssm:/shop/contexts}", reference), remote).environment("shop")
    assert remote.asked[0].endswith(reference)


def test_how_aws_is_reached_does_not_stand_at_aws(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be used here"):
        opened(tmp_path, SHOP + '[environments.shop.aws]\nprofile = "${ssm:/a}"\n', Asked()).environment("shop")


def test_a_reference_is_refused_where_nobody_can_ask(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be used here"):
        opened(tmp_path, SHOP, None).environment("shop")


def test_a_store_may_be_a_reference(tmp_path: Path) -> None:
    text = SHOP + '[environments.shop.backup]\nstore = "s3://${env:REGION}/shop"\n'
    assert opened(tmp_path, text, Asked()).environment("shop").backup.store == "s3://eu-west-1/shop"
    with pytest.raises(ConfigError, match=r"backup\.store: a part of the prefix is '..'"):
        opened(tmp_path, text.replace("N}/shop", "N}/../shop"), Asked()).environment("shop")
