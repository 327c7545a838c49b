#!/usr/bin/env bash
# What a pull request's changelogs would do: linted without a database, then each release that it touches is rehearsed
# on a throwaway PostgreSQL on which the releases before it have run. Nothing of it needs a secret.
# Takes MIGRATOR (the program), BASE (the commit to compare with); writes findings.sarif, and the Markdown of a comment,
# whose path is the step's output `comment`. Exit code 1: something speaks against it.
set -euo pipefail
migrator="${MIGRATOR:-migrator}"
comment="${RUNNER_TEMP:-/tmp}/migrator-comment.md"
printf 'comment=%s\n' "$comment" >> "${GITHUB_OUTPUT:-/dev/stdout}"

mapfile -t releases < <(find changelogs -mindepth 2 -maxdepth 2 -type f -name 'changelog.*' | LC_ALL=C sort)
changed=()
for release in "${releases[@]}"; do
  git diff --quiet "$BASE"... -- "$(dirname "$release")" || changed+=("$release")
done
{
  printf '<!-- migrator -->\n## Changelogs\n\n'
  ((${#changed[@]} > 0)) || printf 'This pull request changes no release below `changelogs/`.\n'
} > "$comment"
((${#changed[@]} > 0)) || exit 0

failed=0
"$migrator" lint --format sarif --output findings.sarif --fail-on never "${changed[@]}"
"$migrator" lint --format github "${changed[@]}" || failed=1
{
  printf '### Findings\n\n```text\n'
  COLUMNS=100 "$migrator" lint --fail-on never "${changed[@]}" | sed 's/```/` ` `/g'
  printf '```\n\n### Rehearsal\n\n| release | result |\n| --- | --- |\n'
} >> "$comment"

log="$(mktemp)"
for release in "${releases[@]}"; do
  result=
  if [[ " ${changed[*]} " == *" $release "* ]]; then
    if "$migrator" rehearse "$release" --env local --from clone > "$log" 2>&1; then
      result="applied, rolled back and applied again: proven"
    else
      result="**failed**: see the log of this job"
      failed=1
    fi
    printf '::group::rehearse %s\n' "$release"
    cat "$log"
    printf '::endgroup::\n'
    printf '| `%s` | %s |\n' "$release" "$result" >> "$comment"
  fi
  # What comes after needs it there, whatever the rehearsal thought of its rollback. The job's summary need not tell.
  GITHUB_STEP_SUMMARY='' "$migrator" run "$release" --env local --yes --set lint.fail_on=never > "$log" 2>&1 || {
    cat "$log"
    printf '| `%s` | **cannot be applied**: see the log of this job |\n' "$release" >> "$comment"
    exit 1
  }
done
exit "$failed"
