#!/usr/bin/env bash
# PBS: a worker of a production. PBS kills a job 10 s after its SIGTERM, so the worker is told the end of the job, and
# drains before it.
# shellcheck source=/dev/null disable=SC2154,SC2119 # the settings of the production
. "$EDP_HPC_RUN/jobs.sh"
await_broker
export EDP_QUEUE__PATIENCE=${EDP_QUEUE__PATIENCE:-120} # without a coordinator there is no broker
exec "$worker" serve --production "$production" --slots "$cpus" --exit-when-idle 10m --until "$end" "${root_options[@]}"
