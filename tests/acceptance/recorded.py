"""The program `migrator`, with every child's argv and environment written down as it is started.

python -m tests.acceptance.recorded FILE [ARGUMENT OF MIGRATOR ...]
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any


def main(file: str, arguments: list[str]) -> int:
    real = subprocess.Popen.__init__

    def recorded(self: subprocess.Popen[Any], args: Any, *rest: Any, **kwargs: Any) -> None:
        argv = [args] if isinstance(args, (str, bytes)) else list(args)
        env = kwargs.get("env")
        line = {"argv": [str(one) for one in argv], "env": dict(os.environ if env is None else env)}
        with open(file, "a", encoding="utf-8") as out:
            out.write(json.dumps(line) + "\n")
        real(self, args, *rest, **kwargs)

    subprocess.Popen.__init__ = recorded  # type: ignore[method-assign]
    from migrator.cli import boundary
    from migrator.cli.app import app

    return boundary.run(app, arguments)


if __name__ == "__main__":
    os.umask(0o077)
    sys.exit(main(sys.argv[1], sys.argv[2:]))
