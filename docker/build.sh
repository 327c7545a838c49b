#!/bin/sh
# Installs migrator from SOURCES into TARGET, with all that it needs to start without a network: by version and hash,
# the Liquibase jars and the JVM's start-up archive in TARGET/cache. Needs Python with venv and pip, nothing else.
#   docker/build.sh SOURCES TARGET
set -eu
sources=$1
target=$2

umask 022 # whoever runs it reads it
python3 -m venv "$target"
pip() { "$target/bin/python" -m pip --quiet --disable-pip-version-check --no-cache-dir "$@"; }
pip install --no-compile --require-hashes -r "$sources/requirements-run.lock"
pip install --no-compile --no-deps --no-build-isolation "$sources"
pip uninstall --yes hatchling pathspec trove-classifiers
XDG_CACHE_HOME="$target/cache" "$target/bin/migrator" liquibase install
chmod -R a+rX,go-w "$target"
