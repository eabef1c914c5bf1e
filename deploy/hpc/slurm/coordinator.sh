#!/usr/bin/env bash
# Slurm: the coordinator of a production, with its broker. Slurm tells the end of the job by SLURM_JOB_END_TIME.
# shellcheck source=/dev/null disable=SC2154,SC2119 # the settings of the production
. "$EDP_HPC_RUN/jobs.sh"
coordinate
