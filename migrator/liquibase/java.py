"""What is known of a Java runtime by looking into its folder."""

from __future__ import annotations

import re
import sys
from pathlib import Path


def major_version(home: Path) -> int | None:
    """The major version from the runtime's `release` file; None where there is none."""
    try:
        found = re.search(r'^JAVA_VERSION="(\d+)', (home / "release").read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        return None
    return int(found.group(1)) if found else None


def jvm_library(home: Path) -> Path:
    """Where the runtime keeps the library that is the JVM."""
    if sys.platform == "darwin":
        return home / "lib" / "server" / "libjvm.dylib"
    if sys.platform == "win32":
        return home / "bin" / "server" / "jvm.dll"
    return home / "lib" / "server" / "libjvm.so"
