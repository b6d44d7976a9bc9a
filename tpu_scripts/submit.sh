#!/usr/bin/env bash
# Submits an experiment: checks first, then asks for the TPUs; training starts by itself when they are there.
#   tpu_scripts/submit.sh experiments/tiny/strawberry.gin [--gin.Class.field=VALUE …]
source "$(dirname "$0")/common.sh"
tpu_scripts/check.sh "$@"
source tpu_scripts/topology.sh
target_create "$@"
[[ $DRY_RUN == 1 ]] || echo "submitted $NAME; next: tpu_scripts/status.sh, tpu_scripts/logs.sh" >&2
