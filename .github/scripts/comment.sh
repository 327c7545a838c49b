#!/usr/bin/env bash
# Keeps ONE comment on a pull request: made the first time, updated afterwards.
# Takes GH_TOKEN, REPOSITORY, NUMBER, COMMENT (a file whose first line is <!-- migrator -->). Without the right to
# write (a pull request from a fork) the job's summary has the text all the same.
set -euo pipefail
[[ -s "${COMMENT:-}" ]] || exit 0
[[ -z "${GITHUB_STEP_SUMMARY:-}" ]] || cat "$COMMENT" >> "$GITHUB_STEP_SUMMARY"

earlier="$(gh api --paginate "repos/$REPOSITORY/issues/$NUMBER/comments" \
  --jq '.[] | select(.user.type == "Bot" and (.body | startswith("<!-- migrator -->"))) | .id' | head -n 1)" || earlier=
# A comment holds 65,536 characters.
body="$(head -c 60000 "$COMMENT")"
if [[ -n "$earlier" ]]; then
  gh api --method PATCH "repos/$REPOSITORY/issues/comments/$earlier" --raw-field body="$body" > /dev/null
else
  gh api --method POST "repos/$REPOSITORY/issues/$NUMBER/comments" --raw-field body="$body" > /dev/null
fi || printf '::notice title=migrator::The comment could not be written; the summary of this job has it.\n'
