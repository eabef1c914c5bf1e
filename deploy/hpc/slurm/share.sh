#!/usr/bin/env bash
# Slurm: one share of a task list, without a broker. A large list is made by several arrays.
# shellcheck source=/dev/null disable=SC2154,SC2119 # the settings of the production
. "$EDP_HPC_RUN/jobs.sh"
exec "$worker" make "$tasks" --part $((EDP_HPC_FIRST + SLURM_ARRAY_TASK_ID))/"$parts" --slots "$cpus"
