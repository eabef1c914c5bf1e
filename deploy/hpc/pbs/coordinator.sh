#!/usr/bin/env bash
# PBS: the coordinator of a production, with its broker. PBS does not tell the end of the job.
# shellcheck source=/dev/null disable=SC2154,SC2119 # the settings of the production
. "$EDP_HPC_RUN/jobs.sh"
coordinate --until "$end"
