#!/usr/bin/env bash
# Rehearses a pre-emption: SIGTERM to the training process of one worker of the first slice, then waits until it goes on.
#   tpu_scripts/drill.sh [WORKER, 0 unless given; on GKE any one]
source "$(dirname "$0")/common.sh"
[[ ${1:-0} =~ ^[0-9]+$ ]] || die "$1: write the number of a worker"
target_drill "${1:-0}" || die "$NAME did not go on; tpu_scripts/logs.sh tells more"
