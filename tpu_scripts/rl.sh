#!/usr/bin/env bash
# Submits reinforcement learning: a learner slice, slices of samplers, machines for environments, and one that holds
# them together. TARGET=queued: Ray places roles on TPU VMs; gke: a JobSet places pods, without Ray.
#   tpu_scripts/rl.sh experiments/F.gin [--dry-run] [--gin.Class.field=VALUE …]
#   tpu_scripts/rl.sh --delete [--dry-run]      gives everything back; OUT stays
words=()
for word; do
  if [[ $word == --dry-run ]]; then export DRY_RUN=1; else words+=("$word"); fi
done
set -- "${words[@]}"
source "$(dirname "$0")/common.sh"
SAMPLERS=${SAMPLERS:-1}
SAMPLER_TOPOLOGY=${SAMPLER_TOPOLOGY:-v5p:2x2x1}
ENVIRONMENTS=${ENVIRONMENTS:-1}
MACHINE=${MACHINE:-n2-standard-32}
for number in "$SAMPLERS" "$ENVIRONMENTS"; do
  [[ $number =~ ^[1-9][0-9]*$ ]] || die "$number: SAMPLERS and ENVIRONMENTS are numbers from 1 on"
done
((SLICES == 1)) || die "SLICES=$SLICES: the learner is one slice; SAMPLERS says how many draw"
[[ $OUT != gs://* ]] || die "OUT=$OUT: all machines work in it, and buckets keep no links: write the path of a disk that" \
  "PREPARE mounts on each of them, such as an NFS share, and CODE=gs://bucket/file.tar.gz"
[[ $TARGET != vm ]] || die "TARGET=vm: reinforcement learning takes several machines, use queued or gke"
(TOPOLOGY=$SAMPLER_TOPOLOGY source tpu_scripts/topology.sh)
# shellcheck source=/dev/null
source "tpu_scripts/rl/$TARGET.sh"
if [[ ${1:-} == --delete ]]; then
  rl_delete
  exit
fi
tpu_scripts/check.sh "$@"
rl_create "$@"
[[ $DRY_RUN == 1 ]] || echo "submitted $NAME; it is billed until $0 --delete" >&2
