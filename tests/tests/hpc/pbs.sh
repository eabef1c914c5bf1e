#!/usr/bin/env bash
# A PBS on one machine for tests, as `qsub` and `qdel` (by the name of this file). It keeps its jobs in the directory that
# MOCK_PBS names, starts them with the environment that PBS gives them, in a session of their own, and ends them as PBS
# does: SIGTERM at the end of the wall time, and SIGKILL 10 s later. MOCK_TORQUE makes it number arrays as Torque does.
set -euo pipefail

fail() {
    printf '%s: %s\n' "${0##*/}" "$1" >&2
    exit 1
}

state() { cat "$MOCK_PBS/$1/state" 2>/dev/null || true; }

# What a job is told to end by: its whole session.
signal() { pkill "-$1" -s "$2" 2>/dev/null || true; }

stop() { # stop SESSION: as qdel and the end of the wall time do
    local deadline=$((SECONDS + 10))
    signal TERM "$1"
    while pgrep -s "$1" >/dev/null && [ $SECONDS -lt $deadline ]; do sleep 0.1; done
    signal KILL "$1"
}

# run JOB TASK: one task of a job, until it ends or is ended.
run() {
    local job=$1 task=$2 session deadline
    local -a variables
    IFS=, read -r -a variables <<<"$list"
    [ -z "$task" ] || variables+=("$([ -n "${MOCK_TORQUE:-}" ] && echo PBS_ARRAYID || echo PBS_ARRAY_INDEX)=$task")
    cd "$HOME"
    setsid env -i HOME="$HOME" PATH=/usr/bin:/bin TMPDIR="${TMPDIR:-/tmp}" PBS_ENVIRONMENT=PBS_BATCH \
        MOCK_PBS="$MOCK_PBS" MOCK_TORQUE="${MOCK_TORQUE:-}" \
        PBS_JOBID="${job/\[\]/[$task]}" PBS_O_WORKDIR="$submitted" "${variables[@]}" \
        "$shell" "$MOCK_PBS/$job/script" </dev/null >"$output/$job.$task" 2>&1 &
    session=$!
    printf '%s\n' $session >>"$MOCK_PBS/$job/sessions"
    deadline=$((SECONDS + seconds))
    while kill -0 $session 2>/dev/null; do
        if [ -e "$MOCK_PBS/$job/deleted" ] || [ $SECONDS -ge $deadline ]; then
            [ -e "$MOCK_PBS/$job/deleted" ] || printf '%s %s\n' "$job" "$task" >>"$MOCK_PBS/killed"
            stop $session
        fi
        sleep 0.1
    done
    wait $session || true
    # what a job has left behind is ended too
    signal KILL $session
}

# may_start WORDS: whether a dependency is fulfilled.
may_start() {
    local term word job
    local -a terms jobs
    IFS=, read -r -a terms <<<"$1"
    for term in "${terms[@]}"; do
        word=${term%%:*}
        IFS=: read -r -a jobs <<<"${term#*:}"
        for job in "${jobs[@]}"; do
            case $word:$(state "$job") in
                after:[RF] | afterany:F | afteranyarray:F) ;;
                *) return 1 ;;
            esac
        done
    done
}

live() { # live JOB: from its submission to its end
    local job=$1 task
    until [ -z "$dependency" ] || may_start "$dependency"; do
        if [ -e "$MOCK_PBS/$job/deleted" ]; then
            echo F >"$MOCK_PBS/$job/state"
            return
        fi
        sleep 0.1
    done
    echo R >"$MOCK_PBS/$job/state"
    if [ -n "$tasks" ]; then
        for ((task = 1; task <= tasks; task++)); do run "$job" $task & done
    else
        run "$job" '' &
    fi
    wait
    echo F >"$MOCK_PBS/$job/state"
}

if [ "${1:-}" = --live ]; then
    # shellcheck source=/dev/null # written below
    . "$MOCK_PBS/$2/variables"
    live "$2"
    exit
fi
if [ "${0##*/}" = qdel ]; then
    for job in "$@"; do
        case $(state "$job") in [QR]) ;; *) fail "Unknown or finished Job Id $job" ;; esac
        : >"$MOCK_PBS/$job/deleted"
    done
    exit
fi

list='' shell=/bin/false seconds='' tasks='' dependency='' output='' rerun=yes
submitted=$(pwd)
while [ $# -gt 1 ]; do
    case $1 in
        -N) [ ${#2} -le 15 ] || fail "illegal -N value" ;;
        -j) ;;
        -A | -q) ;;
        -S) shell=$2 ;;
        -o) output=$2 ;;
        -v) list=$2 ;;
        -r) rerun=$2 ;;
        -W) dependency=${2#depend=} ;;
        -J | -t)
            case $1:${MOCK_TORQUE:+torque} in -J: | -t:torque) ;; *) fail "invalid option $1" ;; esac
            tasks=${2#1-}
            tasks=${tasks%\%*}
            [ "$tasks" -gt 1 ] || fail "illegal $1 value"
            ;;
        -l)
            case $2 in
                walltime=*) IFS=: read -r hours minutes seconds <<<"${2#*=}" && seconds=$((10#$hours * 3600 + 10#$minutes * 60 + 10#$seconds)) ;;
                select=1:ncpus=* | nodes=1:ppn=* | mem=*) ;;
                *) fail "illegal -l value $2" ;;
            esac
            ;;
        *) fail "invalid option $1" ;;
    esac
    shift 2
done
[ -f "$1" ] || fail "script file $1 cannot be loaded"
[ -z "$tasks" ] || [ "$rerun" = yes ] || fail 'cannot submit non-rerunable Array Job'
for ((number = 1; ; number++)); do
    job=$number${tasks:+[]}.mock
    [ ! -e "$MOCK_PBS/$number.mock" ] && [ ! -e "$MOCK_PBS/${number}[].mock" ] && mkdir "$MOCK_PBS/$job" 2>/dev/null && break
done
cp "$1" "$MOCK_PBS/$job/script"
echo Q >"$MOCK_PBS/$job/state"
declare -p list shell seconds tasks dependency output submitted >"$MOCK_PBS/$job/variables"
# in a session of its own, since this may be called by a job, which is ended with its session
setsid "$0" --live "$job" </dev/null >>"$MOCK_PBS/output" 2>&1 &
printf '%s\n' "$job"
