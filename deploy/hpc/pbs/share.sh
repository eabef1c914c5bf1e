#!/usr/bin/env bash
# PBS: one share of a task list, without a broker. PBS Pro and OpenPBS number the tasks of an array by PBS_ARRAY_INDEX, and
# Torque by PBS_ARRAYID; an array of one task is an ordinary job. A large list is made by several arrays.
# shellcheck source=/dev/null disable=SC2154,SC2119 # the settings of the production
. "$EDP_HPC_RUN/jobs.sh"
task=${PBS_ARRAY_INDEX:-${PBS_ARRAYID:-1}}
exec "$worker" make "$tasks" --part $((EDP_HPC_FIRST + task))/"$parts" --slots "$cpus" --until "$end"
