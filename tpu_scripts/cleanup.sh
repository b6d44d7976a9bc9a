#!/usr/bin/env bash
# Gives the TPUs back and removes what was sent; checkpoints and everything else in OUT stay.
#   tpu_scripts/cleanup.sh
source "$(dirname "$0")/common.sh"
target_delete || die "$NAME could not be deleted: is it there? tpu_scripts/status.sh shows it"
run rm -rf "runs/submit/$NAME" "runs/submit/$NAME.tar" "runs/submit/$NAME.tar.gz"
