"""The migrator.toml that `init` writes."""

from __future__ import annotations

import json

from migrator.config.targets import EMBEDDED

_HEAD = """\
# What `migrator` may do, to which database, and how.
# `migrator config show --env NAME` prints what is in effect, and why.
# Secrets do not belong here: write "${env:NAME}" and set the variable before the run.
# Paths are relative to this file's folder.

[liquibase]
version = "5.0.4"                 # 5.0.4 or 4.33.0, fetched once; or home = "/opt/liquibase"
root = "."                        # changelog paths are relative to this folder; the ledger remembers them that way

[journal]
url = "sqlite:///.migrator/journal.db"   # one per team: "postgresql://migrator@journal-host/migrator"

# [signing]
# key = "${env:MIGRATOR_SIGNING_KEY}"    # Ed25519, signs the manifests of backups
# public_keys = ["keys/*.pub"]

[defaults]                        # what all environments share
profile = "guarded"               # guarded: a maintenance window exists; online: there is none

# [defaults.limits]               # seconds; what stands here wins over the profile
# drain_s = 60                    # that the sessions of others have before they are ended
# max_downtime_s = 1800           # of maintenance, after which a run goes back by itself
"""

_LOCAL = """
# Without a url, `local` is a PostgreSQL of migrator's own (pip install 'migrator[embedded]').
[environments.local]
"""

_ENVIRONMENT = """
[environments.{name}]
url = {url}   # without a password
{password}
profile = "{profile}"               # {reason}
protected = {protected}                 # true: each run is confirmed, a backup is mandatory
contexts = ""                     # Liquibase's context filter
labels = ""                       # Liquibase's label filter
# parameters = {{ tenant = "acme" }}  # changelog parameters

[environments.{name}.maintenance]
{maintenance}
# outside = [
#   {{ type = "flag", path = "/run/shop/maintenance" }},
#   {{ type = "command", on = ["shop", "down"], off = ["shop", "up"], status = ["shop", "is-down"], timeout_s = 60 }},
# ]

[environments.{name}.backup]
{kinds}
store = "backups"                 # a folder with room for a dump

# [environments.{name}.checks]
# suites = ["checks/*.yaml"]      # Great Expectations
# invariants = ["checks/*.sql"]   # one SELECT a file
"""

_GUARDED = {
    "maintenance": 'database = "offline"              # offline | read-only | none',
    "kinds": 'kinds = ["dump"]                  # dump | clone | both; [] is a decision against a backup',
}
_ONLINE = {
    "maintenance": 'database = "none"                 # users go on; the run keeps its locks short',
    "kinds": "kinds = []                        # the database's own backups have to serve: this run makes none",
}


def starting_file() -> str:
    """A commented migrator.toml with the embedded environment `local`, and another one to fill in."""
    example = environment_section(
        "staging",
        url="postgresql://migrator@db.internal:5432/shop",
        password_variable="STAGING_DB_PASSWORD",  # noqa: S106 (a variable's name)
        profile="guarded",
        reason="or online",
    )
    commented = "\n".join(f"# {line}" if line and not line.startswith("#") else line for line in example.splitlines())
    return f"{_HEAD}{_LOCAL}{commented}\n"


def file_for(name: str, section: str) -> str:
    """A commented migrator.toml that ends with the section of a database that is already known."""
    return _HEAD + ("" if name == EMBEDDED else _LOCAL) + section


def environment_section(
    name: str, *, url: str, password_variable: str | None, profile: str, reason: str, protected: bool = False
) -> str:
    """The commented section of one environment. `url` is without a password."""
    password = f'password = "${{env:{password_variable}}}"'
    words = _ONLINE if profile == "online" else _GUARDED
    return _ENVIRONMENT.format(
        name=name,
        url=json.dumps(url, ensure_ascii=False),
        password=password if password_variable else '# password = "${env:NAME}"',
        profile=profile,
        reason=reason,
        protected=str(protected).lower(),
        **words,
    )
