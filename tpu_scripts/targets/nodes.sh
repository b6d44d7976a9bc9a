# shellcheck shell=bash
# What queued resources and a plain TPU VM have in common: TPU VMs that fetch the project when they boot, and train.
NODE=$NAME
((SLICES == 1)) || NODE=$NAME-0
CODE=${CODE:-${OUT%/}/code.tar.gz}
TPUS=(gcloud alpha compute tpus)
PLACE=("--project=$PROJECT" "--zone=$ZONE")
source tpu_scripts/targets/quota.sh

# Flags that both kinds of `create` take, in FLAGS. The script runs at each boot, so a VM that restarts goes on training.
create_flags() {
  local boot unit="systemd-run --unit=cwm_jax --collect --setenv=HOME=/root -p KillMode=mixed -p TimeoutStopSec=120"
  boot="#!/bin/bash
set -e
${PREPARE:-true}
mkdir -p /opt/cwm_jax
cd /opt/cwm_jax
! systemctl is-active --quiet cwm_jax || exit 0
gcloud storage cat $(quoted "$CODE") | tar -xz
$unit bash /opt/cwm_jax/tpu_scripts/worker/train.sh $(quoted --gin_file="$1" "${@:2}" --out "$OUT")"
  FLAGS=("--type=$TPU_TYPE" "--topology=$TPU_SHAPE" "--scopes=https://www.googleapis.com/auth/cloud-platform"
    "--metadata=^~~^startup-script=$boot")
  [[ $CAPACITY == on-demand ]] || FLAGS+=("--$CAPACITY")
  FLAGS+=("${CREATE_FLAGS[@]}")
}

send_code() {
  run mkdir -p runs/submit
  run git archive --format=tar.gz "--output=runs/submit/$NAME.tar.gz" HEAD
  run gcloud storage cp "runs/submit/$NAME.tar.gz" "$CODE"
}

on_worker() { run "${TPUS[@]}" tpu-vm ssh "$NODE" "${PLACE[@]}" "--worker=$1" "--command=$2"; }
restart_node() { on_worker all 'sudo google_metadata_script_runner startup'; }
target_drill() { on_worker "$1" 'sudo bash /opt/cwm_jax/tpu_scripts/worker/drill.sh'; }
target_logs() { on_worker "$1" 'tail -n 100 -F /opt/cwm_jax/train.log'; }
target_last_lines() { on_worker 0 'systemctl is-active cwm_jax; tail -n 3 /opt/cwm_jax/train.log'; }
