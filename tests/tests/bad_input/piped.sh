# What people pipe into the commands: a task list on standard input and from a process, a job file, settings.
set -euo pipefail
list=$1
jobs=$2
shift 2
cat "$list" | edp-coordinator run /dev/stdin
edp-worker make <(cat "$list")
edp-coordinator verify /dev/stdin <"$list"
edp-coordinator plan --jobs <(cat "$jobs") "$@" --tasks-out planned.json
edp-coordinator verify planned.json --settings <(echo "log = 'info'")
