#!/usr/bin/env bash
# Runs when a round has ended, however it ended.
# shellcheck source=/dev/null disable=SC2154,SC2119 # the settings of the production
. "$EDP_HPC_RUN/jobs.sh"
exec "$hpc/submit" --continue "$run"
