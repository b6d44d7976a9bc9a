#!/usr/bin/env bash
# Goes on after a pre-emption: the same arguments as submit.sh, the same OUT. May be called again at any time.
#   tpu_scripts/resume.sh experiments/tiny/strawberry.gin [--gin.Class.field=VALUE …]
source "$(dirname "$0")/common.sh"
tpu_scripts/check.sh "$@"
source tpu_scripts/topology.sh
state=$(target_state)
case $state in
  running) target_restart ;;
  waiting) echo "$NAME still waits for its TPUs; there is nothing to resume" >&2 ;;
  over)
    target_delete
    target_create "$@"
    ;;
  absent) target_create "$@" ;;
esac
