#!/usr/bin/env bash
# Calls migrator with what a workflow was given. Whatever an input holds, it is one argument, and never shell code.
# Takes MIGRATOR (the program), COMMAND, ENVIRONMENT, CHANGELOG, CONFIG, PLAN, ARGUMENTS (one a line), WORKING_DIRECTORY.
set -euo pipefail

refuse() {
  printf '::error title=migrator::%s\n' "$1" >&2
  exit 2
}

# A word that begins with a dash would be read as an option, one with a newline as two arguments.
allowed() { # name, value, pattern
  [[ -z "$2" || "$2" =~ ^$3$ ]] || refuse "The input $1 is not allowed: it must match $3."
}

newline=$'\n'
for name in COMMAND ENVIRONMENT CHANGELOG CONFIG PLAN WORKING_DIRECTORY; do
  [[ "${!name:-}" != *"$newline"* ]] || refuse "The input ${name,,} has more than one line."
done
allowed command "${COMMAND:-}" '[a-z][a-z-]*( [a-z][a-z-]*)?'
allowed environment "${ENVIRONMENT:-}" '[A-Za-z0-9_][A-Za-z0-9_.-]*'
for name in CHANGELOG CONFIG PLAN; do
  allowed "${name,,}" "${!name:-}" '[A-Za-z0-9_.][A-Za-z0-9_./ -]*'
  [[ "/${!name:-}/" != */../* ]] || refuse "The input ${name,,} leaves the workspace."
done
[[ -n "${COMMAND:-}" ]] || refuse "The input command is empty."

cd -- "${WORKING_DIRECTORY:-.}"
read -r -a arguments <<< "$COMMAND"
[[ -z "${CHANGELOG:-}" ]] || arguments+=("$CHANGELOG")
[[ -z "${ENVIRONMENT:-}" ]] || arguments+=(--env "$ENVIRONMENT")
[[ -z "${CONFIG:-}" || ! -e "$CONFIG" ]] || arguments+=(--config "$CONFIG")
[[ -z "${PLAN:-}" ]] || arguments+=(--plan "$PLAN")
while IFS= read -r argument; do
  [[ -z "$argument" ]] || arguments+=("$argument")
done <<< "${ARGUMENTS:-}"

exec "${MIGRATOR:-migrator}" "${arguments[@]}"
