#!/usr/bin/env bash
# Says which command of migrator a recovery, or maintenance by hand, is. Takes ACTION, SUBJECT, ENVIRONMENT, ACCEPT_LOSS,
# for maintenance MODE and REASON too; writes the step's outputs `command`, `environment` and `arguments` (one a line).
# Nobody is at a terminal: what would be asked there was decided by whoever started the workflow.
set -euo pipefail

refuse() {
  printf '::error title=migrator::%s\n' "$1" >&2
  exit 2
}

subject="${SUBJECT:-}"
[[ -z "$subject" || "$subject" =~ ^[A-Za-z0-9_][A-Za-z0-9_.-]*$ ]] || refuse "The subject is no id of a run or a backup."
needs_subject() { [[ -n "$subject" ]] || refuse "$ACTION needs the id of a run or a backup: see status."; }

environment="$ENVIRONMENT"
arguments=()
case "$ACTION" in
  status | "maintenance status" | "maintenance off") command="$ACTION" ;;
  "maintenance on")
    [[ "${MODE:-}" =~ ^(offline|read-only)$ ]] || refuse "The mode is offline or read-only."
    [[ "${REASON:-}" != *[[:cntrl:]]* ]] || refuse "The reason has more than one line."
    command="$ACTION"
    arguments+=("--mode=$MODE" "--reason=${REASON:-maintenance}" --yes)
    ;;
  recover)
    command="$ACTION"
    arguments+=(--yes)
    ;;
  resume | "resume --back")
    needs_subject
    command=resume environment=""
    arguments+=("$subject" --yes)
    [[ "$ACTION" == resume ]] || arguments+=(--back)
    ;;
  rollback)
    needs_subject
    command=rollback
    arguments+=("$subject" --yes)
    ;;
  "backup restore")
    needs_subject
    command="backup restore"
    arguments+=("$subject" --confirm "$ENVIRONMENT")
    ;;
  *) refuse "The action is not known." ;;
esac
if [[ "${ACCEPT_LOSS:-false}" == true ]]; then
  [[ "$ACTION" == rollback ]] || refuse "accept-loss belongs to rollback alone."
  arguments+=(--accept-loss)
fi

end="end-$RANDOM$RANDOM$RANDOM"
{
  printf 'command=%s\nenvironment=%s\narguments<<%s\n' "$command" "$environment" "$end"
  ((${#arguments[@]} == 0)) || printf '%s\n' "${arguments[@]}"
  printf '%s\n' "$end"
} >> "$GITHUB_OUTPUT"
