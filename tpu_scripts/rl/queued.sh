# shellcheck shell=bash
# shellcheck disable=SC2153  # what common.sh and nodes.sh set
# Reinforcement learning on queued resources. Each machine joins the Ray cluster of $NAME-head when it boots, and again
# after a restart; Ray finds the TPUs itself and calls the first host of a v5p-8 TPU-v5p-8-head.
HEAD=$NAME-head
CPUS=(gcloud compute instances)

# Flags of both kinds of `create`, in FLAGS, for machines that play a role.
rl_flags() {
  local role=$1 boot unit="systemd-run --unit=cwm_jax --collect --setenv=HOME=/root -p KillMode=mixed -p TimeoutStopSec=120"
  boot="#!/bin/bash
set -e
${PREPARE:-true}
mkdir -p /opt/cwm_jax
cd /opt/cwm_jax
! systemctl is-active --quiet cwm_jax || exit 0
gcloud storage cat $(quoted "$CODE") | tar -xz
$unit bash /opt/cwm_jax/tpu_scripts/worker/ray.sh $(quoted "$role" "$HEAD" "${@:2}")"
  FLAGS=("--scopes=https://www.googleapis.com/auth/cloud-platform" "--metadata=^~~^startup-script=$boot")
}

rl_tpus() {
  local capacity=()
  [[ $CAPACITY == on-demand ]] || capacity=("--$CAPACITY")
  run "${TPUS[@]}" queued-resources create "$1" "${PLACE[@]}" "${@:2}" "--runtime-version=$TPU_RUNTIME" \
    "--type=$TPU_TYPE" "--topology=$TPU_SHAPE" "${capacity[@]}" "${FLAGS[@]}" "${CREATE_FLAGS[@]}"
}

rl_create() {
  local image=("--machine-type=$MACHINE" --image-family=debian-12 --image-project=debian-cloud)
  send_code
  rl_flags head
  run "${CPUS[@]}" create "$HEAD" "${PLACE[@]}" "${image[@]}" "${FLAGS[@]}"
  rl_flags environments
  run "${CPUS[@]}" bulk create "--name-pattern=$NAME-env-###" "--count=$ENVIRONMENTS" "${PLACE[@]}" "${image[@]}" "${FLAGS[@]}"
  TOPOLOGY=$SAMPLER_TOPOLOGY source tpu_scripts/topology.sh
  rl_flags sampler "$TPU_HOSTS"
  if ((SAMPLERS == 1)); then
    rl_tpus "$NAME-samplers" "--node-id=$NAME-sampler-0"
  else
    rl_tpus "$NAME-samplers" "--node-count=$SAMPLERS" "--node-prefix=$NAME-sampler"
  fi
  source tpu_scripts/topology.sh
  rl_flags learner "$TPU_HOSTS" --gin_file="$1" "${@:2}" --out "$OUT"
  rl_tpus "$NAME-learner" "--node-id=$NAME-learner"
}

rl_delete() {
  local name machines=("$HEAD")
  for ((name = 1; name <= ENVIRONMENTS; name++)); do machines+=("$(printf '%s-env-%03d' "$NAME" $name)"); done
  for name in learner samplers; do run "${TPUS[@]}" queued-resources delete "$NAME-$name" "${PLACE[@]}" --force --quiet; done
  run "${CPUS[@]}" delete "${machines[@]}" "${PLACE[@]}" --quiet
}
