"""Database URLs: names of any kind survive, everything unclear is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrator.config import urls
from migrator.config.login import Login
from migrator.errors import ConfigError

BASE = Path("/base")
NAMES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=15)


def login(url: str) -> Login:
    return urls.parse(url, where="url", base=BASE).login


@given(user=NAMES, database=NAMES, port=st.integers(1, 65535))
def test_any_name_survives_a_round_trip(user: str, database: str, port: int) -> None:
    before = Login(host="db.internal", port=port, database=database, user=user)
    assert login(urls.render(before)) == before


@pytest.mark.parametrize(
    ("url", "host", "port", "database"),
    [
        ("postgresql://u@h/d", "h", 5432, "d"),
        ("postgres://u@h:6000/d", "h", 6000, "d"),
        ('postgresql://u@h/my "odd" db', "h", 5432, 'my "odd" db'),
        ("postgresql://u@h/my%20%22odd%22%20db%23", "h", 5432, 'my "odd" db#'),
        ("postgresql://u@h/a/b", "h", 5432, "a/b"),
        ("postgresql://u@Host.Internal/--x", "Host.Internal", 5432, "--x"),
        ("postgresql://u@[::1]:6000/d", "::1", 6000, "d"),
        ("postgresql://u@%2Fvar%2Frun%2Fpostgresql/d", "/var/run/postgresql", 5432, "d"),
        (f"postgresql://u@h/{'é' * 31}x", "h", 5432, "é" * 31 + "x"),
    ],
)
def test_url_is_read(url: str, host: str, port: int, database: str) -> None:
    assert login(url) == Login(host=host, port=port, database=database, user="u")


def test_options_are_checked_and_files_are_relative_to_the_configuration() -> None:
    options = login("postgresql://u@h/d?sslmode=verify-ca&sslrootcert=keys/ca.pem&channel_binding=require").options
    assert options == {"sslmode": "verify-ca", "sslrootcert": "/base/keys/ca.pem", "channel_binding": "require"}
    assert login("postgresql://u@h/d?sslrootcert=system").options == {"sslrootcert": "system"}


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("", "no database URL"),
        ("shop", "no database URL"),
        ("jdbc:postgresql://h/d", "no database URL"),
        ("mysql://u@h/d", "'mysql' is not postgresql"),
        ("postgresql://h/d", "names no user"),
        ("postgresql://@h/d", "names no user"),
        ("postgresql://u@/d", "names no host"),
        ("postgresql://u@h", "names no database"),
        ("postgresql://u@h/", "names no database"),
        ("postgresql://u@h:0/d", "port"),
        ("postgresql://u@h:99999/d", "port"),
        ("postgresql://u@h:x/d", "port"),
        ("postgresql://u@h1,h2/d", "several hosts"),
        ("postgresql://u@h/d#x", "'#'"),
        ("postgresql://u@h/d\nx", "control character"),
        ("postgresql://u@h/d%00x", "NUL"),
        ("postgresql://u@h/d%ff", "not UTF-8"),
        (f"postgresql://u@h/{'é' * 32}", "longer than 63 bytes"),
        ("postgresql://u@h/d?sslmod=require", "'sslmode'"),
        ("postgresql://u@h/d?sslmode=verify_full", "'verify-full'"),
        ("postgresql://u@h/d?sslmode=", "is empty"),
        ("postgresql://u@h/d?sslmode=require&sslmode=disable", "stands twice"),
        ("postgresql://u@h/d?options=-c%20row_security%3Don", "migrator sets"),
        ("postgresql://u@h/d?application_name=x", "migrator names"),
        ("postgresql://u@h/d?sslpassword=canary7", "password among its options"),
    ],
)
def test_url_that_is_not_clear_is_refused(url: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        login(url)
    said = f"{caught.value.message} {caught.value.hint}"
    assert words in said
    assert "canary7" not in said


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql://u@h:5432/d", False),
        ("postgresql://u@h/d?sslmode=require", False),
        ("postgresql://u:p@h/d", True),
        ("postgresql://u:@h/d", True),
        ("postgresql://u:p/q@h/d", True),
        ("postgresql://u:p?q@h/d", True),
        ("postgresql://u:p#q@h/d", True),
        ("postgresql://u@h/d?password=p", True),
        ("u:p@h/d", True),
    ],
)
def test_password_in_a_url_is_seen(url: str, expected: bool) -> None:
    assert urls.has_password(url) is expected
