#!/usr/bin/env bash
# Shows where a run stands: its TPUs, then the last lines of training once that has begun.
#   tpu_scripts/status.sh
source "$(dirname "$0")/common.sh"
target_status || die "there is no $NAME in $ZONE of $PROJECT ($TARGET)"
target_last_lines || echo "no training to look into yet" >&2
