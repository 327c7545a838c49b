"""dist/sbom.json: what a user runs, as CycloneDX: Python packages and Liquibase's jars, by version and hash.

python supply/sbom.py [FILE]      needs no network; the same input gives the same file
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))  # started as a script
import licences

from migrator.liquibase import jars

LOCK = licences.ROOT / "requirements-run.lock"
VERSION = "1.6"


def main(file: Path) -> None:
    """The file holds the bill of materials."""
    made = subprocess.run(
        [
            Path(sys.executable).with_name("cyclonedx-py"),
            "requirements",
            LOCK,
            "--pyproject",
            licences.ROOT / "pyproject.toml",
            "--spec-version",
            VERSION,
            "--output-reproducible",
            "--short-PURLs",
        ],
        check=True,
        capture_output=True,
        text=True,
    )
    document: dict[str, Any] = json.loads(made.stdout)
    known = {one.name.lower(): one for one in licences.packages(LOCK)}
    for component in document["components"]:
        package = known.get(component["name"].lower())
        if package is not None and package.licence is not None:
            component["licenses"] = [_licence(package.licence)]
    document["components"] += _jars()
    document["metadata"]["component"]["version"] = metadata.version("migrator")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(document, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    print(f"{file}: {len(document['components'])} components, CycloneDX {document['specVersion']}")


def _licence(expression: str) -> dict[str, object]:
    if " OR " in expression or " AND " in expression:
        return {"expression": expression}
    return {"license": {"name": expression}}


def _jars() -> Iterator[dict[str, object]]:
    """Those of the version that is used unless another one is named; migrator fetches them and checks their SHA-256."""
    for pin in jars.pins(jars.versions()[0]):
        yield {
            "type": "library",
            "bom-ref": f"{pin.group}:{pin.artifact}:{pin.version}",
            "group": pin.group,
            "name": pin.artifact,
            "version": pin.version,
            "purl": f"pkg:maven/{pin.group}/{pin.artifact}@{pin.version}",
            "hashes": [{"alg": "SHA-256", "content": pin.sha256}],
        }


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else licences.ROOT / "dist" / "sbom.json")
