#!/usr/bin/env bash
# Installs migrator, everything by version and hash, once a runner and version.
# Takes PYTHON; writes the program's path to the step's output `migrator`.
set -euo pipefail
sources="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
digest="$(find "$sources/migrator" "$sources/changelogs" "$sources/checks" "$sources/requirements-run.lock" \
  "$sources/pyproject.toml" -type f -not -name '*.pyc' -print0 | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum | cut -c1-16)"
venv="${RUNNER_TEMP:-/tmp}/migrator/$digest"

if [[ ! -e "$venv/.ready" ]]; then
  "${PYTHON:-python3}" -m venv --clear "$venv"
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes \
    -r "$sources/requirements-run.lock"
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation "$sources"
  touch "$venv/.ready"
fi
printf 'migrator=%s\n' "$venv/bin/migrator" >> "${GITHUB_OUTPUT:-/dev/stdout}"
