#!/usr/bin/env bash
# Follows the log of one worker of the first slice (Ctrl-C stops following, not training).
#   tpu_scripts/logs.sh [WORKER, 0 unless given]
source "$(dirname "$0")/common.sh"
[[ ${1:-0} =~ ^[0-9]+$ ]] || die "$1: write the number of a worker"
target_logs "${1:-0}"
