# shellcheck shell=bash
# What the job scripts have in common; they begin with `. "$EDP_HPC_RUN/jobs.sh"`. deploy/hpc/submit copies it, and them,
# into the directory of the production, and has written the settings there.
# shellcheck disable=SC2154,SC2034 # their variables, and those for the scripts

set -euo pipefail
# shellcheck source=/dev/null
. "$EDP_HPC_RUN/settings"
cd "$directory"
export EDP_QUEUE__URL_FILE=$url_file
# Granules under way have this long to end when a job drains. Draining begins 20 s earlier.
export EDP_SERVE__GRACE=${EDP_SERVE__GRACE:-$((drain > 30 ? drain - 30 : drain / 2))}

# The time at which the scheduler will end this job, in seconds since 1970.
end=$(($(date +%s) + seconds))

root_options=()
for root in ${roots[@]+"${roots[@]}"}; do root_options+=(--root "$root"); done

# Waits for the broker that the coordinator starts.
await_broker() {
    local deadline=$((SECONDS + 300))
    until [ -s "$url_file" ]; do
        if [ $SECONDS -ge $deadline ]; then
            printf 'no broker: the coordinator has not written %s within 5 minutes; see its log in %s\n' "$url_file" "$run/log" >&2
            exit 4
        fi
        sleep 1
    done
}

# coordinate OPTION...: runs the coordinator, and around it a broker, if none is there already. The ledger is on the disk of
# this node, and its copy beside the granules, from where the next round takes it.
coordinate() {
    own=no stopped=no process=''
    scratch=$(mktemp -d "${TMPDIR:-/tmp}/edp.XXXXXX")
    [ "$url_file" != "$run/url" ] || own=yes
    # shellcheck disable=SC2317 # called by the trap
    finish() {
        [ "$own" = no ] || "$hpc/broker" stop --directory "$scratch/broker" || true
        rm -rf "$scratch"
    }
    trap finish EXIT
    # shellcheck disable=SC2317 # called by the trap
    drain_now() {
        stopped=yes
        [ -z "$process" ] || kill -TERM "$process" 2>/dev/null || true
    }
    trap drain_now TERM INT HUP
    if [ "$own" = yes ]; then
        "$hpc/broker" start --directory "$scratch/broker" --url-file "$url_file" --while $$ ${broker_host:+--host "$broker_host"} \
            ${broker_from:+--from "$broker_from"}
    fi
    [ "$stopped" = no ] || exit 143 # the job ends before the broker was there
    EDP_RUN__SNAPSHOT=${EDP_RUN__SNAPSHOT:-300} "$coordinator" run "$tasks" --queue --production "$production" \
        --ledger "$scratch/$production.ledger" "$@" &
    process=$!
    [ "$stopped" = no ] || drain_now
    # a signal ends `wait`, but not the program
    while
        status=0
        wait "$process" || status=$?
        kill -0 "$process" 2>/dev/null
    do :; done
    exit "$status"
}
