# shellcheck shell=bash
# GKE by xpk: a workload of a cluster that `xpk cluster create` made. Kueue queues it, JobSet restarts it.
need CLUSTER
IMAGE=${IMAGE:-python:3.11}
LOCATION=${LOCATION:-${ZONE%-*}}
KUBECTL=(kubectl "--context=gke_${PROJECT}_${LOCATION}_$CLUSTER")
XPK=("--cluster=$CLUSTER" "--project=$PROJECT" "--zone=$ZONE")

target_check() {
  local vms=$((SLICES * ((TPU_CHIPS + 3) / 4))) type=$TPU_TYPE-$TPU_CORES has
  need_tool xpk "pip install xpk"
  need_tool kubectl "gcloud components install kubectl"
  run gcloud container clusters get-credentials "$CLUSTER" "--project=$PROJECT" "--location=$LOCATION" ||
    die "CLUSTER=$CLUSTER cannot be reached in $LOCATION: is that its name, and LOCATION its region (or zone)?"
  # xpk notes here how many VMs of each type the cluster has.
  has=$(run "${KUBECTL[@]}" get configmap "$CLUSTER-resources-configmap" '--output=jsonpath={.data}') ||
    die "CLUSTER=$CLUSTER was not made by xpk: xpk cluster create --cluster=$CLUSTER --tpu-type=$TPU_TYPE-$TPU_SHAPE"
  [[ $DRY_RUN == 0 && $has != *AUTOPROVISION* ]] || return 0
  [[ $has =~ \"$type\":\"([0-9]+)\" ]] || die "CLUSTER=$CLUSTER has no $type (that is $TOPOLOGY), but $has"
  ((BASH_REMATCH[1] >= vms)) ||
    die "CLUSTER=$CLUSTER has ${BASH_REMATCH[1]} VMs of $type, $SLICES of $TOPOLOGY need $vms: xpk cluster create again, larger"
}

target_create() {
  local code=runs/submit/$NAME
  run rm -rf "$code"
  run mkdir -p "$code"
  run git archive --format=tar "--output=$code.tar" HEAD
  run tar -xf "$code.tar" -C "$code"
  # xpk passes SIGTERM to what it started: exec makes that train.sh. 143, the status of an interrupted one, restarts all.
  run xpk workload create "--workload=$NAME" "${XPK[@]}" "--tpu-type=$TPU_TYPE-$TPU_SHAPE" "--num-slices=$SLICES" \
    "--base-docker-image=$IMAGE" "--script-dir=$code" --max-restarts=100 --termination-grace-period-seconds=120 \
    "${CREATE_FLAGS[@]}" \
    "--command=${PREPARE:+$PREPARE && }exec bash tpu_scripts/worker/train.sh $(quoted --gin_file="$1" "${@:2}" --out "$OUT")"
}

# One of running, over, absent; one that waits or restarts by itself is running.
target_state() {
  local ended
  ended=$(run "${KUBECTL[@]}" get jobset "$NAME" '--output=jsonpath=ended:{.status.terminalState}') || ended=none
  case $ended in
    none) echo absent ;;
    ended:) echo running ;;
    *) echo over ;;
  esac
}

target_status() { run xpk workload list "${XPK[@]}" "--filter-by-job=^$NAME\$"; }
target_last_lines() { run "${KUBECTL[@]}" logs --tail=3 "job/$NAME-slice-job-0"; }
target_logs() {
  local pod=jobset.sigs.k8s.io/jobset-name=$NAME,jobset.sigs.k8s.io/job-index=0
  run "${KUBECTL[@]}" logs --follow --tail=100 "--selector=$pod,batch.kubernetes.io/job-completion-index=$1"
}
target_drill() { run "${KUBECTL[@]}" exec "job/$NAME-slice-job-0" -- bash tpu_scripts/worker/drill.sh; }
target_restart() { echo "$NAME restarts by itself; tpu_scripts/status.sh shows what it does"; }
target_delete() { run xpk workload delete "--workload=$NAME" "${XPK[@]}" --force; }
