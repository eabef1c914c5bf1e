#!/usr/bin/env bash
# Slurm: a worker of a production. It drains before the end of the job, which Slurm tells by SLURM_JOB_END_TIME, and on the
# SIGTERM that `--signal=B:TERM@...` sends to this process.
# shellcheck source=/dev/null disable=SC2154,SC2119 # the settings of the production
. "$EDP_HPC_RUN/jobs.sh"
await_broker
export EDP_QUEUE__PATIENCE=${EDP_QUEUE__PATIENCE:-120} # without a coordinator there is no broker
exec "$worker" serve --production "$production" --slots "$cpus" --exit-when-idle 10m "${root_options[@]}"
