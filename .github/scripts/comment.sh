#!/usr/bin/env bash
# Keeps ONE comment on a pull request: made the first time, updated afterwards.
# Takes GH_TOKEN, REPOSITORY, NUMBER, COMMENT (a file whose first line is <!-- migrator -->). Without the right to
# write (a pull request from a fork) the job's summary has the text all the same.
set -euo pipefail
[[ -s "${COMMENT:-}" ]] || exit 0
cut() { head -c "$1" "$COMMENT" | iconv -c -f utf-8 -t utf-8; } # at no half of a character
[[ -z "${GITHUB_STEP_SUMMARY:-}" ]] || cut 1000000 >> "$GITHUB_STEP_SUMMARY" # a summary holds 1 MiB

earlier="$(gh api --paginate "repos/$REPOSITORY/issues/$NUMBER/comments" \
  --jq '.[] | select(.user.type == "Bot" and (.body | startswith("<!-- migrator -->"))) | .id' | head -n 1)" || earlier=
# A comment holds 65,536 characters.
body="$(cut 60000)"
if [[ -n "$earlier" ]]; then
  gh api --method PATCH "repos/$REPOSITORY/issues/comments/$earlier" --raw-field body="$body" > /dev/null
else
  gh api --method POST "repos/$REPOSITORY/issues/$NUMBER/comments" --raw-field body="$body" > /dev/null
fi || printf '::notice title=migrator::The comment could not be written; the summary of this job has it.\n'
